"""Figures of the evaluation report."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..reporting.plots import BLUE, CHANCE, GREEN, GREY, MAJORITY, PURPLE, VERMILION, blank_figure, literal, wrapped
from ..reporting.report import Picture
from ..validation import UserError
from .comparison import GroupScores, Pair
from .scores import SystemScores
from .systems import System
from .tables import explain_stars, mean_majority, starred, where

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .reliability import Reliability
    from .scores import GroupScore


OVER_SPEAKERS = {"color": "#56B4E9", "linewidth": 6, "solid_capstyle": "butt"}
OVER_CLIPS = {"color": "black", "linewidth": 1.2}
VALUE = {"color": "black", "marker": "D", "markersize": 5, "linestyle": "none"}
SEED = {"color": VERMILION, "marker": "o", "markersize": 4, "fillstyle": "none", "linestyle": "none"}
STAGES = (
    ("as trained", {"color": BLUE, "marker": "o", "linestyle": "-"}, {"color": BLUE}),
    (
        "with temperature",
        {"color": VERMILION, "marker": "s", "linestyle": "--"},
        {"facecolor": "white", "edgecolor": VERMILION, "hatch": "////"},
    ),
)
PANELS_IN_A_ROW = 3
LONGEST_LINE = 60  # characters of a name
LINE_HEIGHT = 0.15  # inches of a line of small text


def scores_figure(
    rows: Sequence[Mapping[str, Any]], metric: str, title: str, chance: float, majority: float | None = None
) -> "Figure":
    """One score of several systems on the same clips, with its 95 % intervals: a forest plot.

    Args:
        rows: for each system, from the top, `system` (its name), `value` (a share; None is named as undefined),
            `clips` and `speakers` (ends of its intervals over clips and over whole speakers; None where there is
            none), and `seeds` (the score of each seed, drawn where there are several).
        metric: name of the score.
        title: clips and protocol, said above the picture.
        chance: the score of guessing.
        majority: that of always saying the most frequent label of the training clips; None where it is no other.
    """
    from matplotlib.ticker import PercentFormatter

    figure, axes = _forest([row["system"] for row in rows])
    for place, row in enumerate(rows):
        _draw_estimate(axes, place, row, 1)
        if len(row["seeds"]) > 1:
            axes.plot(row["seeds"], [place + 0.28] * len(row["seeds"]), label="single seeds", **SEED)
        _say(axes, place, "undefined" if row["value"] is None else f"{row['value']:.1%}")
    _draw_baselines(axes, chance, majority)
    axes.set_xlabel(metric)
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    return _finish(figure, title)


def difference_figure(rows: Sequence[Mapping[str, Any]], metric: str, title: str) -> "Figure":
    """Paired differences of systems on the same clips with their 95 % intervals, and a line at none.

    Args:
        rows: for each pair, from the top, `name` (which system minus which), `value` (the first's share minus the
            second's), `clips` and `speakers` as for `scores_figure`, and `p_value`, adjusted for the number of pairs;
            None where there is none.
        metric: name of the score.
        title: clips and protocol, said above the picture.
    """
    figure, axes = _forest([row["name"] for row in rows])
    for place, row in enumerate(rows):
        _draw_estimate(axes, place, row, 100)
        said = "undefined" if row["value"] is None else f"{100 * row['value']:+.1f}"
        _say(axes, place, f"{said}{_p_text(row['p_value'])}")
    axes.axvline(0, color="black", linewidth=0.8, zorder=0)
    tested = any(row["p_value"] is not None for row in rows)
    axes.set_xlabel(f"difference in {metric} (points{'; p adjusted for the number of pairs' if tested else ''})")
    return _finish(figure, title)


def _p_text(p_value: float | None) -> str:
    if p_value is None:
        return ""
    return "   p < 0.001" if p_value < 0.001 else f"   p = {p_value:.3f}"


def _forest(names: Sequence[str]) -> tuple["Figure", "Axes"]:
    """Axes with a row for each name, the first on top."""
    labels = [wrapped(name, LONGEST_LINE) for name in names]
    lines = 1 + max(label.count("\n") for label in labels)
    figure = blank_figure(10, 1.6 + len(names) * max(0.4, 0.1 + lines * LINE_HEIGHT))
    axes = figure.add_subplot()
    axes.set_yticks(range(len(names)), labels)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", labelsize="small", length=0)
    axes.grid(axis="x", alpha=0.3)
    return figure, axes


def _draw_estimate(axes: "Axes", place: float, row: Mapping[str, Any], scale: float) -> None:
    for key, said, style in (
        ("speakers", "95 % interval over speakers", OVER_SPEAKERS),
        ("clips", "95 % interval over clips", OVER_CLIPS),
    ):
        if row[key] is not None:
            axes.plot([scale * bound for bound in row[key]], [place] * 2, label=said, **style)
    if row["value"] is not None:
        axes.plot(scale * row["value"], place, label="mean over seeds", zorder=3, **VALUE)


def _say(axes: "Axes", place: float, text: str) -> None:
    axes.annotate(
        text, (1, place), xycoords=("axes fraction", "data"), xytext=(6, 0), textcoords="offset points",
        va="center", fontsize="small",
    )  # fmt: skip


def _draw_baselines(axes: "Axes", chance: float, majority: float | None) -> None:
    axes.axvline(chance, label=f"chance {chance:.1%}", zorder=0, **CHANCE)
    if majority is not None:
        axes.axvline(majority, label=f"majority {majority:.1%}", zorder=0, **MAJORITY)


def _finish(figure: "Figure", title: str) -> "Figure":
    """Title and legend, in which each mark stands once."""
    figure.suptitle(wrapped(title, int(9 * figure.get_figwidth())), fontsize="large")
    known: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            known.setdefault(label, handle)
    figure.legend(known.values(), known.keys(), loc="outside lower center", ncols=3, fontsize="small")
    return figure


def groups_figure(
    groups: Mapping[str, Sequence["GroupScore"]], title: str, chance: float, majority: float | None = None
) -> "Figure":
    """Accuracy by speaker, intensity or duration, a panel for each system, with the accuracy over all groups.

    Args:
        groups: by system its groups, from the top; with the clips of each. Bounds are those of the groups.
        title: clips and protocol, said above the picture.
        chance: accuracy of guessing.
        majority: accuracy of always saying the most frequent label of the training clips, over all groups.
    """
    columns = min(PANELS_IN_A_ROW, len(groups))
    lines, most = math.ceil(len(groups) / columns), max(map(len, groups.values()))
    alike = len({tuple((score.name, score.clips) for score in scores) for scores in groups.values()}) == 1
    figure = blank_figure(max(6, 1.4 + 2.6 * columns), 1.0 + lines * (1.3 + 0.26 * most))
    panels = figure.subplots(lines, columns, sharey=alike, squeeze=False).flat
    for axes, (system, scores) in zip(panels, groups.items(), strict=False):
        _draw_groups(axes, scores)
        _draw_baselines(axes, chance, majority)
        axes.set_title(wrapped(system, 60 if columns == 1 else 30), fontsize="small")
    for axes in panels[len(groups) :]:
        axes.remove()
    return _finish(figure, title)


def _draw_groups(axes: "Axes", scores: Sequence["GroupScore"]) -> None:
    from matplotlib.ticker import PercentFormatter

    clips = sum(score.clips for score in scores)
    overall = sum(score.accuracy * score.clips for score in scores) / clips
    axes.axvline(overall, color=BLUE, linewidth=1, label="all groups", zorder=0)
    for place, score in enumerate(scores):
        axes.plot((score.low, score.high), [place] * 2, **OVER_CLIPS)
        axes.plot(score.accuracy, place, **VALUE)
    axes.set_yticks(range(len(scores)), [f"{literal(score.name)} ({score.clips})" for score in scores])
    axes.set(xlim=(0, 1), ylim=(len(scores) - 0.5, -0.5))
    axes.set_xlabel("accuracy, 95 % interval", fontsize="small")
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.tick_params(labelsize="small")
    axes.grid(axis="x", alpha=0.3)


def reliability_figure(before: "Reliability", after: "Reliability | None", title: str) -> "Figure":
    """Accuracy of clips against the confidence in them, and how many clips have it, before and after a temperature.

    Args:
        before: of the probabilities as trained.
        after: of those with temperature; None where no validation clips could fit one.
        title: system and clips, said above the picture.
    """
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    figure = blank_figure(6, 7)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.plot([0, 1], [0, 1], label="as often right as sure", **CHANCE)
    for (said, line, bar), found, side in zip(STAGES, (before, after), (1, -1), strict=True):
        if found is not None:
            confidences, accuracies, clips = zip(*found.bins, strict=True)
            error = _calibration_error(found)
            above.plot(confidences, accuracies, label=f"{said}: ECE {error:.3f}", markersize=5, **line)
            below.bar(confidences, [side * number for number in clips], width=0.04, **bar)
    above.set(ylabel="accuracy", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    below.set(xlabel="confidence: probability of the predicted label", ylabel="clips")
    below.axhline(0, color="black", linewidth=0.8)
    below.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    below.yaxis.set_major_formatter(FuncFormatter(lambda number, _: f"{abs(number):.0f}"))
    for axes in (above, below):
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)
    return _finish(figure, title)


def _calibration_error(found: "Reliability") -> float:
    distances = [abs(confidence - accuracy) * clips for confidence, accuracy, clips in found.bins]
    return sum(distances) / sum(clips for _, _, clips in found.bins)


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


COLOURS = (BLUE, VERMILION, GREEN, "#000000", PURPLE, "#E69F00", "#56B4E9", "#882255")
LINES = ("-", "--", "-.", ":")
MANY_LABELS = 16


def roc_figure(
    label: str, label_names: Sequence[str], predictions: Mapping[str, Sequence[Mapping[str, Any]]], title: str
) -> "Figure":
    """ROC curves of one label against the rest on test clips, one for each model (section 8.8 of the 2022 report).

    A clip's score is the softmax probability of the label; the area is that of `results.json`. Whoever always says the
    same, such as the most frequent label, is on the diagonal of chance.

    Args:
        label: the label that counts as positive.
        label_names: name of each label, in the order of the logits.
        predictions: for each model its rows of `predictions.parquet`. A model's colour and line follow from its
            place, so the same models in the same order look alike in every figure.
        title: label and clips, said above the picture.

    Raises:
        ValueError: a model has no test clips.
    """
    figure = blank_figure(5.2, 5.2)  # two side by side on a landscape page
    axes = figure.add_subplot()
    positive = list(label_names).index(label)
    for place, (model, rows) in enumerate(predictions.items()):
        style = {"color": COLOURS[place % 8], "linestyle": LINES[(place + place // 8) % 4], "linewidth": 1.6}
        false_positives, true_positives, area = _roc(model, rows, positive)
        axes.plot(false_positives, true_positives, label=f"{model}: {area}", **style)
    axes.plot([0, 1], [0, 1], label="chance and majority: AUC 0.500", color=GREY, linewidth=0.8)
    axes.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    axes.set_aspect("equal")
    axes.set_title(literal(title), fontsize="medium")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize="x-small", handlelength=3.2)
    return figure


def _roc(model: str, rows: Sequence[Mapping[str, Any]], positive: int) -> tuple[np.ndarray, np.ndarray, str]:
    from scipy.special import softmax
    from sklearn.metrics import auc, roc_curve

    tested = [row for row in rows if row["split"] == "test"]
    if not tested:
        raise UserError(
            f"{model}: expected predictions of test clips, found none: pass all rows of its predictions.parquet"
        )
    truth = np.array([row["label"] == positive for row in tested])
    if truth.all() or not truth.any():
        return np.array([]), np.array([]), f"undefined, {truth.sum()} of {len(truth)} clips"
    probabilities = softmax(np.array([row["logits"] for row in tested]), axis=1)[:, positive]
    false_positives, true_positives, _ = roc_curve(truth, probabilities)
    return false_positives, true_positives, f"AUC {auc(false_positives, true_positives):.3f}"


def confusion_figure(
    matrix: Sequence[Sequence[int]],
    label_names: Sequence[str],
    title: str,
    majority: float,
    different_clips: int | None = None,
) -> "Figure":
    """Confusion matrix of one model: clips and their share of the true label in each cell, the share as colour.

    Above 16 labels, the cells have no room for shares, and empty ones have no text.

    Args:
        matrix: clip counts, `(labels, labels)`; a row is the truth, a column the prediction.
        label_names: name of each label, in the order of rows and columns.
        title: model and clips; the accuracy is added, and what needs no learning.
        majority: accuracy on these clips of always saying the most frequent label of the training clips.
        different_clips: how many there are where several seeds have answered each; None for one seed.
    """
    counts = np.asarray(matrix)  # (labels, labels)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    many = len(counts) > MANY_LABELS
    side = max(3.0, (0.33 if many else 0.46) * len(counts))  # inches; one or two lines of text fit into a cell
    figure = blank_figure(side + 2.6, side + 1.8)
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        share = shares[row, column]
        text = (f"{count}" if many else f"{count}\n{share:.0%}") if count else "" if many else "0"
        colour = "white" if share > 0.55 else "black" if count else GREY
        size = 7 if 8 < len(counts) <= MANY_LABELS else 9
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=size)
    ticks = range(len(counts))
    names = [literal(name) for name in label_names]
    axes.set_xticks(ticks, names, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(ticks, names)
    axes.set(xlabel="predicted label", ylabel="true label")
    hits, answers = counts.trace(), counts.sum()
    of = f"{answers} clips" if different_clips in (None, answers) else f"{answers} answers on {different_clips} clips"
    axes.set_title(
        f"{wrapped(title, int(14 * side))}\naccuracy {hits / answers:.1%} ({hits} of {of})\n"
        f"chance {1 / len(counts):.1%}, majority {majority:.1%}",
        fontsize="medium",
    )
    figure.colorbar(image, label="share of the true label's clips", fraction=0.046, format="{x:.0%}")
    return figure
