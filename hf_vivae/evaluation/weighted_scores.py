"""Scores of clips that count as often as a resample drew them, for many resamples at once.

Weights are `(clips, resamples)`, scores `(resamples,)`, NaN where a resample leaves one undefined. With weights of 1
they are those of scikit-learn and of `metrics.ClassificationScores`; scikit-learn takes one resample at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.sparse import csr_array
from scipy.special import softmax

from .predictions import Predictions
from .resampling import Statistic


def label_scores(run: Predictions, places: np.ndarray, clips: int, labels: int) -> Statistic:
    """Accuracy, UAR and macro F1 of a run, as a function of the weights.

    Args:
        run: with `(rows,)` predictions.
        places: index of each row's clip among the weights, `(rows,)`.
        clips: number of clips that have weights.
        labels: number of labels.
    """
    cells = run.labels * labels + run.predicted
    counts = csr_array((np.ones(len(run)), (cells, places)), shape=(labels**2, clips))
    return lambda weights: scores_of_confusion((counts @ weights).reshape(labels, labels, -1))


def scores_of_confusion(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Accuracy, UAR over the labels that clips have, and macro F1 over those that clips have or are given.

    Args:
        confusion: weight of clips, `(true labels, predicted labels, resamples)`.
    """
    hits = np.einsum("iir->ir", confusion)
    true, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    return {
        "accuracy": ratio(hits.sum(axis=0), true.sum(axis=0)),
        "uar": _mean_of_defined(ratio(hits, true)),
        "macro_f1": _mean_of_defined(ratio(2 * hits, true + predicted)),
    }


def all_scores(run: Predictions, places: np.ndarray, clips: int, label_names: Sequence[str]) -> Statistic:
    """The scores of `statistics.point_scores`, as a function of the weights; arguments as in `label_scores`."""
    of_labels = label_scores(run, places, clips, len(label_names))
    probabilities = softmax(run.logits, axis=1)
    of_ranks = [auc(run.labels == index, probabilities[:, index], places) for index in range(len(label_names))]

    def scores(weights: np.ndarray) -> dict[str, np.ndarray]:
        areas = np.stack([area(weights) for area in of_ranks])
        by_label = {f"auc {name}": area for name, area in zip(label_names, areas, strict=True)}
        return {**of_labels(weights), "macro_auc": _mean_of_defined(areas), **by_label}

    return scores


def auc(positive: np.ndarray, scores: np.ndarray, places: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Area under the ROC curve as a function of the weights: the weight of the pairs of a positive and a negative clip
    in which the positive one has the higher score, ties counting half (Mann and Whitney, 1947).

    Args:
        positive: whether a row is positive, `(rows,)`.
        scores: by which rows are ranked, `(rows,)`.
        places: index of each row's clip among the weights, `(rows,)`.
    """
    negatives = np.flatnonzero(~positive)
    negatives = negatives[np.argsort(scores[negatives])]
    below, upto = (np.searchsorted(scores[negatives], scores[positive], side) for side in ("left", "right"))
    higher, lower = places[positive], places[negatives]

    def area(weights: np.ndarray) -> np.ndarray:
        weight = weights[higher]
        passed = np.zeros((len(lower) + 1, weights.shape[1]))  # weight of the first so many negatives
        np.cumsum(weights[lower], axis=0, out=passed[1:])
        twice = np.einsum("pr,pr->r", weight, passed[below] + passed[upto])
        return ratio(twice / 2, weight.sum(axis=0) * passed[-1])

    return area


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """The quotient, NaN where the whole is 0."""
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)


def _mean_of_defined(scores: np.ndarray) -> np.ndarray:
    """Mean over the first axis of what is not NaN."""
    return ratio(np.nansum(scores, axis=0), np.sum(~np.isnan(scores), axis=0).astype(float))
