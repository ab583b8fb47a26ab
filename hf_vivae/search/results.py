"""What a search leaves: its trials as a table, the best of them, and the recipe that repeats it."""

import math
from collections import Counter
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from .. import runs
from ..arguments import RunArguments, VivaeTrainingArguments
from ..corpus_arguments import CorpusArguments
from ..models import short_name, split_name
from ..runs import VOLATILE

STATES = ("complete", "pruned", "failed", "running")
# what the command line says, and not a recipe
NOT_OF_A_RECIPE = {
    *(f.name for f in fields(CorpusArguments)), *VOLATILE, "model", "recipe", "as_coded", "task", "protocol",
    "num_groups", "seed", "greater_is_better",
}  # fmt: skip


@dataclass(frozen=True)
class TrialRow:
    """A trial.

    Args:
        name: its number, or what Ray calls it.
        state: one of `STATES`.
        score: best over its epochs; None unless it is complete.
        values: by the keys of the search space.
        scorings: how often it was scored, which is once an epoch.
        seconds: that it took; None where that is not known.
    """

    name: str
    state: str
    score: float | None
    values: dict[str, Any]
    scorings: int
    seconds: float | None


@dataclass(frozen=True)
class Outcome:
    """All trials of a search in their order, and the importance of each hyperparameter, which some have none of."""

    trials: list[TrialRow]
    importance: dict[str, float] | None

    @property
    def states(self) -> dict[str, int]:
        """How many trials are in each state."""
        counted = Counter(trial.state for trial in self.trials)
        return {state: counted[state] for state in STATES if counted[state]}

    def best(self, greater_is_better: bool) -> TrialRow:
        """The complete trial with the best score, the first of several.

        Raises:
            ValueError: where none has a score.
        """
        scored = [trial for trial in self.trials if trial.score is not None and math.isfinite(trial.score)]
        if not scored:
            raise ValueError(
                f"expected a complete trial with a score, found none of {len(self.trials)}; "
                "narrow the search space, or add --trials."
            )
        return (max if greater_is_better else min)(scored, key=lambda trial: trial.score)


def write_trials(file: Path, outcome: Outcome) -> None:
    """Write `trials.csv`, a line for each trial."""
    import pandas as pd

    rows = [{**{k: v for k, v in asdict(trial).items() if k != "values"}, **trial.values} for trial in outcome.trials]
    runs.write_text(file, pd.DataFrame(rows).to_csv(index=False))


def write_recipe(
    folder: Path, run: RunArguments, args: VivaeTrainingArguments, searched: dict[str, str], head: str
) -> Path:
    """Write the settings of a run that differ from the defaults as a recipe; its path.

    It has the name that a recipe of the model has: its own, or that of its kind, such as `probe`.

    Args:
        folder: where it goes.
        run: what was trained on what; where clips come from, and how they are split, is not of a recipe.
        args: how to train.
        searched: what each key of the search space was chosen out of.
        head: first lines, without the marks of a comment.
    """
    plain = VivaeTrainingArguments(output_dir=str(folder))
    pairs = ((asdict(run), asdict(RunArguments(model=run.model))), (args.to_dict(), plain.to_dict()))
    derived = {"eval_strategy", "load_best_model_at_end"} if run.select_on == "none" else set()
    named = {key.split(".")[0] for key in searched}
    lines = [f"# {line}" for line in head.splitlines()]
    for mine, default in pairs:
        for key, value in mine.items():
            if key in named or (key not in NOT_OF_A_RECIPE | derived and value != default[key]):
                lines += _lines(key, value, searched)
    path = folder / f"{split_name(run.model)[0].removesuffix(':') or short_name(run.model)}.yaml"
    runs.write_text(path, "\n".join(lines) + "\n")
    return path


def _lines(key: str, value: Any, searched: dict[str, str]) -> list[str]:
    if not (isinstance(value, dict) and any(name.startswith(f"{key}.") for name in searched)):
        return [_line(key, value, searched.get(key))]
    inner = [f"  {_line(name, field, searched.get(f'{key}.{name}'))}" for name, field in value.items()]
    return [f"{key}:", *inner]


def _line(key: str, value: Any, chosen_from: str | None) -> str:
    text = (
        yaml.safe_dump(value, default_flow_style=True, width=math.inf, sort_keys=False).removesuffix("...\n").strip()
    )
    return f"{key}: {text}" + (f" # searched: {chosen_from}" if chosen_from else "")
