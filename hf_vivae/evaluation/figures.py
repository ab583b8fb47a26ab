"""Pictures of a run, as PNG."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

TRAIN, VALIDATION = "#3b6ea5", "#c8553d"


def save_curves(history: Sequence[dict[str, Any]], folder: Path) -> list[Path]:
    """Draw `loss.png` and `accuracy.png`: training and validation over epochs.

    Args:
        history: entries of `Trainer.state.log_history`; training has `loss` and `accuracy`, validation `eval_*`.
        folder: where the pictures go.
    """
    from matplotlib.figure import Figure  # without pyplot: no display is looked for

    written = []
    for name, unit in (("loss", "cross entropy (nats)"), ("accuracy", "accuracy")):
        figure = Figure(figsize=(6, 4), dpi=120, layout="constrained")
        axes = figure.add_subplot()
        for key, label, colour in ((name, "training", TRAIN), (f"eval_{name}", "validation", VALIDATION)):
            points = [(entry["epoch"], entry[key]) for entry in history if key in entry and "epoch" in entry]
            if points:
                axes.plot(*zip(*points, strict=True), label=label, color=colour, marker="o", markersize=3)
        axes.set(xlabel="epoch", ylabel=unit, title=f"{name.capitalize()} while training")
        if name == "accuracy":
            axes.set_ylim(0, 1)
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
        figure.savefig(folder / f"{name}.png")
        written.append(folder / f"{name}.png")
    return written
