"""Scores of predictions: overall, by group of clips, and by system."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from scipy.special import softmax
from scipy.stats import binomtest

from ..corpus import INTENSITIES
from ..metrics import absent_labels, label_scores, macro_auc, most_frequent_by_fold, one_versus_rest_auc
from .bootstrap import RESAMPLES, Bounds, Estimate, different_clips, estimates, ratio, weighted_scores
from .reliability import Reliability, calibrate, reliability
from .runs import Predictions
from .systems import System

Tests = Mapping[str, Predictions]  # test clips of a system by seed


def wilson_interval(correct: int, clips: int) -> tuple[float, float]:
    """Return the 95 % confidence interval of a share of clips, over other clips of the same kind (Wilson, 1927).

    Args:
        correct: number of clips that were classified correctly.
        clips: number of clips, at least 1.

    Raises:
        ValueError: for fewer than 1 clip, or more correct clips than clips.
    """
    bounds = binomtest(correct, clips).proportion_ci(method="wilson")
    return float(bounds.low), float(bounds.high)


def mean_and_sd(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Return mean and sample standard deviation; None where there are too few values for it."""
    mean = statistics.fmean(values) if values else None
    return mean, statistics.stdev(values) if len(values) > 1 else None


def point_scores(labels: np.ndarray, logits: np.ndarray, label_names: Sequence[str]) -> dict[str, float | None]:
    """Return scores of one set of clips, with the definitions of `metrics.ClassificationScores`.

    Args:
        labels: label index of each clip, `(clips,)`.
        logits: `(clips, labels)`, finite.
        label_names: name of each label, in the order of the logits.

    Returns:
        `accuracy`, `uar`, `macro_f1`, `macro_auc`, and `auc <label>` for each label; None where undefined.
    """
    areas = one_versus_rest_auc(softmax(logits, axis=1), labels, label_names)
    by_name = {"macro_auc": macro_auc(areas), **{f"auc {name}": area for name, area in areas.items()}}
    return {
        **label_scores(labels, logits.argmax(axis=1)),
        **{name: None if math.isnan(area) else area for name, area in by_name.items()},
    }


def score_estimates(
    runs: Sequence[Predictions], label_names: Sequence[str], resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Estimate]:
    """Return pooled scores of a system, means over its seeds, with bounds over clips and over speakers.

    A resample draws clips, or speakers, once for all seeds. Where seeds tested different clips, it draws from all
    of them, and a resample in which a seed has no clip is left out.

    Args:
        runs: the test clips of each seed, over all folds.
        label_names: name of each label, in the order of the logits.
        resamples: number of draws, of clips and again of speakers.
        seed: of the draws.

    Returns:
        An estimate for each key of `point_scores`; without bounds where all draws have the same score, as when all
        clips are right, since these say nothing about other clips.
    """
    clips = different_clips(runs)
    of_runs = [
        weighted_scores(run, rows, len(clips), label_names) for run, rows in zip(runs, clips.indices, strict=True)
    ]

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        scores = [of_run(weights) for of_run in of_runs]
        return {name: np.mean([seed_scores[name] for seed_scores in scores], axis=0) for name in scores[0]}

    def without_equal(bounds: Bounds | None) -> Bounds | None:
        return bounds if bounds is not None and bounds[0] < bounds[1] else None

    values = mean_over_seeds([point_scores(run.labels, run.logits, label_names) for run in runs])
    return {
        name: replace(estimate, clips=without_equal(estimate.clips), speakers=without_equal(estimate.speakers))
        for name, estimate in estimates(values, statistic, clips, resamples, seed).items()
    }


