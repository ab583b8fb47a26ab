"""Pictures of an evaluation: scores and differences with their intervals, accuracy by group, and calibration.

Everything that colours tell is told by shape, width or dashes too, so that it prints in grey.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .figures import BLUE, CHANCE, MAJORITY, VERMILION, blank_figure, literal, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .calibration import Reliability
    from .groups import GroupScore

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
