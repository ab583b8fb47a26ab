"""Pictures of a group of systems, drawn below the report; where there are many systems, of the first."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .evaluated import System
from .evaluation_figures import difference_figure, groups_figure, reliability_figure, scores_figure
from .evaluation_rows import explain_stars, mean_majority, starred, where
from .group_scores import GroupScores, Pair
from .report import Picture
from .score_figures import confusion_figure
from .system_scores import SystemScores

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_DRAWN = 20  # systems; more cannot be told apart in one picture, and pictures of their own would fill the report
MOST_PAIRS = 45
SCORES = {"uar": "UAR", "accuracy": "accuracy"}


@dataclass(frozen=True)
class Drawing:
    """A figure with its place in the report.

    Args:
        kind: `scores`, `differences`, `speaker`, `intensity`, `duration`, `calibration` or `confusion`.
        name: stem of its file.
        figure: the figure.
        caption: what is shown; which clips and what stars mean is added.
        systems: those that are shown.
    """

    kind: str
    name: str
    figure: "Figure"
    caption: str
    systems: Sequence[System]


def draw_pictures(report: Path, below: Path, group: GroupScores) -> dict[str, list[Picture]]:
    """Draw all pictures of a group, one after the other; by kind.

    Args:
        report: folder of the report.
        below: folder for the pictures, relative to it.
        group: whose scores are drawn.
    """
    (report / below).mkdir(parents=True, exist_ok=True)
    pictures = defaultdict(list)
    for drawing in _drawings(group):
        path = below / f"{drawing.name}.png"
        drawing.figure.savefig(report / path)
        caption = f"{drawing.caption} On {where(group.group.clips)}.{explain_stars(drawing.systems)}"
        pictures[drawing.kind].append(Picture(path, caption))
    return pictures


def _drawings(group: GroupScores) -> Iterator[Drawing]:
    shown = group.systems[:MOST_DRAWN]
    systems = [scores.system for scores in shown]
    title, chance, majority = where(group.group.clips), 1 / len(group.group.labels), mean_majority(group)
    for key, said in SCORES.items():
        rows = [_score_row(scores, key) for scores in shown]
        figure = scores_figure(rows, said, title, chance, majority[key])
        yield Drawing("scores", key, figure, f"Pooled {said}.", systems)
    yield from _differences(group, title)
    for kind in ("speaker", "intensity", "duration"):
        found = {starred(one.system): one.groups[kind] for one in shown if one.groups[kind]}
        if found:
            figure = groups_figure(found, title, chance, majority["accuracy"])
            yield Drawing(kind, f"by-{kind}", figure, f"Accuracy by {kind}, with Wilson's 95 % bounds.", systems)
    for number, scores in enumerate(shown, start=1):
        yield from _of_system(group, scores, number)


def _score_row(scores: SystemScores, key: str) -> dict[str, Any]:
    estimate = scores.estimates[key]
    return {
        "system": starred(scores.system),
        "value": estimate.value,
        "clips": estimate.clips,
        "speakers": estimate.speakers,
        "seeds": [of_seed[key] for of_seed in scores.by_seed.values()],
    }


def _differences(group: GroupScores, title: str) -> Iterator[Drawing]:
    shown = group.pairs[:MOST_PAIRS]
    if not shown:
        return
    shown_systems = {system.name: system for pair in shown for system in (pair.first, pair.second)}
    for key, said in SCORES.items():
        figure = difference_figure([_difference_row(pair, key) for pair in shown], said, title)
        caption = f"Differences in {said} of systems on the same clips."
        if key == "accuracy":
            caption += " p is McNemar's, adjusted for the number of pairs."
        yield Drawing("differences", f"differences-{key}", figure, caption, list(shown_systems.values()))


def _difference_row(pair: Pair, key: str) -> dict[str, Any]:
    estimate = getattr(pair.comparison, key)
    return {
        "name": f"{starred(pair.first)} minus {starred(pair.second)}",
        "value": estimate.value,
        "clips": estimate.clips,
        "speakers": estimate.speakers,
        "p_value": pair.adjusted if key == "accuracy" else None,  # McNemar's test is of accuracy
    }


def _of_system(group: GroupScores, scores: SystemScores, number: int) -> Iterator[Drawing]:
    name = starred(scores.system)
    title = f"{name}, {group.group.clips.corpus} clips, {group.group.clips.protocol}"
    figure = reliability_figure(scores.calibration.plain, scores.calibration.scaled, title)
    caption = f"Reliability of {name}, over the test clips of all seeds."
    yield Drawing("calibration", f"reliability-{number}", figure, caption, [scores.system])
    majority = scores.majority["accuracy"]
    figure = confusion_figure(scores.confusion, group.group.labels, title, majority, scores.clips)
    caption = f"Confusion of {name}, over the test clips of all seeds."
    yield Drawing("confusion", f"confusion-{number}", figure, caption, [scores.system])
