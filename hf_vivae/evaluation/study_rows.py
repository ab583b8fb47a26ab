"""What the tables of a study share: rows by column, intervals, means over seeds, and marks of the report's habits."""

from collections.abc import Mapping, Sequence
from itertools import groupby

from ..models import MODELS
from .collection import VARIANTS, StudyRun
from .report2022 import EMOTIONS, NO_RUN, RUNS, ReportedRun
from .statistics import mean_and_sd, wilson_interval
from .tables import Cell, Table

Row = dict[str, Cell]
FROM, TO = "95 % from", "95 % to"
EMPTY = (
    '"-": no such figure. The report has no vit-32-69; logistic regression has neither epochs nor batches, nor losses '
    "in the report; seeds are averaged where a mean says something, and their spread is given for our figures."
)


def make_table(name: str, caption: str, columns: Mapping[str, str | None], rows: Sequence[Row]) -> Table:
    """A table from rows by column; a column that a row has not is empty.

    Args:
        name: see `Table`.
        caption: see `Table`.
        columns: headings with their format specifications, as in `Table`.
        rows: cells by heading.
    """
    cells = tuple(tuple(row.get(column) for column in columns) for row in rows)
    return Table(name, caption, tuple(columns), cells, tuple(columns.values()))


def order(run: StudyRun) -> tuple[int, int]:
    """Sorts runs of variants as the report has its rows: by model, then variant."""
    return list(MODELS).index(run.model), VARIANTS.index(run.group)


def reported_run(run: StudyRun) -> ReportedRun:
    """The report's figures for the model of a run; none where the run tells other labels apart."""
    return RUNS.get(run.model, NO_RUN) if list(run.results["labels"]) == list(EMOTIONS) else NO_RUN


def difference(ours: float | None, other: float | None) -> float | None:
    """The first minus the second; None where one is missing."""
    return None if ours is None or other is None else ours - other


def interval(accuracy: float | None, clips: int) -> Row:
    """The 95 % interval of an accuracy over so many clips."""
    low, high = (None, None) if accuracy is None else wilson_interval(round(accuracy * clips), clips)
    return {FROM: low, TO: high}


def with_seeds(
    rows: Sequence[Row], alike: Sequence[str], averaged: Sequence[str], carried: Sequence[str]
) -> list[Row]:
    """The rows, and below those that differ by their seed only two more: mean and standard deviation.

    Args:
        rows: sorted, so that rows of one kind are neighbours; they have a column "seed".
        alike: columns that tell the kind.
        averaged: columns with mean and standard deviation; empty where a seed has no figure.
        carried: columns with a mean only.
    """
    found = []
    for kind, group in groupby(rows, key=lambda row: {column: row[column] for column in alike}):
        seeds = list(group)
        found += seeds
        if len(seeds) > 1:
            spread = {column: _spread([row.get(column) for row in seeds]) for column in (*averaged, *carried)}
            means = {column: mean for column, (mean, _) in spread.items()}
            found.append({**kind, "seed": f"mean of {len(seeds)}", **means})
            found.append({**kind, "seed": f"sd of {len(seeds)}", **{column: spread[column][1] for column in averaged}})
    return found


def _spread(values: list[Cell]) -> tuple[float | None, float | None]:
    return (None, None) if None in values else mean_and_sd(values)


def baselines(runs: Sequence[StudyRun], part: str = "test") -> str:
    """A sentence on the accuracies that need no learning, on these runs' clips of a part; nothing without runs.

    Args:
        runs: with the same labels; each may have a split of its own.
        part: `train` or `test`.
    """
    if not runs:
        return ""
    shares = [run.results[part]["majority"]["accuracy"] for run in runs]
    low, high = f"{min(shares):.1%}", f"{max(shares):.1%}"
    clips = {"train": "training", "test": "test"}[part]
    return (
        f"Chance is right for {1 / len(runs[0].results['labels']):.1%} of the clips; always saying the most frequent "
        f"label of the training clips for {low if low == high else f'{low} to {high}'} of the {clips} clips. "
    )


def habits(runs: Sequence[StudyRun]) -> str:
    """A sentence that names the runs whose scores owe something to the report's habits, and which; else nothing."""
    marked: dict[str, dict[str, list[str]]] = {}
    for run in runs:
        for habit in run.results["habits"]:
            models = marked.setdefault(habit, {}).setdefault(run.name or run.group, [])
            if run.model not in models:
                models.append(run.model)
    sentences = []
    for habit, found in marked.items():
        names = "; ".join(f"{name} of {', '.join(models)}" for name, models in found.items())
        sentences.append(f" Marked, since {habit}: {names}.")
    return "".join(sentences)
