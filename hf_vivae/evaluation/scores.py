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
from ..metrics import one_versus_rest_auc
from .bootstrap import RESAMPLES, Bounds, Estimate, Statistic, all_scores, different_clips, estimates, ratio
from .reliability import Reliability, calibrate, reliability
from .runs import Predictions
from .systems import System


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


@dataclass(frozen=True)
class GroupScore:
    """Scores of some of the clips that a system tested, pooled over folds and seeds.

    Args:
        name: of the group.
        clips: number of its different clips.
        accuracy: over its clips of all seeds, which is the mean over seeds where all tested the same clips.
        low: lower 95 % bound of it (Wilson). A clip counts once for it, since seeds agree about many clips.
        high: upper bound.
        uar: mean recall over the labels that its clips have.
        against_rest: its accuracy minus that of all other clips; the value is None where there are none. By speaker it
            has no bounds over speakers, since a third of the draws lack one.
        absent: labels that none of its clips has; with any, its UAR is no match for that of a group without.
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
    """Scores of each speaker by name; nothing where a clip's speaker is unknown.

    Args:
        runs: the test clips of each seed, over all folds.
        label_names: name of each label, in the order of the logits.
    """
    speakers = np.concatenate([run.speakers for run in runs])
    return _score(runs, label_names, speakers, sorted(set(speakers.tolist())))


def by_intensity(runs: Sequence[Predictions], label_names: Sequence[str]) -> list[GroupScore]:
    """Scores of each intensity; nothing where a clip's is unknown.

    Listeners find peak intensity the most ambiguous (Holz, Larrouy-Maestri and Poeppel, Scientific Reports 11, 2021):
    `against_rest` tells whether a classifier does.

    Args:
        runs: the test clips of each seed, over all folds.
        label_names: name of each label, in the order of the logits.
    """
    intensities = np.concatenate([run.intensities for run in runs])
    found = set(intensities.tolist())
    ordered = [name for name in INTENSITIES if name in found] if found <= set(INTENSITIES) else sorted(found)
    return _score(runs, label_names, intensities, ordered)


def by_duration(runs: Sequence[Predictions], label_names: Sequence[str], parts: int = 4) -> list[GroupScore]:
    """Scores of clips of like duration, from the shortest on; nothing where a clip's is unknown.

    Args:
        runs: the test clips of each seed, over all folds.
        label_names: name of each label, in the order of the logits.
        parts: number of groups with about as many different clips each; fewer where many clips last equally long.
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
    return _score(runs, label_names, np.array(names)[members], names)


def _score(
    runs: Sequence[Predictions],
    label_names: Sequence[str],
    groups: np.ndarray,
    names: Sequence[str],
) -> list[GroupScore]:
    """Scores of the named groups, of which each row of all runs has one."""
    if "" in names:
        return []
    clips = different_clips(runs)
    places = np.concatenate(clips.places)
    labels, predicted = (np.concatenate([getattr(run, name) for run in runs]) for name in ("labels", "predicted"))
    statistic = _against_rest(groups, names, labels == predicted, places, len(clips))
    each_once = statistic(np.ones((len(clips), 1)))
    values = {name: None if np.isnan(score).any() else score.item() for name, score in each_once.items()}
    against_rest = estimates(values, statistic, clips)
    found = []
    for name in names:
        chosen = groups == name
        scores, number = label_point_scores(labels[chosen], predicted[chosen]), len(np.unique(places[chosen]))
        low, high = wilson_interval(round(scores["accuracy"] * number), number)
        absent = absent_labels(labels[chosen], label_names)
        found.append(
            GroupScore(name, number, scores["accuracy"], low, high, scores["uar"], against_rest[name], absent)
        )
    return found


def _against_rest(
    groups: np.ndarray, names: Sequence[str], right: np.ndarray, places: np.ndarray, clips: int
) -> Statistic:
    members = np.argmax(groups == np.array(names)[:, None], axis=0)
    hits, rows = (
        csr_array((counted.astype(float), (members, places)), shape=(len(names), clips))
        for counted in (right, np.ones(len(right)))
    )

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        hit, tested = hits @ weights, rows @ weights
        differences = ratio(hit, tested) - ratio(hit.sum(axis=0) - hit, tested.sum(axis=0) - tested)
        return dict(zip(names, differences, strict=True))

    return statistic


