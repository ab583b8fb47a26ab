"""Scores of every model, as one `evaluate.Metric` that Trainer, recipes and other code share.

The metric needs no network (`evaluate.load` of a Hub metric does) and writes no file. An undefined score is NaN with a
note, not 0. `evaluate.evaluator` is not used, since it fails with transformers 5 (evaluate 0.4.6).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import datasets
import evaluate
import numpy as np

from .validation import UserError

if TYPE_CHECKING:
    from transformers import EvalPrediction


class ClassificationScores(evaluate.Metric):
    """Scores of single-label classification from logits.

    `compute(predictions=logits (clips, labels), references=label indices (clips,))` returns:

    - `accuracy`: share of clips whose largest logit is their label's.
    - `uar`: unweighted average recall (balanced accuracy) over the labels in the references.
    - `macro_f1`: mean F1 over the labels in the references or the predictions.
    - `auc`: for each label the area under the ROC curve of its softmax probability, this label against the
      rest; NaN where the clips are of one side only.
    - `macro_auc`: mean over the labels whose AUC is defined; NaN if none is.
    - `loss`: mean cross entropy in nats.
    - `confusion_matrix`: clip counts, `(labels, labels)` as a list of rows; a row is the truth, a column the
      prediction.
    - `n`: number of clips.
    - `notes`: a sentence for each label that the clips lack.

    Formulas are scikit-learn's (Pedregosa et al., JMLR 12, 2011).

    Args:
        label_names: name of each label, in the order of the logits.

    Raises:
        UserError: fewer than two names or a name twice; in `compute`, logits that are not `(clips, labels)`
            or not finite, or references that are not label indices.
    """

    def __init__(self, label_names: Sequence[str]) -> None:
        self.label_names = list(label_names)
        if len(self.label_names) < 2 or len(set(self.label_names)) < len(self.label_names):
            raise UserError(f"expected two or more different label names, found {self.label_names}; name each once.")
        # In memory, since two runs that share a cache folder would wait for each other's lock on its file.
        super().__init__(keep_in_memory=True, seed=0)

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Accuracy, UAR, macro F1, one-versus-rest AUC, cross entropy and confusion matrix.",
            citation="",
            inputs_description="predictions: logits, (clips, labels); references: label indices, (clips,).",
            features=datasets.Features(
                {
                    "predictions": datasets.Sequence(datasets.Value("float64")),
                    "references": datasets.Value("int64"),
                }
            ),
        )

    def _compute(self, predictions: list[list[float]], references: list[int]) -> dict[str, Any]:
        from scipy.special import softmax
        from sklearn.metrics import confusion_matrix

        logits, truth = self._check(predictions, references)
        predicted = logits.argmax(axis=1)
        auc = one_versus_rest_auc(softmax(logits, axis=1), truth, self.label_names)
        absent = absent_labels(truth, self.label_names)
        notes = [
            f"None of the {len(truth)} clips is labelled {name}: its AUC is undefined, and UAR and macro AUC "
            "are means over the other labels."
            for name in absent
        ]
        if len(absent) == len(self.label_names) - 1:
            only = self.label_names[truth[0]]
            notes = [f"All {len(truth)} clips are labelled {only}: no AUC is defined, and UAR is its recall."]
        return {
            **label_scores(truth, predicted),
            "auc": auc,
            "macro_auc": macro_auc(auc),
            "loss": cross_entropy(logits, truth),
            "confusion_matrix": confusion_matrix(truth, predicted, labels=range(logits.shape[1])).tolist(),
            "n": len(truth),
            "notes": notes,
        }

    def _check(self, predictions: list[list[float]], references: list[int]) -> tuple[np.ndarray, np.ndarray]:
        labels, truth = len(self.label_names), np.asarray(references)
        widths = sorted({len(row) for row in predictions})
        if widths != [labels]:
            raise UserError(
                f"expected {labels} logits for each clip, one for each label name, found rows of {widths}; "
                "pass logits (clips, labels) and the names of the model's labels."
            )
        outside = truth[(truth < 0) | (truth >= labels)]
        if outside.size:
            raise UserError(
                f"expected references from 0 to {labels - 1}, found {outside[0]}; "
                "pass label indices in the order of the label names."
            )
        logits = np.asarray(predictions, dtype=float)
        broken = int((~np.isfinite(logits)).any(axis=1).sum())
        if broken:
            raise UserError(
                f"expected finite logits, found NaN or infinity for {broken} of {len(truth)} clips; "
                "training diverged, so lower the learning rate."
            )
        return logits, truth


def one_versus_rest_auc(scores: np.ndarray, truth: np.ndarray, label_names: Sequence[str]) -> dict[str, float]:
    """Return the area under the ROC curve of each label against the rest; NaN where the clips are of one side only.

    Args:
        scores: `(clips, labels)`, by which the clips are ranked.
        truth: label index of each clip, `(clips,)`.
        label_names: name of each label.
    """
    from sklearn.metrics import roc_auc_score

    positive = truth[:, None] == np.arange(len(label_names))  # (clips, labels)
    defined = np.flatnonzero(positive.any(axis=0) & ~positive.all(axis=0))
    areas = np.full(len(label_names), np.nan)
    if defined.size:  # then of two labels at least; all at once, since checking the arguments takes longest
        areas[defined] = roc_auc_score(positive[:, defined], scores[:, defined], average=None)
    return dict(zip(label_names, areas.tolist(), strict=True))


def macro_auc(areas: Mapping[str, float]) -> float:
    """Return the mean of the areas of `one_versus_rest_auc` that are defined; NaN if none is."""
    defined = [area for area in areas.values() if not np.isnan(area)]
    return float(np.mean(defined)) if defined else float("nan")


def label_scores(labels: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Return accuracy, UAR over the labels that occur, and macro F1 over those that occur or are predicted.

    Args:
        labels: label index of each clip, `(clips,)`.
        predicted: predicted label index of each clip, `(clips,)`.
    """
    from sklearn.metrics import accuracy_score, f1_score, recall_score

    return {
        "accuracy": float(accuracy_score(labels, predicted)),
        "uar": float(recall_score(labels, predicted, labels=np.unique(labels), average="macro")),
        "macro_f1": float(f1_score(labels, predicted, average="macro")),
    }


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean cross entropy, in nats, of logits `(clips, labels)` and label indices `(clips,)`."""
    from scipy.special import log_softmax

    return float(-log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean())


def absent_labels(labels: np.ndarray, label_names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the labels that no clip has.

    Args:
        labels: label index of each clip, `(clips,)`.
        label_names: name of each label.
    """
    return tuple(name for index, name in enumerate(label_names) if index not in labels)


