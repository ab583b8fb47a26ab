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

# settings that make scores comparable, and from which all trials start
SHARED = (
    *(f.name for f in fields(CorpusArguments)), *(f.name for f in fields(ReproductionArguments)),
    "model", "recipe", "task", "protocol", "duplicates", "num_groups", "train_speakers", "speaker_draw", "folds",
    "seed", "data_seed", "metric_for_best_model", "greater_is_better", "load_best_model_at_end", "eval_dropout",
    "eval_strategy", "eval_steps", "eval_delay", "model_name_or_path", "from_scratch", "trust_remote_code",
)  # fmt: skip
LONGEST_REASON = 400  # characters of an error of other libraries, some of which list all their names
# errors of values that arguments take: of a configuration, of torch's layers, or of memory; of a name that the library
# does not know, or of a missing package
REFUSALS = (ValueError, TypeError, ArithmeticError, RuntimeError, LookupError, ImportError)
UNPRUNED = 0.25  # part of the training before which no trial is pruned, since the learning rate may still warm up
Report = Callable[[float, int, float], None]


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
            values: values by the keys of a search space: an argument's name, or `<argument>.<field>` of a dictionary.

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
        """Check that a run takes the ends and choices of a space.

        Raises:
            UserError: with the line and the error of the run.
        """
        names = [f.name for owner in (self.run, self.args) for f in fields(owner) if f.init]
        for key, dimension in space.items():
            name, _, field = key.partition(".")
            if name not in names:
                near = did_you_mean(name, names)
                raise UserError(f"{source} has an unknown key {key!r}{near}; correct or remove it.")
            if name in SHARED or name in VOLATILE:
                raise UserError(f"{source} has the key {key!r}, which all trials have in common; give it as a flag.")
            if field and not isinstance(self._own(name) or {}, dict):
                raise UserError(f"{source} has the key {key!r}, but {name} has no fields; remove the dot.")
            if field and name in space:
                raise UserError(f"{source} has both {name!r} and {key!r}, which is a part of it; remove one of them.")
            for value in dimension.edges:
                try:
                    self.with_values({key: value})
                except ValueError as error:
                    raise refusal(key, value, source, error) from error


def refusal(key: str, value: Any, source: Path, error: Exception) -> UserError:
    """Return the error of a value that a run refuses, with its key in the search space."""
    message = reason(error) if isinstance(error, ValueError) else named(error)
    return UserError(f"{source} lets {key} be {value!r}, which is refused: {message}")


def named(error: Exception) -> str:
    """Return kind and message of an error: the message of a `KeyError` is only a key."""
    return f"{type(error).__name__}: {reason(error)}"


def reason(error: Exception) -> str:
    """Return the message of an error in one line, shortened."""
    return textwrap.shorten(str(error), LONGEST_REASON, placeholder=" ...")


@dataclass(frozen=True)
class Trials:
    """Settings and data that all trials of a search share.

    Args:
        template: settings before the values of a trial.
        space: range or choices of each hyperparameter.
        prepared: the corpus.
        fold: fold whose training clips train and whose validation clips score.
        checkpoint: initial weights of the model; None for random ones.
        folder: folder of the search; each trial has its own in `trials/`.
    """

    template: RunTemplate
    space: Space
    prepared: TrainingData
    fold: Fold
    checkpoint: Path | None
    folder: Path

    @property
    def parts(self) -> dict[str, Sequence[int]]:
        """Return the row indices of the clips that train and of those that score; no trial has the test clips."""
        return {"train": self.fold.train, "validation": self.fold.validation}

    def scored_run(self, values: dict[str, Any]) -> tuple[RunArguments, VivaeTrainingArguments]:
        """Return the arguments of a trial; validation clips score it, even where they train in the recipe."""
        return self.template.with_values({**values, "select_on": "validation"})

    def build_fold_inputs(self, run: RunArguments, args: VivaeTrainingArguments) -> FoldInputs:
        """Return model and features of a trial."""
        return build_fold_inputs(run, args, self.prepared, self.parts, self.checkpoint)

    def check(self, source: Path) -> None:
        """Build model, features and training clips of each end and choice of the space, before any trial.

        Raises:
            UserError: with the line and its error.
        """
        base, _ = self.scored_run({})
        for key, dimension in self.space.items():
            for value in dimension.edges:
                run, args = self.scored_run({key: value})
                if run == base:  # a setting of the training, which the arguments have checked
                    continue
                try:
                    training_clips(run, args, self.prepared, self.parts["train"], self.build_fold_inputs(run, args))
                except REFUSALS as error:
                    raise refusal(key, value, source, error) from error

    def trainer(self, trainer_class: type["SearchTrainer"]) -> "SearchTrainer":
        """Return the trainer that the library searches with."""
        run, args = self.scored_run({})
        args = for_trial(args, self.folder)
        setup = self.build_fold_inputs(run, args)
        more = {"model_init": lambda: self.build_fold_inputs(run, args).model, "trials": self}
        return build_trainer(run, args, self.prepared, self.parts, setup, trainer_class, **more)

    def train(self, name: str, values: dict[str, Any], report: Report) -> float:
        """Train a trial, and return the score of the epoch that its run would keep: the best, or the last.

        Args:
            name: name of the trial's folder, which contains its history.
            values: values by the keys of the search space.
            report: called after each evaluation with that score, the number of evaluations, and the part of the
                training that is done, from 0 to 1; may raise to end the trial.

        Raises:
            REFUSALS: for values that do not fit together.
        """
        run, args = self.scored_run(values)
        folder = self.folder / "trials" / name
        make_folder(folder)
        args = for_trial(args, folder)
        trainer = build_trainer(run, args, self.prepared, self.parts, self.build_fold_inputs(run, args))
        kept = KeptScore(args, self.template.args.load_best_model_at_end, report)
        trainer.add_callback(kept)
        fit_model(trainer, folder)
        if not kept.scorings:  # a solver has no epochs, and --eval_strategy no evaluates none
            trainer.evaluate()
        return kept.score


def for_trial(args: VivaeTrainingArguments, folder: Path) -> VivaeTrainingArguments:
    """Change the arguments, in place, to a training that keeps no weights, and return them."""
    args.output_dir = str(folder)
    args.save_strategy, args.load_best_model_at_end = SaveStrategy.NO, False
    return args


class KeptScore(TrainerCallback):
    """Callback that keeps the score of a trial by its `metric_for_best_model`; NaN is worse than any number.

    Args:
        args: training arguments of the trial.
        best: keep the score of the best epoch, instead of the last.
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
        """Report the score by the number of evaluations, since steps depend on the batch size."""
        score = metrics[self._key]
        self.score = self._choose(self.score, score if math.isfinite(score) else self._worst)
        self.scorings += 1
        self._report(self.score, self.scorings, state.global_step / state.max_steps if state.max_steps else 1.0)


class SearchTrainer(VivaeTrainer):
    """Trainer for the library's search, which trains each trial as a run with a trainer of its own.

    The library would write a trial's values into the arguments of this trainer, without an effect on what was built
    from the old ones: configuration, features, collator, and arguments that depend on one another.

    Args:
        args: positional arguments of `VivaeTrainer`.
        trials: settings and data of the trials.
        kwargs: keyword arguments of `VivaeTrainer`.
    """

    def __init__(self, *args, trials: Trials, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.trials = trials
        self.model = self.model_wrapped = None  # each trial has its own and needs the memory
