"""Trials: each is the run that `recipes/train.py` would make, scored on validation clips alone, and kept nowhere."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_utils import SaveStrategy

from ..arguments import RunArguments, VivaeTrainingArguments
from ..disk import make_folder
from ..fitting import fit
from ..prepared import Prepared
from ..setups import Setup, make_trainer, set_up, training_clips
from ..splits import Fold
from ..trainer import VivaeTrainer
from .candidates import Candidates, refusal
from .space import Space

PARTS = ("train", "validation")  # no trainer of a search is given the test clips
# what values that flags take may still end in: an error of a configuration, of torch's layers, or of memory; a name
# that the library does not know, or a package that is not there
REFUSALS = (ValueError, TypeError, ArithmeticError, RuntimeError, LookupError, ImportError)
UNPRUNED = 0.25  # part of its training that no trial ends before, while the learning rate may still warm up
Report = Callable[[float, int, float], None]


@dataclass(frozen=True)
class Trials:
    """What all trials of a search share.

    Args:
        candidates: the run of given values.
        space: what they are chosen out of.
        prepared: the corpus.
        fold: its training clips train, its validation clips score.
        checkpoint: what the model starts from; None for random weights.
        folder: of the search; each trial has one of its own in `trials/`.
    """

    candidates: Candidates
    space: Space
    prepared: Prepared
    fold: Fold
    checkpoint: Path | None
    folder: Path

    @property
    def parts(self) -> dict[str, Sequence[int]]:
        """Row indices of the clips that train and of those that score."""
        return {part: getattr(self.fold, part) for part in PARTS}

    def scored_run(self, values: dict[str, Any]) -> tuple[RunArguments, VivaeTrainingArguments]:
        """The run of a trial; validation clips score it, where a recipe lets them train."""
        return self.candidates.with_values({**values, "select_on": "validation"})

    def set_up(self, run: RunArguments, args: VivaeTrainingArguments) -> Setup:
        """Model and features of a trial."""
        return set_up(run, args, self.prepared, self.parts, self.checkpoint)

    def check(self, source: Path) -> None:
        """Make model, features and training clips of each end and choice of the space, before any trial does.

        Raises:
            ValueError: naming the line and what is wrong with it.
        """
        base, _ = self.scored_run({})
        for key, dimension in self.space.items():
            for value in dimension.edges:
                run, args = self.scored_run({key: value})
                if run == base:  # what is not of the run is of the training, which flags have checked
                    continue
                try:
                    training_clips(run, args, self.prepared, self.parts["train"], self.set_up(run, args))
                except REFUSALS as error:
                    raise refusal(key, value, source, error) from error

    def trainer(self, trainer_class: type["SearchTrainer"]) -> "SearchTrainer":
        """The trainer that the library searches with, whose trials are these."""
        run, args = self.scored_run({})
        args = for_trial(args, self.folder)
        setup = self.set_up(run, args)
        more = {"model_init": lambda: self.set_up(run, args).model, "trials": self}
        return make_trainer(run, args, self.prepared, self.parts, setup, trainer_class, **more)

    def train(self, name: str, values: dict[str, Any], report: Report) -> float:
        """Train a trial; the score of the epoch that its run would keep: the best, or the last where none is selected.

        Args:
            name: of its folder, which keeps its history.
            values: by the keys of the search space.
            report: is told that score, the number of scorings, and how much of the training is done, from 0 to 1,
                after each scoring; may raise to end the trial.

        Raises:
            REFUSALS: for values that do not go together.
        """
        run, args = self.scored_run(values)
        folder = self.folder / "trials" / name
        make_folder(folder)
        args = for_trial(args, folder)
        trainer = make_trainer(run, args, self.prepared, self.parts, self.set_up(run, args))
        kept = KeptScore(args, self.candidates.args.load_best_model_at_end, report)
        trainer.add_callback(kept)
        fit(trainer, folder)
        if not kept.scorings:  # a solver has no epochs, and --eval_strategy no scores none
            trainer.evaluate()
        return kept.score


def for_trial(args: VivaeTrainingArguments, folder: Path) -> VivaeTrainingArguments:
    """Arguments of a training that keeps no weights; changed in place."""
    args.output_dir = str(folder)
    args.save_strategy, args.load_best_model_at_end = SaveStrategy.NO, False
    return args


class KeptScore(TrainerCallback):
    """Follows the score of a trial by its `metric_for_best_model`; what is not a number is worse than any.

    Args:
        args: of the trial.
        best: whether the best epoch is kept, rather than the last.
        report: see `Trials.train`.
    """

    def __init__(self, args: VivaeTrainingArguments, best: bool, report: Report) -> None:
        self._key = f"eval_{args.metric_for_best_model.removeprefix('eval_')}"
        better = max if args.greater_is_better else min
        self._choose = better if best else lambda _, last: last
        self._report = report
        self._worst = self.score = -math.inf if args.greater_is_better else math.inf
        self.scorings = 0

    def on_evaluate(self, args, state, control, metrics, **kwargs) -> None:
        """Tell the engine, by the number of scorings: epochs, not steps, are alike for batches of different size."""
        found = metrics[self._key]
        self.score = self._choose(self.score, found if math.isfinite(found) else self._worst)
        self.scorings += 1
        self._report(self.score, self.scorings, state.global_step / state.max_steps if state.max_steps else 1.0)


class SearchTrainer(VivaeTrainer):
    """A trainer to search with: what it trains for a trial is a run of its own, with its own trainer.

    The library would write a trial's values into the arguments of this one, where they would miss all that was made
    from the old ones: configuration, features, collator, and whatever the arguments derive from one another.

    Args:
        args: those of `VivaeTrainer`.
        trials: the runs.
        kwargs: those of `VivaeTrainer`.
    """

    def __init__(self, *args, trials: Trials, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.trials = trials
        self.model = self.model_wrapped = None  # each trial has its own, and needs the memory
