"""What a system scores: pooled, by seed, by fold and by group of clips, and how well it is calibrated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .calibration import Reliability, calibrate, reliability
from .evaluated import System
from .groups import GroupScore, by_duration, by_intensity, by_speaker
from .predictions import Predictions
from .resampling import Bounds, Estimate
from .statistics import (
    majority_scores,
    mean_over_seeds,
    per_fold_scores,
    point_scores,
    score_estimates,
    wilson_interval,
)

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
