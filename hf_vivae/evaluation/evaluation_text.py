"""The scores of an evaluation as lines for a terminal."""

from collections.abc import Sequence

from .evaluate import Evaluation
from .evaluation_rows import explain_ensembles, explain_stars, mean_majority, starred, where
from .group_scores import GroupScores
from .resampling import Bounds
from .system_scores import SystemScores

MOST_LINES = 20
COLUMNS = ("", "folds", "seeds", "clips", "UAR", "95 % over speakers", "accuracy", "macro AUC")


def format_evaluation(evaluation: Evaluation) -> str:
    """The headline of each group, with what is marked in it, and what is left out."""
    parts = [_format_group(group) for group in evaluation.groups]
    if evaluation.left_out:
        parts.append("\n".join(_first(evaluation.left_out)))
    return "\n\n".join(parts)


def _format_group(group: GroupScores) -> str:
    chance, majority = 1 / len(group.group.labels), mean_majority(group)
    rows = [
        COLUMNS,
        ("chance", "", "", "", f"{chance:.1%}", "", f"{chance:.1%}", "0.500"),
        ("majority", "", "", "", f"{majority['uar']:.1%}", "", f"{majority['accuracy']:.1%}", "0.500"),
        *map(_row, group.systems),
    ]
    systems = [scores.system for scores in group.systems]
    said = [explained.strip() for explained in (explain_ensembles(systems), explain_stars(systems)) if explained]
    return "\n".join([where(group.group.clips), *_first(_align(rows)), *said])


def _row(scores: SystemScores) -> tuple[str, ...]:
    system, estimates = scores.system, scores.estimates
    auc = estimates["macro_auc"].value
    return (
        starred(system),
        system.covered,
        str(len(system.runs)),
        str(scores.clips),
        f"{estimates['uar'].value:.1%}",
        _interval(estimates["uar"].speakers),
        f"{estimates['accuracy'].value:.1%}",
        "-" if auc is None else f"{auc:.3f}",
    )


def _interval(bounds: Bounds | None) -> str:
    return "-" if bounds is None else f"{bounds[0]:.1%} to {bounds[1]:.1%}"


def _align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines, the first column flushed left, all others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]


def _first(lines: Sequence[str]) -> list[str]:
    """As many as are read, and how many more there are."""
    more = len(lines) - MOST_LINES
    return [*lines[:MOST_LINES], *([f"and {more} more in the report"] if more > 0 else [])]
