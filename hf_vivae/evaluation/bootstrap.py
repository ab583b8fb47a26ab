"""Confidence intervals by resampling speakers or clips, with the scores of all resamples at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.special import softmax
from scipy.stats import norm, t

from .runs import Predictions

RESAMPLES = 2000
LEVEL = 0.95
FEWEST = 5  # clips or speakers, else there are no bounds
NUMBERS = 2**20  # weights of one batch of resamples: 8 MB for any corpus
Bounds = tuple[float, float]
# weights, `(clips, resamples)`: number of times that each clip was drawn -> scores by name, `(resamples,)`, or NaN
Statistic = Callable[[np.ndarray], Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Estimate:
    """Score with 95 % bootstrap bounds.

    The bounds cover the choice of clips and speakers for the trained models; the choice of the training seed is
    covered by the spread over seeds. Both bounds are equal where every clip is right or every clip wrong.

    Args:
        value: mean over the seeds; None where it is undefined for a seed.
        clips: bounds over independently drawn clips. Clips of one speaker are similar, so these bounds are too narrow
            for a statement about unseen speakers.
        speakers: bounds over drawn speakers with all their clips; None where a speaker is unknown. Either bounds are
            None for fewer than 5 clips or speakers, and where the score is undefined in more than 5 % of the
            resamples, such as the AUC of a label that two clips have.
    """

    value: float | None
    clips: Bounds | None
    speakers: Bounds | None


@dataclass(frozen=True)
class ResampledClips:
    """Different clips that some runs tested, sorted by file.

    Args:
        files: name of each clip, `(clips,)`.
        speakers: `(clips,)`; "" where unknown.
        indices: for each run the index among these clips of each of its rows, `(rows,)`.
    """

    files: np.ndarray
    speakers: np.ndarray
    indices: tuple[np.ndarray, ...]

    def __len__(self) -> int:
        return len(self.files)


def different_clips(runs: Sequence[Predictions]) -> ResampledClips:
    """Return the clips that some runs tested; they differ if the protocol draws other test clips for each seed.

    Args:
        runs: one or more.
    """
    files, first, indices = np.unique(
        np.concatenate([run.files for run in runs]), return_index=True, return_inverse=True
    )
    ends = np.cumsum([len(run) for run in runs])[:-1]
    speakers = np.concatenate([run.speakers for run in runs])[first]
    return ResampledClips(files, speakers, tuple(np.split(indices, ends)))


def estimates(
    values: Mapping[str, float | None],
    statistic: Statistic,
    clips: ResampledClips,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Return scores with their bounds.

    Args:
        values: scores by name.
        statistic: the same scores of resamples.
        clips: clips to draw from.
        resamples: number of draws, of clips and again of speakers.
        seed: of the draws; the same seed gives the same bounds for any order of the rows.
    """
    by_clip = bootstrap_bounds(statistic, clips.files, resamples, seed)
    by_speaker = {} if "" in clips.speakers else bootstrap_bounds(statistic, clips.speakers, resamples, seed)
    return {name: Estimate(value, by_clip.get(name), by_speaker.get(name)) for name, value in values.items()}


