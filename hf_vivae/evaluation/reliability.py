"""Whether a probability of 70 % is right in 70 % of the clips, and temperatures that make it more so.

Guo, Pleiss, Sun and Weinberger, On Calibration of Modern Neural Networks, ICML 2017.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import log_softmax, softmax

from ..checkpoints.calibration import TEMPERATURES, fit_temperature
from .runs import Predictions


@dataclass(frozen=True)
class Reliability:
    """Confidence and accuracy of clips with like confidence.

    Args:
        bins: `(mean confidence, accuracy, clips)` of each bin that has clips, by rising confidence.
    """

    bins: tuple[tuple[float, float, int], ...]


@dataclass(frozen=True)
class Calibration:
    """How well the probabilities of test clips tell how often they are right, as they are and with a temperature.

    Args:
        ece: expected calibration error, 0 to 1.
        loss: mean cross entropy in nats.
        ece_scaled: that of `scaled`; None without it.
        loss_scaled: that of `scaled`; None without it.
        temperatures: of each fold, from its validation clips; empty where a fold has none.
        at_bound: folds whose temperature is 0.01 or 100, since the loss of their validation clips falls on beyond it:
            all of them are right, or their logits know nothing of the label. Such a temperature is none to trust.
        probabilities: softmax of the logits, `(clips, labels)`.
        scaled: softmax of the logits over their fold's temperature, `(clips, labels)`; None where a fold has no
            validation clips.
    """

    ece: float
    loss: float
    ece_scaled: float | None
    loss_scaled: float | None
    temperatures: dict[str, float]
    at_bound: tuple[str, ...]
    probabilities: np.ndarray
    scaled: np.ndarray | None


def calibrate(test: Predictions, validation: Predictions | None) -> Calibration:
    """Calibration of a run, with a temperature for each fold that its test clips had no part in.

    Args:
        test: the test clips of a run.
        validation: its validation clips; None where it has none.
    """
    probabilities = softmax(test.logits, axis=1)
    ece, loss = expected_calibration_error(probabilities, test.labels), _cross_entropy(test.logits, test.labels)
    folds = np.unique(test.folds).tolist()
    if validation is None or set(folds) - set(validation.folds.tolist()):
        return Calibration(ece, loss, None, None, {}, (), probabilities, None)
    temperatures = {fold: _fold_temperature(validation, fold) for fold in folds}
    logits = test.logits / np.array([temperatures[fold] for fold in test.folds.tolist()])[:, None]
    scaled = softmax(logits, axis=1)
    return Calibration(
        ece=ece,
        loss=loss,
        ece_scaled=expected_calibration_error(scaled, test.labels),
        loss_scaled=_cross_entropy(logits, test.labels),
        temperatures=temperatures,
        at_bound=tuple(fold for fold in folds if temperatures[fold] in TEMPERATURES),
        probabilities=probabilities,
        scaled=scaled,
    )


def _fold_temperature(validation: Predictions, fold: str) -> float:
    chosen = validation.folds == fold
    return fit_temperature(validation.logits[chosen], validation.labels[chosen])


def _cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    return float(-log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean())


def reliability(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> Reliability:
    """Clips in bins of equal width by their confidence, the probability of the label that they are given.

    Args:
        probabilities: `(clips, labels)`.
        labels: label index of each clip, `(clips,)`.
        bins: number of bins from 0 to 1; each holds its upper bound.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    # calibration_curve of scikit-learn has the same bins, but does not say how many clips are in them.
    member = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], confidence)
    found = []
    for index in np.unique(member):
        chosen = member == index
        found.append((float(confidence[chosen].mean()), float(right[chosen].mean()), int(chosen.sum())))
    return Reliability(tuple(found))


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Mean distance of confidence and accuracy over the bins of `reliability`, weighted by their clips (ECE).

    Args:
        probabilities: `(clips, labels)`.
        labels: label index of each clip, `(clips,)`.
        bins: number of bins from 0 to 1.
    """
    found = reliability(probabilities, labels, bins).bins
    return sum(abs(confidence - accuracy) * clips for confidence, accuracy, clips in found) / len(labels)
