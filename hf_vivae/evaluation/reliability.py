"""Calibration of probabilities: reliability, expected calibration error and temperature scaling.

A calibrated probability of 70 % is right for 70 % of the clips; see
Guo, Pleiss, Sun and Weinberger, On Calibration of Modern Neural Networks, ICML 2017.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

from ..checkpoints.calibration import TEMPERATURES, fit_temperature
from ..metrics import cross_entropy
from .runs import Predictions


@dataclass(frozen=True)
class Reliability:
    """Confidence and accuracy of clips in bins of similar confidence.

    Args:
        bins: `(mean confidence, accuracy, clips)` of each bin that has clips, by rising confidence.
    """

    bins: tuple[tuple[float, float, int], ...]

    @property
    def error(self) -> float:
        """Expected calibration error (ECE): mean distance of confidence and accuracy over the clips, 0 to 1."""
        distances = [abs(confidence - accuracy) * clips for confidence, accuracy, clips in self.bins]
        return sum(distances) / sum(clips for _, _, clips in self.bins)


@dataclass(frozen=True)
class Calibration:
    """Calibration of the test clips of a run, without and with a temperature.

    Args:
        scores: `ece`, the expected calibration error, 0 to 1; `loss`, the mean cross entropy in nats; and
            `ece_scaled` and `loss_scaled`, those of `scaled`, or None without it.
        temperatures: of each fold, from its validation clips; empty where a fold has none.
        at_bound: folds whose temperature is 0.01 or 100, since the loss of their validation clips decreases beyond it:
            all of them are right, or their logits are independent of the label. Such a temperature is unreliable.
        probabilities: softmax of the logits, `(clips, labels)`.
        scaled: softmax of the logits over their fold's temperature, `(clips, labels)`; None where a fold has no
            validation clips.
    """

    scores: dict[str, float | None]
    temperatures: dict[str, float]
    at_bound: tuple[str, ...]
    probabilities: np.ndarray
    scaled: np.ndarray | None


def calibrate(test: Predictions, validation: Predictions | None) -> Calibration:
    """Return the calibration of a run, with a temperature for each fold that is not fitted on its test clips.

    Args:
        test: the test clips of a run.
        validation: its validation clips; None where it has none.
    """
    probabilities, folds = softmax(test.logits, axis=1), np.unique(test.folds).tolist()
    scores = {
        "ece": reliability(probabilities, test.labels).error,
        "loss": cross_entropy(test.logits, test.labels),
        "ece_scaled": None,
        "loss_scaled": None,
    }
    if validation is None or set(folds) - set(validation.folds.tolist()):
        return Calibration(scores, {}, (), probabilities, None)
    rows = {fold: validation.folds == fold for fold in folds}
    temperatures = {
        fold: fit_temperature(validation.logits[of_fold], validation.labels[of_fold]) for fold, of_fold in rows.items()
    }
    logits = test.logits / np.array([temperatures[fold] for fold in test.folds.tolist()])[:, None]
    scaled = softmax(logits, axis=1)
    scores["ece_scaled"] = reliability(scaled, test.labels).error
    scores["loss_scaled"] = cross_entropy(logits, test.labels)
    at_bound = tuple(fold for fold in folds if temperatures[fold] in TEMPERATURES)
    return Calibration(scores, temperatures, at_bound, probabilities, scaled)


def reliability(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> Reliability:
    """Return clips in bins of equal width by their confidence, the probability of the predicted label.

    Args:
        probabilities: `(clips, labels)`.
        labels: label index of each clip, `(clips,)`.
        bins: number of bins from 0 to 1; each includes its upper bound.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    # calibration_curve of scikit-learn has the same bins, but returns no number of clips
    member = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], confidence)
    filled = []
    for index in np.unique(member):
        rows = member == index
        filled.append((float(confidence[rows].mean()), float(right[rows].mean()), int(rows.sum())))
    return Reliability(tuple(filled))
