"""Pictures that compare runs: patches by their number of tokens, and the effects of single switches."""

import itertools
import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from .figures import BLUE, CHANCE, MAJORITY, VERMILION, blank_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS = {
    "accuracy": "accuracy, with 95 % interval",
    "macro_auc": "macro AUC",
    "clips_per_second": "training clips/s",
    "peak_memory_mb": "peak memory (MB)",
}


def patches_figure(points: Sequence[Mapping[str, Any]], title: str, chance: float) -> "Figure":
    """Accuracy, macro AUC, speed and memory against the number of tokens, a panel each.

    Args:
        points: for each run `patch` (its name), `tokens`, `accuracy`, `low` and `high` (ends of the accuracy's 95 %
            interval), `majority` (accuracy of always saying the most frequent label of its training clips),
            `macro_auc`, `clips_per_second` and `peak_memory_mb`; a value that is None is named as undefined in its
            panel.
        title: model and clips, said above the picture.
        chance: accuracy of guessing.
    """
    from matplotlib.ticker import LogLocator, NullLocator, ScalarFormatter

    ordered = sorted(points, key=lambda point: point["tokens"])
    figure = blank_figure(10, 7)
    panels = dict(zip(PANELS, figure.subplots(2, 2, sharex=True).flat, strict=True))
    for key, axes in panels.items():
        _scatter(axes, ordered, key)
        axes.set(ylabel=PANELS[key], xscale="log")
        axes.margins(x=0.22, y=0.15)
        if key not in ("accuracy", "macro_auc"):
            axes.set(xlabel="tokens (log scale)")
            axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_locator(NullLocator())
    panels["accuracy"].axhline(chance, label="chance", **CHANCE)
    majority = fmean(point["majority"] for point in points)  # seeds have splits of their own
    panels["accuracy"].axhline(majority, label="majority", **MAJORITY)
    panels["macro_auc"].axhline(0.5, **CHANCE)
    figure.legend(loc="outside lower center", ncols=2, fontsize="small")
    figure.suptitle(title)
    return figure


def _scatter(axes: "Axes", points: Sequence[Mapping[str, Any]], key: str) -> None:
    defined = [point for point in points if point[key] is not None]
    tokens, values = [point["tokens"] for point in defined], [point[key] for point in defined]
    if key == "accuracy":
        errors = [[p["accuracy"] - p["low"] for p in defined], [p["high"] - p["accuracy"] for p in defined]]
        axes.errorbar(tokens, values, yerr=errors, fmt="o", color=BLUE, capsize=3)
    else:
        axes.plot(tokens, values, "o", color=BLUE)
    for point, side in zip(defined, _free_sides(tokens), strict=True):
        axes.annotate(
            point["patch"],
            (point["tokens"], point[key]),
            xytext=(-6 if side == "left" else 6, 0),
            textcoords="offset points",
            ha="right" if side == "left" else "left",
            va="center",
            fontsize="small",
        )
    missing = [point["patch"] for point in points if point[key] is None]
    if missing:
        axes.set_title(f"undefined for {', '.join(missing)}", fontsize="small")


def _free_sides(tokens: Sequence[int]) -> list[str]:
    """The side of each point, in ascending order, on which the next one is further away on a log scale."""
    if not tokens:
        return []
    ratios = [math.inf, *(after / before for before, after in itertools.pairwise(tokens)), math.inf]
    return ["left" if right < left else "right" for left, right in itertools.pairwise(ratios)]


def audit_figure(effects: Sequence[Mapping[str, Any]], title: str) -> "Figure":
    """What each switch alone does to accuracy and macro AUC, as bars from zero.

    Args:
        effects: for each switch and model, in the order of the rows from the top, `name`, `accuracy` (with the switch
            minus without, as a share), `macro_auc` (the same difference; None where undefined) and `half_width` (of
            the 95 % interval of the accuracy without the switch, as a share).
        title: clips, said above the picture.
    """
    figure = blank_figure(10, 1.6 + 0.3 * len(effects))
    left, right = figure.subplots(1, 2, sharey=True)
    places = range(len(effects))
    widths = [100 * effect["half_width"] for effect in effects]
    left.barh(
        places,
        [2 * width for width in widths],
        left=[-width for width in widths],
        height=1,
        color="#DDDDDD",
        label="95 % interval of the accuracy without the switch",
    )
    _bars(left, [100 * effect["accuracy"] for effect in effects], "{:+.1f}", least=5)
    _bars(right, [effect["macro_auc"] for effect in effects], "{:+.3f}", least=0.05)
    left.set(xlabel="effect on accuracy (points)", ylim=(len(effects) - 0.5, -0.5))
    left.set_yticks(places, [effect["name"] for effect in effects])
    right.set(xlabel="effect on macro AUC")
    figure.suptitle(title)
    figure.legend(loc="outside lower center", fontsize="small")
    return figure


def _bars(axes: "Axes", values: Sequence[float | None], form: str, least: float) -> None:
    """Bars with their values; the axis reaches `least` on both sides, so that a small effect looks small."""
    known = [0 if value is None else value for value in values]
    bars = axes.barh(
        range(len(values)), known, height=0.6, color=[VERMILION if value < 0 else BLUE for value in known]
    )
    texts = ["undefined" if value is None else form.format(value) for value in values]
    axes.bar_label(bars, texts, padding=3, fontsize="small")
    axes.axvline(0, color="black", linewidth=0.8)
    axes.use_sticky_edges = False
    axes.margins(x=0.22)
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, -least), max(high, least))
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
