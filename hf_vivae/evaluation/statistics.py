"""What runs score, and how far a figure can be trusted.

The headline is pooled: a score over the clips of all folds together, so that a fold which lacks a label cannot raise
UAR or AUC by leaving it out.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.special import softmax
from scipy.stats import binomtest

from ..metrics import one_versus_rest_auc
from .predictions import Predictions
from .resampling import RESAMPLES, Bounds, Estimate, different_clips, estimates
from .weighted_scores import all_scores


def wilson_interval(correct: int, clips: int, level: float = 0.95) -> tuple[float, float]:
    """Bounds of a share of clips, for the chance that other clips of the same kind had been drawn (Wilson, 1927).

    Args:
        correct: number of clips that were classified correctly.
        clips: number of clips, at least 1.
        level: probability with which bounds computed so hold the true share.

    Raises:
        ValueError: for fewer than 1 clip, or more correct clips than clips.
    """
    bounds = binomtest(correct, clips).proportion_ci(confidence_level=level, method="wilson")
    return float(bounds.low), float(bounds.high)


def mean_and_sd(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Mean and sample standard deviation; None where there are too few values for it."""
    mean = statistics.fmean(values) if values else None
    return mean, statistics.stdev(values) if len(values) > 1 else None


def point_scores(labels: np.ndarray, logits: np.ndarray, label_names: Sequence[str]) -> dict[str, float | None]:
    """Scores of one set of clips, defined as in `metrics.ClassificationScores`; None where undefined.

    Args:
        labels: label index of each clip, `(clips,)`.
        logits: `(clips, labels)`, finite.
        label_names: name of each label, in the order of the logits.

    Returns:
        `accuracy`, `uar`, `macro_f1`, `macro_auc`, and `auc <label>` for each label.
    """
    probabilities = softmax(logits, axis=1)
    areas = {
        f"auc {name}": None if math.isnan(area) else area
        for name, area in one_versus_rest_auc(probabilities, labels, label_names).items()
    }
    defined = [area for area in areas.values() if area is not None]
    return {
        **label_point_scores(labels, logits.argmax(axis=1)),
        "macro_auc": statistics.fmean(defined) if defined else None,
        **areas,
    }


def label_point_scores(labels: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Accuracy, UAR over the labels that clips have, and macro F1 over those that clips have or are given.

    Args:
        labels: label index of each clip, `(clips,)`.
        predicted: label index that it was given, `(clips,)`.
    """
    from sklearn.metrics import accuracy_score, f1_score, recall_score

    return {
        "accuracy": float(accuracy_score(labels, predicted)),
        "uar": float(recall_score(labels, predicted, labels=np.unique(labels), average="macro")),
        "macro_f1": float(f1_score(labels, predicted, average="macro")),
    }


def score_estimates(
    runs: Sequence[Predictions], label_names: Sequence[str], resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Estimate]:
    """Pooled scores of a system, means over its seeds, with bounds over clips and over speakers.

    A resample draws clips, or speakers, once for all seeds. Where seeds tested different clips, it draws from all
    of them, and a resample in which a seed has no clip is left out.

    Args:
        runs: the test clips of each seed, over all folds.
        label_names: name of each label, in the order of the logits.
        resamples: number of draws, of clips and again of speakers.
        seed: of the draws.

    Returns:
        An estimate for each key of `point_scores`; without bounds where all draws score the same.
    """
    clips = different_clips(runs)
    of_runs = [
        all_scores(run, places, len(clips), label_names) for run, places in zip(runs, clips.places, strict=True)
    ]

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        scores = [of_run(weights) for of_run in of_runs]
        return {name: np.mean([seed_scores[name] for seed_scores in scores], axis=0) for name in scores[0]}

    values = mean_over_seeds([point_scores(run.labels, run.logits, label_names) for run in runs])
    found = estimates(values, statistic, clips, resamples, seed)
    return {
        name: replace(one, clips=_spread(one.clips), speakers=_spread(one.speakers)) for name, one in found.items()
    }


def _spread(bounds: Bounds | None) -> Bounds | None:
    """The bounds; None where every draw scores the same, as when all clips are right: it says nothing about others."""
    return bounds if bounds is not None and bounds[0] < bounds[1] else None


def mean_over_seeds(scores: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """Mean of each score; None where it is undefined for a seed."""
    by_name = {name: [of_seed[name] for of_seed in scores] for name in scores[0]}
    return {name: None if None in values else statistics.fmean(values) for name, values in by_name.items()}


def per_fold_scores(predictions: Predictions, label_names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The scores of each fold on its own, for the spread over folds beside the pooled headline.

    The UAR and macro AUC of a fold that lacks labels are means over the others, and no match for those of the rest.

    Args:
        predictions: the test clips of a run.
        label_names: name of each label, in the order of the logits.

    Returns:
        For each fold the scores of `point_scores`, `clips`, their number, and `absent`, a tuple of the labels that
        none of them has.
    """
    scores = {}
    for fold in np.unique(predictions.folds):
        chosen = predictions.folds == fold
        labels = predictions.labels[chosen]
        scores[str(fold)] = {
            **point_scores(labels, predictions.logits[chosen], label_names),
            "clips": int(chosen.sum()),
            "absent": absent_labels(labels, label_names),
        }
    return scores


def absent_labels(labels: np.ndarray, label_names: Sequence[str]) -> tuple[str, ...]:
    """Names of the labels that none of the clips, `(clips,)`, has."""
    return tuple(name for index, name in enumerate(label_names) if index not in labels)


def majority_scores(train: Predictions, test: Predictions, label_names: Sequence[str]) -> dict[str, float]:
    """Pooled scores of always saying the label that is most frequent among the training clips of a clip's fold.

    Args:
        train: the training clips of a run.
        test: its test clips, of the same folds.
        label_names: name of each label; of equally frequent ones the first is said.

    Returns:
        `accuracy`, `uar` and `macro_f1`; `macro_auc`, 0.5, since it ranks nothing; and `chance`, the accuracy and UAR
        that guessing expects.
    """
    predicted = np.empty_like(test.labels)
    for fold in np.unique(test.folds):
        counts = np.bincount(train.labels[train.folds == fold], minlength=len(label_names))
        predicted[test.folds == fold] = counts.argmax()
    return {**label_point_scores(test.labels, predicted), "macro_auc": 0.5, "chance": 1 / len(label_names)}