Tests = Mapping[str, Predictions]  # test clips of a system by seed


@dataclass(frozen=True)
class SystemCalibration:
    """Means over the seeds of a system.

    Args:
        scores: `ece` and `loss`, and `ece_scaled` and `loss_scaled`, None without validation clips.
        temperatures: of all folds and seeds.
        at_bound: how many of these fits ended at the smallest or largest temperature.
        plain: reliability over the clips of all seeds.
        scaled: that of probabilities with temperatures; None without validation clips.
    """

    scores: dict[str, float | None]
    temperatures: tuple[float, ...]
    at_bound: int
    plain: Reliability
    scaled: Reliability | None


@dataclass(frozen=True)
class SystemScores:
    """What a system scores on its test clips.

    Args:
        system: whose scores they are.
        clips: number of different test clips.
        estimates: pooled scores by the names of `point_scores`.
        wilson: 95 % bounds of the accuracy; each clip counts once, whatever the number of seeds.
        by_seed: pooled scores of each seed.
        by_fold: for each seed the scores of each fold, as `per_fold_scores` gives them.
        groups: scores of groups of clips by what they have in common: `speaker`, `intensity` and `duration`.
        calibration: how well probabilities tell how often they are right.
        confusion: clips of all seeds, `(labels, labels)`; a row is the truth, a column the prediction.
        majority: what always saying the most frequent label of the training clips scores, mean over seeds; of the
            test clips themselves for a checkpoint that was scored on other clips.
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
    """Everything that is said of one system alone."""
    tests = read_tests(system)
    runs = list(tests.values())
    clips = len(set().union(*(run.files.tolist() for run in runs)))
    estimates = score_estimates(runs, labels)
    groups = {"speaker": by_speaker, "intensity": by_intensity, "duration": by_duration}
    majorities = [_majority(run.read("train"), tests[run.seed], labels) for run in system.runs]
    return SystemScores(
        system=system,
        clips=clips,
        estimates=estimates,
        wilson=wilson_interval(round(estimates["accuracy"].value * clips), clips),
        by_seed={seed: point_scores(test.labels, test.logits, labels) for seed, test in tests.items()},
        by_fold={seed: per_fold_scores(test, labels) for seed, test in tests.items()},
        groups={name: score(runs, labels) for name, score in groups.items()},
        calibration=_calibration(
            [(test, run.read("validation")) for test, run in zip(runs, system.runs, strict=True)]
        ),
        confusion=_confusion(runs, len(labels)),
        majority=mean_over_seeds(majorities),
    )


def _majority(train: Predictions | None, test: Predictions, labels: Sequence[str]) -> dict[str, float]:
    return majority_scores(test if train is None else train, test, labels)


def read_tests(system: System) -> Tests:
    """The test clips of each seed of a system."""
    return {run.seed: run.read("test") for run in system.runs}


def _calibration(parts: Sequence[tuple[Predictions, Predictions | None]]) -> SystemCalibration:
    found = [calibrate(test, validation) for test, validation in parts]
    labels = np.concatenate([test.labels for test, _ in parts])
    names = ("ece", "loss", "ece_scaled", "loss_scaled")
    scaled = None if any(one.scaled is None for one in found) else np.concatenate([one.scaled for one in found])
    return SystemCalibration(
        scores=mean_over_seeds([{name: getattr(one, name) for name in names} for one in found]),
        temperatures=tuple(value for one in found for value in one.temperatures.values()),
        at_bound=sum(len(one.at_bound) for one in found),
        plain=reliability(np.concatenate([one.probabilities for one in found]), labels),
        scaled=None if scaled is None else reliability(scaled, labels),
    )


def _confusion(runs: Sequence[Predictions], labels: int) -> np.ndarray:
    cells = np.concatenate([run.labels * labels + run.predicted for run in runs])
    return np.bincount(cells, minlength=labels**2).reshape(labels, labels)