def bootstrap_bounds(
    statistic: Statistic, drawn: np.ndarray, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Bounds | None]:
    """Return 95 % bounds of each score of a statistic, by the cluster bootstrap with expanded percentiles.

    Each resample draws as many clusters as there are, with replacement and with all their clips (Davison and Hinkley,
    Bootstrap Methods and their Application, 1997; Field and Welsh, Bootstrapping clustered data, Journal of the Royal
    Statistical Society B 69, 2007). Plain percentiles of few clusters are too narrow, by about the ratio of a normal
    to a Student quantile, and are expanded by it (Hesterberg, What Teachers Should Know About the Bootstrap, The
    American Statistician 69, 2015).

    Args:
        statistic: scores of weighted clips.
        drawn: name of each clip's cluster, `(clips,)`: its speaker, or its file where clips are drawn.
        resamples: number of draws.
        seed: of the draws.

    Returns:
        Bounds by name of the score; empty for fewer than 5 clusters.
    """
    names, members = np.unique(drawn, return_inverse=True)
    if len(names) < FEWEST:
        return {}
    # Not scipy.stats.bootstrap: it draws indices instead of weights, takes a single score, and has no bounds for a
    # score that is undefined in a resample.
    rng = np.random.default_rng(seed)
    clusters, size = len(names), max(1, NUMBERS // len(drawn))
    batches = []
    for start in range(0, resamples, size):
        batch = min(size, resamples - start)
        indices = rng.integers(clusters, size=(clusters, batch)) * batch + np.arange(batch)
        counts = np.bincount(indices.ravel(), minlength=clusters * batch).reshape(clusters, batch).astype(float)
        batches.append(statistic(counts[members]))
    level = expanded_level(clusters)
    return {name: _percentiles(np.concatenate([scores[name] for scores in batches]), level) for name in batches[0]}


def expanded_level(clusters: int) -> float:
    """Return the share of resamples outside 95 % bounds on either side; it tends to 0.025 for many clusters."""
    quantile = t.ppf((1 - LEVEL) / 2, clusters - 1)
    return float(norm.cdf(math.sqrt(clusters / (clusters - 1)) * quantile))


def _percentiles(scores: np.ndarray, level: float) -> Bounds | None:
    defined = scores[~np.isnan(scores)]
    if len(defined) < LEVEL * len(scores):
        return None
    low, high = np.quantile(defined, [level, 1 - level])
    return float(low), float(high)


def weighted_label_scores(run: Predictions, indices: np.ndarray, clips: int, labels: int) -> Statistic:
    """Return accuracy, UAR and macro F1 of a run as a function of the weights.

    Args:
        run: with `(rows,)` predictions.
        indices: index of each row's clip among the weights, `(rows,)`.
        clips: number of clips that have weights.
        labels: number of labels.
    """
    cells = run.labels * labels + run.predicted
    counts = csr_array((np.ones(len(run)), (cells, indices)), shape=(labels**2, clips))
    return lambda weights: scores_of_confusion((counts @ weights).reshape(labels, labels, -1))


def scores_of_confusion(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Return the scores of `metrics.label_scores` for all resamples.

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


def weighted_scores(run: Predictions, indices: np.ndarray, clips: int, label_names: Sequence[str]) -> Statistic:
    """Return the scores of `scores.point_scores` as a function of the weights; see `weighted_label_scores`."""
    of_labels = weighted_label_scores(run, indices, clips, len(label_names))
    probabilities = softmax(run.logits, axis=1)
    of_ranks = [auc(run.labels == index, probabilities[:, index], indices) for index in range(len(label_names))]

    def scores(weights: np.ndarray) -> dict[str, np.ndarray]:
        areas = np.stack([area(weights) for area in of_ranks])
        by_label = {f"auc {name}": area for name, area in zip(label_names, areas, strict=True)}
        return {**of_labels(weights), "macro_auc": _mean_of_defined(areas), **by_label}

    return scores


def auc(positive: np.ndarray, scores: np.ndarray, indices: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return the area under the ROC curve as a function of the weights.

    It is the weight of the pairs of a positive and a negative clip in which the positive one has the higher score,
    ties counting half (Mann and Whitney, 1947).

    Args:
        positive: true for rows of the positive label, `(rows,)`.
        scores: by which rows are ranked, `(rows,)`.
        indices: index of each row's clip among the weights, `(rows,)`.
    """
    negatives = np.flatnonzero(~positive)
    negatives = negatives[np.argsort(scores[negatives])]
    below, upto = (np.searchsorted(scores[negatives], scores[positive], side) for side in ("left", "right"))
    higher, lower = indices[positive], indices[negatives]

    def area(weights: np.ndarray) -> np.ndarray:
        weight = weights[higher]
        sums = np.zeros((len(lower) + 1, weights.shape[1]))  # row n: weight of the n negatives with the lowest scores
        np.cumsum(weights[lower], axis=0, out=sums[1:])
        twice = np.einsum("pr,pr->r", weight, sums[below] + sums[upto])
        return ratio(twice / 2, weight.sum(axis=0) * sums[-1])

    return area


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return the quotient; NaN where the whole is 0."""
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)


def _mean_of_defined(scores: np.ndarray) -> np.ndarray:
    """Return the mean over the first axis of the values that are not NaN."""
    return ratio(np.nansum(scores, axis=0), np.sum(~np.isnan(scores), axis=0).astype(float))