def mean_over_seeds(scores: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """Return the mean of each score; None where it is undefined for a seed."""
    by_name = {name: [of_seed[name] for of_seed in scores] for name in scores[0]}
    return {name: None if None in values else statistics.fmean(values) for name, values in by_name.items()}


def per_fold_scores(predictions: Predictions, label_names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the scores of each fold, for the spread over folds.

    UAR and macro AUC of a fold that lacks labels are means over its other labels, and not comparable with those of
    other folds.

    Args:
        predictions: the test clips of a run.
        label_names: name of each label, in the order of the logits.

    Returns:
        For each fold the scores of `point_scores`; `clips`, their number; and `absent`, the labels that no clip has.
    """
    scores = {}
    for fold in np.unique(predictions.folds):
        rows = predictions.folds == fold
        labels = predictions.labels[rows]
        scores[str(fold)] = {
            **point_scores(labels, predictions.logits[rows], label_names),
            "clips": int(rows.sum()),
            "absent": absent_labels(labels, label_names),
        }
    return scores


def majority_scores(train: Predictions, test: Predictions, label_names: Sequence[str]) -> dict[str, float]:
    """Return pooled scores of predicting the most frequent label of the training clips of a clip's fold.

    Args:
        train: the training clips of a run.
        test: its test clips, of the same folds.
        label_names: name of each label; of equally frequent ones the first is predicted.

    Returns:
        `accuracy`, `uar` and `macro_f1`; `macro_auc`, 0.5, since all clips rank equally; and `chance`, the expected
        accuracy and UAR of guessing.
    """
    frequent = most_frequent_by_fold(train.labels, train.folds)
    predicted = np.array([frequent[fold] for fold in test.folds.tolist()])
    return {**label_scores(test.labels, predicted), "macro_auc": 0.5, "chance": 1 / len(label_names)}


@dataclass(frozen=True)
class GroupScore:
    """Scores of a group of the clips that a system tested, pooled over folds and seeds.

    Args:
        name: of the group.
        clips: number of its different clips.
        accuracy: over its clips of all seeds, which is the mean over seeds where all tested the same clips.
        low: lower 95 % bound of the accuracy (Wilson). A clip counts once, since seeds agree about many clips.
        high: upper bound.
        uar: mean recall over the labels that its clips have.
        against_rest: its accuracy minus that of all other clips; the value is None where there are none. By speaker it
            has no bounds over speakers, since a third of the draws lack one.
        absent: labels that no clip has; with any, its UAR is not comparable with that of a group without.
    """

    name: str
    clips: int
    accuracy: float
    low: float
    high: float
    uar: float
    against_rest: Estimate
    absent: tuple[str, ...]


def by_speaker(runs: Sequence[Predictions], label_names: Sequence[str]) -> list[GroupScore]:
    """Return scores of each speaker by name; an empty list where the speaker of a clip is unknown.

    Args:
        runs: the test clips of each seed, over all folds.
        label_names: name of each label, in the order of the logits.
    """
    speakers = np.concatenate([run.speakers for run in runs])
    return _score_groups(runs, label_names, speakers, sorted(set(speakers.tolist())))


def by_intensity(runs: Sequence[Predictions], label_names: Sequence[str]) -> list[GroupScore]:
    """Return scores of each intensity; an empty list where the intensity of a clip is unknown.

    Listeners find peak intensity the most ambiguous (Holz, Larrouy-Maestri and Poeppel, Scientific Reports 11, 2021);
    `against_rest` shows if a classifier does, too. Arguments are those of `by_speaker`.
    """
    intensities = np.concatenate([run.intensities for run in runs])
    names = set(intensities.tolist())
    ordered = [name for name in INTENSITIES if name in names] if names <= set(INTENSITIES) else sorted(names)
    return _score_groups(runs, label_names, intensities, ordered)


def by_duration(runs: Sequence[Predictions], label_names: Sequence[str], parts: int = 4) -> list[GroupScore]:
    """Return scores of clips of similar duration, the shortest first; an empty list where a duration is unknown.

    Args:
        runs: as for `by_speaker`.
        label_names: as for `by_speaker`.
        parts: number of groups with about as many different clips each; fewer where many clips have the same duration.
            Durations count in hundredths of a second.
    """
    durations = np.concatenate([run.durations for run in runs]).round(2)
    if np.isnan(durations).any():
        return []
    _, first = np.unique(np.concatenate([run.files for run in runs]), return_index=True)
    bounds = np.unique(np.quantile(durations[first], np.arange(1, parts) / parts, method="inverted_cdf"))
    _, members = np.unique(np.searchsorted(bounds, durations), return_inverse=True)
    groups = [durations[members == member] for member in range(members.max() + 1)]
    names = [f"{group.min():.2f} to {group.max():.2f} s" for group in groups]
    return _score_groups(runs, label_names, np.array(names)[members], names)


def _score_groups(
    runs: Sequence[Predictions], label_names: Sequence[str], groups: np.ndarray, names: Sequence[str]
) -> list[GroupScore]:
    """Return scores of the named groups; `groups` has the name of the group of each row of all runs."""
    if "" in names:
        return []
    clips = different_clips(runs)
    indices = np.concatenate(clips.indices)
    labels, predicted = (np.concatenate([getattr(run, name) for run in runs]) for name in ("labels", "predicted"))
    members = np.argmax(groups == np.array(names)[:, None], axis=0)
    hits, counts = (
        csr_array((counted.astype(float), (members, indices)), shape=(len(names), len(clips)))
        for counted in (labels == predicted, np.ones(len(labels)))
    )

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        hit, tested = hits @ weights, counts @ weights
        differences = ratio(hit, tested) - ratio(hit.sum(axis=0) - hit, tested.sum(axis=0) - tested)
        return dict(zip(names, differences, strict=True))

    each_once = statistic(np.ones((len(clips), 1)))
    values = {name: None if np.isnan(score).any() else score.item() for name, score in each_once.items()}
    against_rest = estimates(values, statistic, clips)
    group_scores = []
    for name in names:
        rows = groups == name
        scores, number = label_scores(labels[rows], predicted[rows]), len(np.unique(indices[rows]))
        bounds = wilson_interval(round(scores["accuracy"] * number), number)
        absent = absent_labels(labels[rows], label_names)
        group_scores.append(
            GroupScore(name, number, scores["accuracy"], *bounds, scores["uar"], against_rest[name], absent)
        )
    return group_scores


@dataclass(frozen=True)
class SystemCalibration:
    """Calibration of a system, means over its seeds.

    Args:
        scores: as in `Calibration`; with temperatures None without validation clips.
        temperatures: of all folds and seeds.
        at_bound: number of these fits that ended at the smallest or largest temperature.
        plain: reliability over the clips of all seeds.
        scaled: reliability of the probabilities with temperatures; None without validation clips.
    """

    scores: dict[str, float | None]
    temperatures: tuple[float, ...]
    at_bound: int
    plain: Reliability
    scaled: Reliability | None


@dataclass(frozen=True)
class SystemScores:
    """All scores of a system on its test clips.

    Args:
        system: the system.
        clips: number of different test clips.
        estimates: pooled scores by the names of `point_scores`.
        wilson: 95 % bounds of the accuracy; each clip counts once for any number of seeds.
        by_seed: pooled scores of each seed.
        by_fold: for each seed the scores of each fold, as `per_fold_scores` returns them.
        groups: scores of groups of clips with the same `speaker`, `intensity` and `duration`.
        calibration: agreement of probabilities and accuracy.
        confusion: clips of all seeds, `(labels, labels)`; a row is the truth, a column the prediction.
        majority: scores of predicting the most frequent label of the training clips, mean over seeds; of the test
            clips themselves for a checkpoint that was scored on other clips.
    """

    system: System
    clips: int
    estimates: dict[str, Estimate]
    wilson: Bounds
    by_seed: dict[str, dict[str, float | None]]
    by_fold: dict[str, dict[str, dict[str, Any]]]
    groups: dict[str, list[GroupScore]]
    calibration: SystemCalibration
    confusion: np.ndarray
    majority: dict[str, float]


def score_system(system: System, labels: Sequence[str]) -> SystemScores:
    """Return all scores of a system.

    Args:
        system: whose predictions are read.
        labels: name of each label, in the order of the logits.
    """
    tests = read_tests(system)
    runs = list(tests.values())
    clips = len(set().union(*(run.files.tolist() for run in runs)))
    estimates = score_estimates(runs, labels)
    groups = {"speaker": by_speaker, "intensity": by_intensity, "duration": by_duration}
    majorities = []
    for run in system.runs:
        train = run.read("train")
        majorities.append(majority_scores(tests[run.seed] if train is None else train, tests[run.seed], labels))
    cells = np.concatenate([run.labels * len(labels) + run.predicted for run in runs])
    return SystemScores(
        system=system,
        clips=clips,
        estimates=estimates,
        wilson=wilson_interval(round(estimates["accuracy"].value * clips), clips),
        by_seed={seed: point_scores(test.labels, test.logits, labels) for seed, test in tests.items()},
        by_fold={seed: per_fold_scores(test, labels) for seed, test in tests.items()},
        groups={name: score(runs, labels) for name, score in groups.items()},
        calibration=_calibrate_system([(tests[run.seed], run.read("validation")) for run in system.runs]),
        confusion=np.bincount(cells, minlength=len(labels) ** 2).reshape(len(labels), len(labels)),
        majority=mean_over_seeds(majorities),
    )


def read_tests(system: System) -> Tests:
    """Return the test clips of each seed of a system."""
    return {run.seed: run.read("test") for run in system.runs}


def _calibrate_system(parts: Sequence[tuple[Predictions, Predictions | None]]) -> SystemCalibration:
    """Return the calibration over the seeds, from test and validation clips of each."""
    of_seeds = [calibrate(test, validation) for test, validation in parts]
    labels = np.concatenate([test.labels for test, _ in parts])
    scaled = [calibration.scaled for calibration in of_seeds]
    return SystemCalibration(
        scores=mean_over_seeds([of_seed.scores for of_seed in of_seeds]),
        temperatures=tuple(value for of_seed in of_seeds for value in of_seed.temperatures.values()),
        at_bound=sum(len(of_seed.at_bound) for of_seed in of_seeds),
        plain=reliability(np.concatenate([of_seed.probabilities for of_seed in of_seeds]), labels),
        scaled=None
        if any(probabilities is None for probabilities in scaled)
        else reliability(np.concatenate(scaled), labels),
    )
