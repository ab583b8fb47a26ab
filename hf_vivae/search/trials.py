"""Trials of a search: a training run for each set of hyperparameters."""

import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_utils import SaveStrategy

from ..corpus.arguments import CorpusArguments
from ..files import make_folder
from ..run_folder import VOLATILE
from ..splits.folds import Fold
from ..training.arguments import ReproductionArguments, RunArguments, VivaeTrainingArguments
from ..training.build import FoldInputs, TrainingData, build_fold_inputs, build_trainer, training_clips
from ..training.fit import fit_model
from ..training.recipes import parse_run
from ..training.trainer import VivaeTrainer
from ..validation import UserError, did_you_mean
from .space import Space

# what makes scores comparable, and what all trials start from
SHARED = (
    *(f.name for f in fields(CorpusArguments)), *(f.name for f in fields(ReproductionArguments)),
    "model", "recipe", "task", "protocol", "duplicates", "num_groups", "folds", "seed", "data_seed",
    "metric_for_best_model", "greater_is_better", "load_best_model_at_end", "eval_dropout", "eval_strategy",
    "eval_steps", "eval_delay", "model_name_or_path", "from_scratch", "trust_remote_code",
)  # fmt: skip
LONGEST_REASON = 400  # letters of an error of other libraries, some of which list all that they know


@dataclass(frozen=True)
class RunTemplate:
    """Settings of a search before the values of a trial.

    Args:
        argv: flags of `recipes/train.py` that all trials share.
        recipes: folder of the recipes.
        overrides: arguments that win over the flags.
        run: arguments of the run.
        args: arguments of its training.
    """

    argv: list[str]
    recipes: Path
    overrides: dict[str, Any]
    run: RunArguments
    args: VivaeTrainingArguments

    def with_values(self, values: dict[str, Any]) -> tuple[RunArguments, VivaeTrainingArguments]:
        """Return the arguments of the run with these values instead of its own.

        Args:
            values: by the keys of a search space: the name of an argument, or `<argument>.<field>` of a dictionary.

        Raises:
            UserError: see `parse_run`.
        """
        settings: dict[str, Any] = dict(self.overrides)
        for key, value in values.items():
            name, _, field = key.partition(".")
            settings[name] = {**(settings.get(name, self._own(name)) or {}), field: value} if field else value
        return parse_run(self.argv, self.recipes, settings)

    def _own(self, name: str) -> Any:
        return getattr(self.run if hasattr(self.run, name) else self.args, name)

    def check(self, space: Space, source: Path) -> None:
        """Refuse a space whose ends or choices the flags refuse.

        Raises:
            ValueError: naming the line and, in the flag's own words, what is wrong with it.
        """
        for key, dimension in space.items():
            self._check_key(key, space, source)
            for value in dimension.edges:
                try:
                    self.with_values({key: value})
                except ValueError as error:
                    raise refusal(key, value, source, error) from error

    def _check_key(self, key: str, space: Space, source: Path) -> None:
        name, _, field = key.partition(".")
        known = [f.name for owner in (self.run, self.args) for f in fields(owner) if f.init]
        if name not in known:
            raise UserError(f"{source} has an unknown key {key!r}{did_you_mean(name, known)}; correct or remove it.")
        if name in SHARED or name in VOLATILE:
            raise UserError(f"{source} has the key {key!r}, which all trials have in common; give it as a flag.")
        if field and not isinstance(self._own(name) or {}, dict):
            raise UserError(f"{source} has the key {key!r}, but {name} has no fields; remove the dot.")
        if field and name in space:
            raise UserError(f"{source} has both {name!r} and {key!r}, which is a part of it; remove one of them.")


def refusal(key: str, value: Any, source: Path, error: Exception) -> UserError:
    """The error of a value that a run refuses, as that of the line in the search space which it is from."""
    said = reason(error) if isinstance(error, ValueError) else named(error)
    return UserError(f"{source} lets {key} be {value!r}, which is refused: {said}")


def named(error: Exception) -> str:
    """What an error says, and of which kind it is: a `KeyError` says no more than a key."""
    return f"{type(error).__name__}: {reason(error)}"


def reason(error: Exception) -> str:
    """What an error says, in one line of bearable length."""
    return textwrap.shorten(str(error), LONGEST_REASON, placeholder=" ...")


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

    candidates: RunTemplate
    space: Space
    prepared: TrainingData
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

    def build_fold_inputs(self, run: RunArguments, args: VivaeTrainingArguments) -> FoldInputs:
        """Model and features of a trial."""
        return build_fold_inputs(run, args, self.prepared, self.parts, self.checkpoint)

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
                    training_clips(run, args, self.prepared, self.parts["train"], self.build_fold_inputs(run, args))
                except REFUSALS as error:
                    raise refusal(key, value, source, error) from error

    def trainer(self, trainer_class: type["SearchTrainer"]) -> "SearchTrainer":
        """The trainer that the library searches with, whose trials are these."""
        run, args = self.scored_run({})
        args = for_trial(args, self.folder)
        setup = self.build_fold_inputs(run, args)
        more = {"model_init": lambda: self.build_fold_inputs(run, args).model, "trials": self}
        return build_trainer(run, args, self.prepared, self.parts, setup, trainer_class, **more)

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
        trainer = build_trainer(run, args, self.prepared, self.parts, self.build_fold_inputs(run, args))
        kept = KeptScore(args, self.candidates.args.load_best_model_at_end, report)
        trainer.add_callback(kept)
        fit_model(trainer, folder)
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
