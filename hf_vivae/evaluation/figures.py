"""Pictures of a run, as PNG."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TRAIN, VALIDATION, CHANCE = "#3b6ea5", "#c8553d", "#888888"


def save_curves(history: Sequence[dict[str, Any]], folder: Path, title: str, num_labels: int) -> None:
    """Draw `loss.png` and `accuracy.png`: training and validation over epochs, and what chance gives.

    Args:
        history: entries of `Trainer.state.log_history`; training has `loss` and `accuracy`, validation `eval_*`.
        folder: where the pictures go.
        title: model and clips, said above each picture.
        num_labels: chance guesses one of them, each as often.
    """
    from matplotlib.figure import Figure  # without pyplot: no display is looked for

    chances = {"loss": math.log(num_labels), "accuracy": 1 / num_labels}
    for name, unit in (("loss", "cross entropy (nats)"), ("accuracy", "accuracy")):
        figure = Figure(figsize=(6, 4), dpi=120, layout="constrained")
        axes = figure.add_subplot()
        for key, label, colour in ((name, "training", TRAIN), (f"eval_{name}", "validation", VALIDATION)):
            points = [(entry["epoch"], entry[key]) for entry in history if key in entry and "epoch" in entry]
            if points:
                axes.plot(*zip(*points, strict=True), label=label, color=colour, marker="o", markersize=3)
        axes.axhline(chances[name], label="chance", color=CHANCE, linestyle=":")
        axes.set(xlabel="epoch", ylabel=unit, title=title)
        if name == "accuracy":
            axes.set_ylim(0, 1)
        axes.grid(alpha=0.3)
        axes.legend()
        figure.savefig(folder / f"{name}.png")
