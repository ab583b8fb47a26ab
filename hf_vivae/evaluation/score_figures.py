"""Scores of test clips as pictures: ROC curves of one label, and the confusion matrix of one model."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..validation import UserError
from .figures import BLUE, GREEN, GREY, PURPLE, VERMILION, blank_figure, literal, wrapped

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
