"""Results of a search: table, figures, and the best recipe."""

import json
import math
import os
import shlex
from collections import Counter
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from ..corpus.arguments import CorpusArguments
from ..files import write_json, write_text
from ..models import short_name
from ..models.backbones import recipe_stems
from ..network import bare_address
from ..reporting.tables import SCORE_NAMES
from ..run_folder import UNSELECTED, VOLATILE
from ..training.arguments import RunArguments, VivaeTrainingArguments
from ..training.build import identity
from ..validation import UserError
from .figures import history_figure, importance_figure, values_figure
from .trials import Trials

STATES = ("complete", "pruned", "failed", "running")
FOUND = "found"  # name of the recipe in the command
# clips and split, which belong to the command line and not to a recipe
ALWAYS_GIVEN = ("data", "protocol")
GIVEN_IF_CHANGED = (
    *(f.name for f in fields(CorpusArguments)), "task", "duplicates", "num_groups", "train_speakers",
    "speaker_draw", "seed", "trust_remote_code",
)  # fmt: skip
NOT_OF_A_RECIPE = {*ALWAYS_GIVEN, *GIVEN_IF_CHANGED, *VOLATILE, "model", "recipe", "as_coded", "greater_is_better"}


@dataclass(frozen=True)
class TrialRow:
    """Result of a trial.

    Args:
        name: number of the trial, or its name in Ray.
        state: one of `STATES`.
        score: score of the epoch that its run would keep; None unless the trial is complete.
        values: values by the keys of the search space.
        scorings: number of evaluations, one for each epoch.
        seconds: duration; None where it is unknown.
        error: reason of a failure; None where there is none, or it is unknown.
    """

    name: str
    state: str
    score: float | None
    values: dict[str, Any]
    scorings: int
    seconds: float | None
    error: str | None = None


@dataclass(frozen=True)
class SearchResult:
    """All trials of a search in their order, and the importance of each hyperparameter; None with too few trials."""

    trials: list[TrialRow]
    importance: dict[str, float] | None

    @property
    def states(self) -> dict[str, int]:
        """Return the number of trials in each state."""
        counts = Counter(trial.state for trial in self.trials)
        return {state: counts[state] for state in STATES if counts[state]}

    @property
    def scored(self) -> list[TrialRow]:
        """Return the complete trials whose score is a number."""
        return [trial for trial in self.trials if trial.score is not None and math.isfinite(trial.score)]

    @property
    def errors(self) -> list[str]:
        """Return the errors of failed trials, each with the name of the trial."""
        return [f"trial {trial.name}: {trial.error}" for trial in self.trials if trial.error]

    def best(self, greater_is_better: bool) -> TrialRow:
        """Return the complete trial with the best score, the first of several.

        Raises:
            UserError: where none has a score.
        """
        if not self.scored:
            reason = f" ({self.errors[0]})" if self.errors else ""
            raise UserError(
                f"expected a complete trial with a score, found none of {len(self.trials)}{reason}; "
                "change the search space, or add --trials."
            )
        return (max if greater_is_better else min)(self.scored, key=lambda trial: trial.score)


@dataclass(frozen=True)
class SearchReport:
    """Files of the results of a search.

    Args:
        folder: folder of `results.json`, `trials.csv`, figures and the recipe.
        best: best trial.
        recipe: file of its settings.
        text: the results in lines for a terminal.
    """

    folder: Path
    best: TrialRow
    recipe: Path
    text: str


def write_report(trials: Trials, backend: str, outcome: SearchResult) -> SearchReport:
    """Write the results of a search into its folder.

    Raises:
        UserError: where no trial has a score.
    """
    import pandas as pd

    template, folder, folds = trials.template, trials.folder, trials.prepared.folds
    run, args = template.run, template.args
    best = outcome.best(args.greater_is_better)
    metric = args.metric_for_best_model.removeprefix("eval_")
    score = f"validation {SCORE_NAMES.get(metric, metric)}"
    of_fold = f", fold {trials.fold.name}" if len(folds) > 1 else ""
    clips = f"{trials.prepared.corpus.title}, task {run.task}, protocol {run.protocol}{of_fold}, seed {args.seed}"
    states = ", ".join(f"{number} {state}" for state, number in outcome.states.items())
    counts = f"{len(outcome.trials)} trials ({states})"
    rows = [{**{k: v for k, v in asdict(trial).items() if k != "values"}, **trial.values} for trial in outcome.trials]
    write_text(folder / "trials.csv", pd.DataFrame(rows).to_csv(index=False))
    _draw(trials, outcome, f"{short_name(run.model)}, recipe {run.recipe}\n{clips}", score)
    searched = {key: str(dimension) for key, dimension in trials.space.items()}
    fold = folds.index(trials.fold) if len(folds) > 1 else None
    best_run = BestRun(*template.with_values(best.values), searched, fold)
    recipe = best_run.write_recipe(
        folder,
        f"Found by recipes/search.py from recipe {run.recipe} in {counts} on\n"
        f"{clips}: trial {best.name}, {score} {best.score:.4f}.\n"
        "The best of many validation scores is higher than the score on other clips will be.",
    )
    content = {
        **identity(run, args, trials.prepared),
        "fold": trials.fold.name,
        "score": score,
        "backend": backend,
        "space": {key: asdict(dimension) for key, dimension in trials.space.items()},
        "trials": outcome.states,
        "best": {"trial": best.name, "score": best.score, "values": best.values},
        "importance": outcome.importance,
    }
    write_json(folder / "results.json", content)
    values = "\n            ".join(f"{key}: {value}" for key, value in best.values.items())
    failed = "".join(f"failed      {error}\n" for error in outcome.errors)
    text = f"""\
searched    {counts} on {clips}
{failed}best        trial {best.name}, {score} {best.score:.4f}
            {values}
results     {folder / "results.json"}
recipe      {recipe}

Use it:
{best_run.command(recipe, template.recipes)}"""
    return SearchReport(folder, best, recipe, text)


