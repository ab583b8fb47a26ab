"""Figures of evaluations: scores, differences, groups of clips, calibration, ROC curves and confusion."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..reporting.plots import (
    BLACK,
    BLUE,
    CHANCE,
    GREY,
    MAJORITY,
    SERIES,
    SKY,
    VERMILION,
    blank_figure,
    escape_dollars,
    wrap_text,
)
from ..reporting.report import Picture, save_picture
from ..reporting.tables import SCORE_NAMES
from .comparison import GroupScores
from .scores import SystemScores
from .systems import System
from .tables import explain_stars

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .reliability import Reliability
    from .runs import Predictions
    from .scores import GroupScore


OVER_SPEAKERS = {"color": SKY, "linewidth": 6, "solid_capstyle": "butt"}
OVER_CLIPS = {"color": BLACK, "linewidth": 1.2}
VALUE = {"color": BLACK, "marker": "D", "markersize": 5, "linestyle": "none"}
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
MOST_DRAWN = 20  # systems that can be distinguished in one picture, or whose own pictures fit into a report
MOST_PAIRS = 45
DRAWN_SCORES = ("uar", "accuracy")
LINES = ("-", "--", "-.", ":")
MANY_LABELS = 16


def scores_figure(
    rows: Sequence[Mapping[str, Any]], metric: str, title: str, chance: float, majority: float | None = None
) -> "Figure":
    """Return a forest plot of one score of several systems on the same clips, with its 95 % intervals.

    Args:
        rows: for each system, from the top, `system` (its name), `value` (a share; None for an undefined one),
            `clips` and `speakers` (ends of its intervals over clips and over whole speakers, or None), and `seeds`
            (the score of each seed, drawn where there are several).
        metric: name of the score.
        title: clips and protocol, above the picture.
        chance: score of guessing.
        majority: score of always predicting the most frequent label of the training clips; None for no line.
    """
    from matplotlib.ticker import PercentFormatter

    figure, axes = _forest([row["system"] for row in rows])
    for index, row in enumerate(rows):
        _draw_estimate(axes, index, row, 1, "undefined" if row["value"] is None else f"{row['value']:.1%}")
        if len(row["seeds"]) > 1:
            axes.plot(row["seeds"], [index + 0.28] * len(row["seeds"]), label="single seeds", **SEED)
    _draw_baselines(axes, chance, majority)
    axes.set_xlabel(metric)
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    return _finish(figure, title)


def difference_figure(rows: Sequence[Mapping[str, Any]], metric: str, title: str) -> "Figure":
    """Return a forest plot of paired differences of systems on the same clips, with their 95 % intervals.

    Args:
        rows: for each pair, from the top, `name` (such as "a minus b"), `value` (share of the first minus that of the
            second), `clips` and `speakers` as for `scores_figure`, and `p_value`, adjusted for the number of pairs, or
            None.
        metric: name of the score.
        title: clips and protocol, above the picture.
    """
    figure, axes = _forest([row["name"] for row in rows])
    for index, row in enumerate(rows):
        text = "undefined" if row["value"] is None else f"{100 * row['value']:+.1f}"
        if row["p_value"] is not None:
            text += "   p < 0.001" if row["p_value"] < 0.001 else f"   p = {row['p_value']:.3f}"
        _draw_estimate(axes, index, row, 100, text)
    axes.axvline(0, color="black", linewidth=0.8, zorder=0)
    tested = any(row["p_value"] is not None for row in rows)
    axes.set_xlabel(f"difference in {metric} (points{'; p adjusted for the number of pairs' if tested else ''})")
    return _finish(figure, title)


def _forest(names: Sequence[str]) -> tuple["Figure", "Axes"]:
    """Return a figure and its axes with a row for each name, the first on top."""
    labels = [wrap_text(name, LONGEST_LINE) for name in names]
    lines = 1 + max(label.count("\n") for label in labels)
    figure = blank_figure(10, 1.6 + len(names) * max(0.4, 0.1 + lines * LINE_HEIGHT))
    axes = figure.add_subplot()
    axes.set_yticks(range(len(names)), labels)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", labelsize="small", length=0)
    axes.grid(axis="x", alpha=0.3)
    return figure, axes


def _draw_estimate(axes: "Axes", index: int, row: Mapping[str, Any], scale: float, text: str) -> None:
    """Draw a value with its intervals in a row of a forest plot, and the text next to it."""
    for key, style in (("speakers", OVER_SPEAKERS), ("clips", OVER_CLIPS)):
        if row[key] is not None:
            label = f"95 % interval over {key}"
            axes.plot([scale * bound for bound in row[key]], [index] * 2, label=label, **style)
    if row["value"] is not None:
        axes.plot(scale * row["value"], index, label="mean over seeds", zorder=3, **VALUE)
    axes.annotate(
        text, (1, index), xycoords=("axes fraction", "data"), xytext=(6, 0), textcoords="offset points",
        va="center", fontsize="small",
    )  # fmt: skip


def _draw_baselines(axes: "Axes", chance: float, majority: float | None) -> None:
    axes.axvline(chance, label=f"chance {chance:.1%}", zorder=0, **CHANCE)
    if majority is not None:
        axes.axvline(majority, label=f"majority {majority:.1%}", zorder=0, **MAJORITY)


def _finish(figure: "Figure", title: str) -> "Figure":
    """Add the title, and a legend with each label once."""
    figure.suptitle(wrap_text(title, int(9 * figure.get_figwidth())), fontsize="large")
    handles: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3, fontsize="small")
    return figure


def groups_figure(
    groups: Mapping[str, Sequence["GroupScore"]], title: str, chance: float, majority: float | None = None
) -> "Figure":
    """Return accuracy by speaker, intensity or duration, a panel for each system, and the accuracy over all groups.

    Args:
        groups: scores of the groups of each system, from the top.
        title: clips and protocol, above the picture.
        chance: accuracy of guessing.
        majority: accuracy of always predicting the most frequent label of the training clips, over all groups.
    """
    from matplotlib.ticker import PercentFormatter

    columns = min(PANELS_IN_A_ROW, len(groups))
    lines, most = math.ceil(len(groups) / columns), max(map(len, groups.values()))
    alike = len({tuple((score.name, score.clips) for score in scores) for scores in groups.values()}) == 1
    figure = blank_figure(max(6, 1.4 + 2.6 * columns), 1.0 + lines * (1.3 + 0.26 * most))
    panels = figure.subplots(lines, columns, sharey=alike, squeeze=False).flat
    for axes, (system, scores) in zip(panels, groups.items(), strict=False):
        overall = sum(score.accuracy * score.clips for score in scores) / sum(score.clips for score in scores)
        axes.axvline(overall, color=BLUE, linewidth=1, label="all groups", zorder=0)
        for index, score in enumerate(scores):
            axes.plot((score.low, score.high), [index] * 2, **OVER_CLIPS)
            axes.plot(score.accuracy, index, **VALUE)
        _draw_baselines(axes, chance, majority)
        axes.set_title(wrap_text(system, 60 if columns == 1 else 30), fontsize="small")
        axes.set_yticks(range(len(scores)), [f"{escape_dollars(score.name)} ({score.clips})" for score in scores])
        axes.set(xlim=(0, 1), ylim=(len(scores) - 0.5, -0.5))
        axes.set_xlabel("accuracy, 95 % interval", fontsize="small")
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.tick_params(labelsize="small")
        axes.grid(axis="x", alpha=0.3)
    for axes in panels[len(groups) :]:
        axes.remove()
    return _finish(figure, title)


def reliability_figure(before: "Reliability", after: "Reliability | None", title: str) -> "Figure":
    """Return accuracy against confidence and the number of clips, without and with a temperature.

    Args:
        before: of the probabilities as trained.
        after: of the probabilities with temperature; None without validation clips to fit one.
        title: system and clips, above the picture.
    """
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    figure = blank_figure(6, 7)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.plot([0, 1], [0, 1], label="perfect calibration", **CHANCE)
    for (stage, line, bar), reliability, side in zip(STAGES, (before, after), (1, -1), strict=True):
        if reliability is not None:
            confidences, accuracies, clips = zip(*reliability.bins, strict=True)
            above.plot(confidences, accuracies, label=f"{stage}: ECE {reliability.error:.3f}", markersize=5, **line)
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


@dataclass(frozen=True)
class Drawing:
    """A figure of the report, and the systems that it shows."""

    kind: str  # part of the report, as in `report.PARTS`
    name: str  # stem of its file
    figure: "Figure"
    caption: str  # without the clips and the meaning of stars, which are added
    systems: Sequence[System]


def draw_pictures(report: Path, below: Path, group: GroupScores) -> dict[str, list[Picture]]:
    """Draw and save the pictures of a group one at a time, and return them by kind.

    Args:
        report: folder of the report.
        below: folder for the pictures, relative to it.
        group: whose scores are drawn.
    """
    pictures = defaultdict(list)
    for drawing in _drawings(group):
        caption = f"{drawing.caption} On {group.group.clips.title}.{explain_stars(drawing.systems)}"
        picture = save_picture(report, below / f"{drawing.name}.png", drawing.figure, caption)
        pictures[drawing.kind].append(picture)
    return pictures


def _drawings(group: GroupScores) -> Iterator[Drawing]:
    shown = group.systems[:MOST_DRAWN]
    systems = [scores.system for scores in shown]
    title, chance, majority = group.group.clips.title, 1 / len(group.group.labels), group.majority
    for key in DRAWN_SCORES:
        rows = [
            {
                "system": scores.system.name_with_star,
                **asdict(scores.estimates[key]),
                "seeds": [of_seed[key] for of_seed in scores.by_seed.values()],
            }
            for scores in shown
        ]
        figure = scores_figure(rows, SCORE_NAMES[key], title, chance, majority[key])
        yield Drawing("scores", key, figure, f"Pooled {SCORE_NAMES[key]}.", systems)
    if group.pairs:
        yield from _draw_differences(group, title)
    for kind in ("speaker", "intensity", "duration"):
        groups = {scores.system.name_with_star: scores.groups[kind] for scores in shown if scores.groups[kind]}
        if groups:
            figure = groups_figure(groups, title, chance, majority["accuracy"])
            yield Drawing(kind, f"by-{kind}", figure, f"Accuracy by {kind}, with Wilson's 95 % bounds.", systems)
    for number, scores in enumerate(shown, start=1):
        yield from _draw_system(group, scores, number)


def _draw_differences(group: GroupScores, title: str) -> Iterator[Drawing]:
    pairs = group.pairs[:MOST_PAIRS]
    systems = {system.name: system for pair in pairs for system in (pair.first, pair.second)}
    for key in DRAWN_SCORES:
        rows = []
        for pair in pairs:
            name = f"{pair.first.name_with_star} minus {pair.second.name_with_star}"
            p_value = pair.adjusted if key == "accuracy" else None  # McNemar's test is of accuracy
            rows.append({"name": name, **asdict(getattr(pair.comparison, key)), "p_value": p_value})
        figure = difference_figure(rows, SCORE_NAMES[key], title)
        caption = f"Differences in {SCORE_NAMES[key]} of systems on the same clips."
        if key == "accuracy":
            caption += " p is McNemar's, adjusted for the number of pairs."
        yield Drawing("differences", f"differences-{key}", figure, caption, list(systems.values()))


def _draw_system(group: GroupScores, scores: SystemScores, number: int) -> Iterator[Drawing]:
    name = scores.system.name_with_star
    title = f"{name}, {group.group.clips.corpus} clips, {group.group.clips.protocol}"
    figure = reliability_figure(scores.calibration.plain, scores.calibration.scaled, title)
    caption = f"Reliability of {name}, over the test clips of all seeds."
    yield Drawing("calibration", f"reliability-{number}", figure, caption, [scores.system])
    majority = scores.majority["accuracy"]
    figure = confusion_figure(scores.confusion, group.group.labels, title, majority, scores.clips)
    caption = f"Confusion of {name}, over the test clips of all seeds."
    yield Drawing("confusion", f"confusion-{number}", figure, caption, [scores.system])


def roc_figure(
    label: str, label_names: Sequence[str], predictions: "Mapping[str, Predictions]", title: str
) -> "Figure":
    """Return ROC curves of one label against the rest, one for each model (section 8.8 of the paper).

    A clip's score is the softmax probability of the label, as for the AUC of `results.json`. A constant prediction,
    such as the most frequent label, is on the diagonal of chance.

    Args:
        label: the label that counts as positive.
        label_names: name of each label, in the order of the logits.
        predictions: test clips of each model; its colour and line are those of its position.
        title: label and clips, above the picture.
    """
    from scipy.special import softmax
    from sklearn.metrics import auc, roc_curve

    figure = blank_figure(5.2, 5.2)  # two side by side on a landscape page
    axes = figure.add_subplot()
    positive = list(label_names).index(label)
    for index, (model, tested) in enumerate(predictions.items()):
        style = {"color": SERIES[index % 8], "linestyle": LINES[(index + index // 8) % 4], "linewidth": 1.6}
        truth = tested.labels == positive
        if truth.all() or not truth.any():
            axes.plot([], [], label=f"{model}: undefined, {truth.sum()} of {len(truth)} clips", **style)
            continue
        false_positives, true_positives, _ = roc_curve(truth, softmax(tested.logits, axis=1)[:, positive])
        area = auc(false_positives, true_positives)
        axes.plot(false_positives, true_positives, label=f"{model}: AUC {area:.3f}", **style)
    axes.plot([0, 1], [0, 1], label="chance and majority: AUC 0.500", color=GREY, linewidth=0.8)
    axes.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    axes.set_aspect("equal")
    axes.set_title(escape_dollars(title), fontsize="medium")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize="x-small", handlelength=3.2)
    return figure


def confusion_figure(
    matrix: Sequence[Sequence[int]],
    label_names: Sequence[str],
    title: str,
    majority: float,
    different_clips: int | None = None,
) -> "Figure":
    """Return the confusion matrix of one model: clips and their share of the true label, the share as colour.

    Above 16 labels, the cells have no room for shares, and empty ones have no text.

    Args:
        matrix: clip counts, `(labels, labels)`; a row is the truth, a column the prediction.
        label_names: name of each label, in the order of rows and columns.
        title: model and clips; accuracy, chance and majority are added.
        majority: accuracy on these clips of always predicting the most frequent label of the training clips.
        different_clips: number of different clips where several seeds predicted each; None for one seed.
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
    names = [escape_dollars(name) for name in label_names]
    axes.set_xticks(ticks, names, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(ticks, names)
    axes.set(xlabel="predicted label", ylabel="true label")
    hits, total = counts.trace(), counts.sum()
    clips = f"{total} clips" if different_clips in (None, total) else f"{total} predictions of {different_clips} clips"
    axes.set_title(
        f"{wrap_text(title, int(14 * side))}\naccuracy {hits / total:.1%} ({hits} of {clips})\n"
        f"chance {1 / len(counts):.1%}, majority {majority:.1%}",
        fontsize="medium",
    )
    figure.colorbar(image, label="share of the true label's clips", fraction=0.046, format="{x:.0%}")
    return figure
