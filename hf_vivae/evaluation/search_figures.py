"""Pictures of a hyperparameter search: scores in the order of the trials, importance, and scores over each value."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .figures import BLUE, GREY, VERMILION, blank_figure, literal, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 3


def history_figure(
    scores: Sequence[float | None], states: Sequence[str], title: str, score_name: str, greater_is_better: bool
) -> "Figure":
    """Score of each trial in their order, and the best so far.

    Args:
        scores: best score of each trial; None unless it was trained to its end.
        states: what became of each: `complete`, `pruned`, `failed` or `running`.
        title: said above the picture.
        score_name: what the scores are.
        greater_is_better: which way is up.
    """
    from matplotlib.ticker import MaxNLocator

    figure = blank_figure(7, 4)
    axes = figure.add_subplot()
    points = [(number, score) for number, score in enumerate(scores) if _is_score(score)]
    axes.plot(*zip(*points, strict=True), "o", color=BLUE, markersize=5, label=f"complete ({len(points)})")
    best, better = [], max if greater_is_better else min
    for _, score in points:
        best.append(better([*best[-1:], score]))
    numbers = [*(number for number, _ in points), len(scores) - 1]
    axes.step(numbers, [*best, best[-1]], where="post", color=VERMILION, label="best so far")
    lowest = axes.get_ylim()[0]
    for state, mark in (("pruned", "x"), ("failed", "v"), ("running", ".")):
        numbers = [number for number, found in enumerate(states) if found == state]
        if numbers:
            said = f"{state} ({len(numbers)})"
            axes.plot(numbers, [lowest] * len(numbers), mark, color=GREY, clip_on=False, label=said)
    axes.set_ylim(bottom=lowest)
    axes.set(xlabel="trial", ylabel=score_name)
    axes.set_title(literal(title), fontsize="medium")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=5, fontsize="small")
    return figure


def importance_figure(importance: Mapping[str, float], title: str) -> "Figure":
    """Share of each hyperparameter in what moves the score, the largest on top.

    Args:
        importance: by hyperparameter; together 1.
        title: said above the picture.
    """
    ranked = sorted(importance.items(), key=lambda pair: pair[1])
    figure = blank_figure(7, 1.4 + 0.35 * len(ranked))
    axes = figure.add_subplot()
    bars = axes.barh([literal(name) for name, _ in ranked], [share for _, share in ranked], color=BLUE)
    axes.bar_label(bars, fmt="{:.2f}", padding=3, fontsize="small")
    axes.set(xlabel="share of the scores' variance (fANOVA)")
    axes.margins(x=0.12)
    axes.set_title(literal(title), fontsize="medium")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def values_figure(
    trials: Sequence[tuple[Mapping[str, Any], float]],
    scales: Mapping[str, str | Sequence[Any]],
    title: str,
    score_name: str,
    greater_is_better: bool,
) -> "Figure":
    """Score over the values of each hyperparameter, the best trial marked.

    Args:
        trials: values by hyperparameter and score of each trial that was trained to its end.
        scales: by hyperparameter, in the order of the panels: `log`, `linear`, or the values that it was chosen from.
        title: said above the picture.
        score_name: what the scores are.
        greater_is_better: which way is up.
    """
    scored = [(values, score) for values, score in trials if _is_score(score)]
    best = (max if greater_is_better else min)(scored, key=lambda pair: pair[1])
    columns = min(COLUMNS, len(scales))
    rows = math.ceil(len(scales) / columns)
    figure = blank_figure(max(7, 0.8 + 2.9 * columns), 1.3 + 2.4 * rows)
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axes, (name, scale) in zip(panels.flat, scales.items(), strict=False):
        _panel(axes, [(values[name], score) for values, score in scored], (best[0][name], best[1]), scale)
        axes.set_xlabel(literal(name))
    for axes in panels.flat[len(scales) :]:
        axes.remove()
    for axes in panels[:, 0]:
        axes.set_ylabel(score_name)
    figure.suptitle(literal(title), fontsize="medium")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize="small")
    return figure


def _panel(
    axes: "Axes", points: Sequence[tuple[Any, float]], best: tuple[Any, float], scale: str | Sequence[Any]
) -> None:
    from matplotlib.ticker import MaxNLocator

    if not isinstance(scale, str):
        points = [(scale.index(value), score) for value, score in points]
        best = scale.index(best[0]), best[1]
        axes.set_xticks(range(len(scale)), [wrapped(str(value), 14) for value in scale])
        axes.set_xlim(-0.5, len(scale) - 0.5)
    else:
        axes.set_xscale(scale)
        if scale == "linear" and all(isinstance(value, int) for value, _ in points):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.plot(*zip(*points, strict=True), "o", color=BLUE, alpha=0.7, label="trial")
    axes.plot(*best, "*", color=VERMILION, markersize=13, label="best")
    axes.tick_params(labelsize="small")
    axes.grid(alpha=0.3)


def _is_score(score: float | None) -> bool:
    return score is not None and math.isfinite(score)