def _draw(trials: Trials, outcome: SearchResult, title: str, score: str) -> None:
    rows, greater = outcome.trials, trials.template.args.greater_is_better
    figures = {
        "history": history_figure([row.score for row in rows], [row.state for row in rows], title, score, greater)
    }
    points = [(row.values, row.score) for row in outcome.scored]
    space = {key: asdict(dimension) for key, dimension in trials.space.items()}
    figures["values"] = values_figure(points, space, title, score, greater)
    if outcome.importance is not None:
        figures["importance"] = importance_figure(outcome.importance, title)
    for name, figure in figures.items():
        figure.savefig(trials.folder / f"{name}.png")


@dataclass(frozen=True)
class BestRun:
    """Run of the best trial.

    Args:
        run: arguments of the run.
        args: arguments of its training.
        searched: range or choices of each key of the search space.
        fold: number of the searched fold, the only one whose test clips no trial has used; None where the protocol
            has no other.
    """

    run: RunArguments
    args: VivaeTrainingArguments
    searched: dict[str, str]
    fold: int | None

    def recipe(self) -> dict[str, Any]:
        """Return the searched settings, and all others of a recipe that differ from the defaults."""
        searched = {key.split(".")[0] for key in self.searched}
        left_out = NOT_OF_A_RECIPE | (UNSELECTED.keys() if self.run.select_on == "none" else set())
        return {name: self._settings[name] for name in self._settings if name in searched | (self._changed - left_out)}

    @cached_property
    def _settings(self) -> dict[str, Any]:
        return {**asdict(self.run), **self.args.to_dict()}

    @cached_property
    def _changed(self) -> set[str]:
        run, args = RunArguments(model=self.run.model), VivaeTrainingArguments(output_dir=self.args.output_dir)
        default = {**asdict(run), **args.to_dict()}
        return {name for name, value in self._settings.items() if value != default[name]}

    def write_recipe(self, folder: Path, head: str) -> Path:
        """Write the recipe, and return its path.

        The file has the name of a recipe of the model: the model's, or that of its kind, such as `probe`.

        Args:
            folder: folder to write to.
            head: first lines of the file, without the "#" of comments.
        """
        lines = [f"# {line}" for line in head.splitlines()]
        for key, value in self.recipe().items():
            if isinstance(value, dict) and any(name.startswith(f"{key}.") for name in self.searched):
                lines.append(f"{key}:")
                lines += [f"  {_line(name, own, self.searched.get(f'{key}.{name}'))}" for name, own in value.items()]
            else:
                lines.append(_line(key, value, self.searched.get(key)))
        path = folder / f"{recipe_stems(self.run.model)[0]}.yaml"
        write_text(path, "\n".join(lines) + "\n")
        return path

    def command(self, recipe: Path, recipes: Path) -> str:
        """Return shell commands that train the run on the clips and the fold of the search.

        Args:
            recipe: file of `write_recipe`; it is copied into a folder of `recipes`, where the model can have one.
            recipes: folder of the recipes.
        """
        names = {*ALWAYS_GIVEN, *(self._changed & {*GIVEN_IF_CHANGED})}
        settings = {name: value for name, value in self._settings.items() if name in names}
        settings |= {} if self.fold is None else {"folds": [self.fold]}
        settings |= {"data_url": bare_address(self.run.data_url)} if self.run.data_url else {}
        script = os.path.relpath(recipes / "train.py")
        if self.run.recipe == "none":
            train = _flags({"model": self.run.model, **settings, **self.recipe()})
            return shlex.join(["python", script, *train])
        own = os.path.relpath(recipes / FOUND)
        train = _flags({"model": self.run.model, "recipe": FOUND, **settings})
        lines = (["mkdir", "-p", own], ["cp", str(recipe), own], ["python", script, *train])
        return "\n".join(map(shlex.join, lines))


def _flags(values: dict[str, Any]) -> list[str]:
    """Return settings as a command line; None and empty lists, which it cannot contain, are left out."""
    flags = []
    for key, value in values.items():
        if isinstance(value, list):
            flags += [f"--{key}", *map(str, value)] if value else []
        elif value is not None:
            flags.append(f"--{key}={value if isinstance(value, str) else json.dumps(value)}")
    return flags


def _line(key: str, value: Any, searched: str | None) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=math.inf, sort_keys=False)
    text = text.removesuffix("...\n").strip()
    return f"{key}: {text}" + (f" # searched: {searched}" if searched else "")