def most_frequent(labels: Sequence[int] | np.ndarray) -> int:
    """Return the most frequent label index, of equally frequent ones the first."""
    return int(np.bincount(labels).argmax())


def most_frequent_by_fold(labels: Sequence[int] | np.ndarray, folds: Sequence[str] | np.ndarray) -> dict[str, int]:
    """Return the most frequent label index of each fold, which a majority classifier predicts for its test clips.

    Args:
        labels: label index of each training clip, `(clips,)`.
        folds: name of its fold, `(clips,)`.
    """
    labels, folds = np.asarray(labels), np.asarray(folds)
    return {fold: most_frequent(labels[folds == fold]) for fold in np.unique(folds).tolist()}


def make_compute_metrics(label_names: Sequence[str]) -> Callable[[EvalPrediction], dict[str, Any]]:
    """Return a `compute_metrics` for `Trainer`, with the scores and keys of `ClassificationScores`.

    Args:
        label_names: name of each label, in the order of the logits.
    """
    scores = ClassificationScores(label_names)

    def compute_metrics(prediction: EvalPrediction) -> dict[str, Any]:
        outputs = prediction.predictions
        # A model that returns more than logits (hidden states, attentions) has them after the logits.
        logits = outputs[0] if isinstance(outputs, tuple) else outputs
        return scores.compute(predictions=logits, references=prediction.label_ids)

    return compute_metrics
