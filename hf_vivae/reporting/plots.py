"""Palette and empty figures of all plots, and curves of loss and accuracy over epochs."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..validation import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


History = Sequence[Mapping[str, Any]]

# Okabe and Ito's palette, which colour-blind readers can distinguish (https://jfly.uni-koeln.de/color/), and wine
BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, YELLOW, WINE, BLACK = "#E69F00", "#56B4E9", "#F0E442", "#882255", "#000000"
GREY, LIGHT_GREY = "#777777", "#DDDDDD"
SERIES = (BLUE, VERMILION, GREEN, BLACK, PURPLE, ORANGE, SKY, WINE)  # of many curves in one figure
PARTS = {"training": BLUE, "validation": VERMILION, "test": BLACK}
UNITS = {"loss": "cross entropy (nats)", "accuracy": "accuracy"}
# the dashes of one fill the gaps of the other, so that both marks are visible at the same epoch
MARKS = {
    "validation": ((0, (5, 5)), "selected on validation"),
    "test": ((5, (5, 5)), "selected on test, the paper's rule"),
}
CHANCE = {"color": GREY, "linestyle": ":"}  # line styles that are the same in every figure
MAJORITY = {"color": GREY, "linestyle": (0, (7, 2)), "linewidth": 1}
FEW_EPOCHS = 30  # up to which each point has a marker


def blank_figure(width: float, height: float) -> "Figure":
    """Return an empty figure of this size in inches; without pyplot, which would search for a display."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=160, layout="constrained")


def escape_dollars(text: str) -> str:
    """Return text in which matplotlib takes no pair of dollars for mathematics."""
    return text.replace("$", r"\$")


def wrap_text(text: str, longest: int) -> str:
    """Return text in lines of at most so many characters, with dollars escaped as by `escape_dollars`."""
    return escape_dollars("\n".join(textwrap.wrap(text, longest)))


def save_curves(
    history: History, folder: Path, title: str, num_labels: int, select_on: str, majority: float | None
) -> None:
    """Draw `loss.png` and `accuracy.png` of one run.

    Args:
        history: as for `curves_figure`.
        folder: of the pictures.
        title: model and clips, above each picture.
        num_labels: as for `curves_figure`.
        select_on: as for `curves_figure`.
        majority: as for `curves_figure`.
    """
    for name in UNITS:
        figure = blank_figure(6, 4)
        axes = figure.add_subplot()
        _draw(axes, name, history, num_labels, select_on, majority)
        axes.set_title(escape_dollars(title), fontsize="medium")
        axes.legend(fontsize="small")
        figure.savefig(folder / f"{name}.png")


def curves_figure(
    history: History,
    title: str,
    num_labels: int,
    select_on: str = "validation",
    best_epochs: Mapping[str, float] | None = None,
    reported_accuracy: float | None = None,
    majority: float | None = None,
) -> "Figure":
    """Return loss and accuracy of one model over epochs, side by side (sections 8.2 to 8.7 of the paper).

    Args:
        history: entries of a run's `history.jsonl`; training has `loss` and `accuracy`, the clips that the epoch is
            selected on `eval_*`, and test clips that select nothing `test_*`.
        title: model and clips, above the picture.
        num_labels: number of labels, for the line of chance.
        select_on: the clips that the `eval_*` entries are of, `validation` or `test`.
        best_epochs: best epoch by `validation` and by `test` clips, each marked with its rule.
        reported_accuracy: the paper's accuracy on its test clips of VIVAE.
        majority: accuracy of always predicting the most frequent label of the training clips, on the clips that the
            epoch is selected on.

    Raises:
        UserError: no entry has an epoch, as for a model that is fitted by a solver.
    """
    if not any("epoch" in entry for entry in history):
        raise UserError(
            f"{title}: expected history entries with an epoch, found none: a model that is fitted by a solver has no "
            "curves, so leave it out"
        )
    figure = blank_figure(10, 4.4)
    panels = dict(zip(UNITS, figure.subplots(1, 2), strict=True))
    for name, axes in panels.items():
        _draw(axes, name, history, num_labels, select_on, majority)
        for part, epoch in (best_epochs or {}).items():
            dashes, rule = MARKS[part]
            axes.axvline(
                epoch, label=f"epoch {epoch:g}, {rule}", color=PARTS[part], linestyle=dashes, linewidth=1, zorder=1
            )
    if reported_accuracy is not None:
        panels["accuracy"].axhline(reported_accuracy, label="paper (VIVAE)", color=GREEN, linestyle="-.")
    figure.suptitle(escape_dollars(title))
    handles, labels = panels["accuracy"].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize="small")
    return figure


def _draw(axes: "Axes", name: str, history: History, num_labels: int, select_on: str, majority: float | None) -> None:
    from matplotlib.ticker import MaxNLocator

    for part, key in (("training", name), (select_on, f"eval_{name}"), ("test", f"test_{name}")):
        points = [(entry["epoch"], entry[key]) for entry in history if key in entry and "epoch" in entry]
        if points:
            style = {"marker": "o", "markersize": 4} if len(points) <= FEW_EPOCHS else {"linewidth": 0.9}
            axes.plot(*zip(*points, strict=True), label=part, color=PARTS[part], **style)
    chance = {"loss": math.log(num_labels), "accuracy": 1 / num_labels}[name]
    axes.axhline(chance, label="chance", **CHANCE)
    if name == "accuracy" and majority is not None:
        axes.axhline(majority, label=f"majority of {select_on} clips", **MAJORITY)
    axes.set(xlabel="epoch", ylabel=UNITS[name])
    axes.set_xlim(left=0)
    if name == "accuracy":
        axes.set_ylim(0, 1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
