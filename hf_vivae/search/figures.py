"""Figures of a hyperparameter search: scores in the order of the trials, importance, and scores over each value."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..reporting.plots import BLUE, GREY, VERMILION, blank_figure, escape_dollars, wrap_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


COLUMNS = 3
WIDTH_OF_LABELS = 32  # characters in a line below a panel
LONGEST_LINE = 80  # characters in a line of the title
MARGIN = 0.05  # part of a range outside its ends


def history_figure(
    scores: Sequence[float | None], states: Sequence[str], title: str, score_name: str, greater_is_better: bool
) -> "Figure":
    """Return the figure of the score of each trial in the order of the trials, and of the best score so far.

    Args:
        scores: best score of each trial; None unless it was trained to its end.
        states: state of each trial: `complete`, `pruned`, `failed` or `running`.
        title: title of the figure.
        score_name: name of the scores.
        greater_is_better: whether the best score is the largest.
    """
    from matplotlib.ticker import MaxNLocator

    figure = blank_figure(7, 4)
    axes = figure.add_subplot()
    points = [(number, score) for number, score in enumerate(scores) if score is not None and math.isfinite(score)]
    axes.plot(*zip(*points, strict=True), "o", color=BLUE, markersize=5, label=f"complete ({len(points)})")
    best, better = [], max if greater_is_better else min
    for _, score in points:
        best.append(better([*best[-1:], score]))
    numbers = [*(number for number, _ in points), len(scores) - 1]
    axes.step(numbers, [*best, best[-1]], where="post", color=VERMILION, label="best so far")
    limits = axes.get_ylim()
    for state, mark in (("pruned", "x"), ("failed", "v"), ("running", ".")):
        numbers = [number for number, trial_state in enumerate(states) if trial_state == state]
        if numbers:
            worst = [limits[0 if greater_is_better else 1]] * len(numbers)
            axes.plot(numbers, worst, mark, color=GREY, clip_on=False, label=f"{state} ({len(numbers)})")
    axes.set(xlabel="trial", ylabel=score_name, ylim=limits)
    _head(figure, title)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=5, fontsize="small")
    return figure


def importance_figure(importance: Mapping[str, float], title: str) -> "Figure":
    """Return the figure of the importance of each hyperparameter, the largest on top.

    Args:
        importance: share of the scores' variance by hyperparameter; the sum is 1.
        title: title of the figure.
    """
    ranked = sorted(importance.items(), key=lambda pair: pair[1])
    figure = blank_figure(7, 1.4 + 0.35 * len(ranked))
    axes = figure.add_subplot()
    bars = axes.barh([escape_dollars(name) for name, _ in ranked], [share for _, share in ranked], color=BLUE)
    axes.bar_label(bars, fmt="{:.2f}", padding=3, fontsize="small")
    axes.set(xlabel="share of the scores' variance (fANOVA)")
    axes.margins(x=0.12)
    _head(figure, title)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def values_figure(
    trials: Sequence[tuple[Mapping[str, Any], float]],
    space: Mapping[str, Mapping[str, Any]],
    title: str,
    score_name: str,
    greater_is_better: bool,
) -> "Figure":
    """Return the figure of the score over the values of each hyperparameter, with the best trial marked.

    Args:
        trials: values by hyperparameter, and finite score, of each trial that was trained to its end.
        space: by hyperparameter, in the order of the panels: `low`, `high` and `log` of a range, or `choices`.
        title: title of the figure.
        score_name: name of the scores.
        greater_is_better: whether the best score is the largest.
    """
    best = (max if greater_is_better else min)(trials, key=lambda pair: pair[1])
    columns = min(COLUMNS, len(space))
    rows = math.ceil(len(space) / columns)
    figure = blank_figure(max(7, 0.8 + 2.9 * columns), 1.3 + 2.4 * rows)
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axes, (name, dimension) in zip(panels.flat, space.items(), strict=False):
        position = dimension["choices"].index if "choices" in dimension else float
        points = [(position(values[name]), score) for values, score in trials]
        axes.plot(*zip(*points, strict=True), "o", color=BLUE, alpha=0.7, label="trial")
        axes.plot(position(best[0][name]), best[1], "*", color=VERMILION, markersize=13, label="best")
        axes.set_xlabel(escape_dollars(name))
        axes.margins(y=0.1)  # for the star
        _ticks(axes, dimension)
    for axes in panels.flat[len(space) :]:
        axes.remove()
    for axes in panels[:, 0]:
        axes.set_ylabel(score_name)
    _head(figure, title)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize="small")
    return figure


def _head(figure: "Figure", title: str) -> None:
    figure.suptitle("\n".join(wrap_text(line, LONGEST_LINE) for line in title.splitlines()), fontsize="medium")


def _ticks(axes: "Axes", dimension: Mapping[str, Any]) -> None:
    """Show the whole range, also where no trial is: where the best trial is at an end, a wider range is needed."""
    from matplotlib.ticker import MaxNLocator, NullLocator

    low, high = dimension.get("low"), dimension.get("high")
    if "choices" in dimension:
        choices = dimension["choices"]
        labels = [wrap_text(str(value), WIDTH_OF_LABELS // len(choices)) for value in choices]
        axes.set(xlim=(-0.5, len(choices) - 0.5), xticks=range(len(choices)), xticklabels=labels)
    elif dimension["log"]:
        ends, margin = [low, math.sqrt(low * high), high], (high / low) ** MARGIN
        axes.set(xscale="log", xlim=(low / margin, high * margin))
        axes.set(xticks=ends, xticklabels=[f"{end:.2g}" for end in ends])
        axes.xaxis.set_minor_locator(NullLocator())  # below one power of ten, its labels would overlap
    else:
        margin = MARGIN * (high - low)
        axes.set_xlim(low - margin, high + margin)
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], integer=isinstance(high, int)))
    axes.tick_params(labelsize="small")
    axes.grid(alpha=0.3)
