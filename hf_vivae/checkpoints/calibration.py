"""Temperature scaling: a divisor of the logits, fitted on validation clips, that calibrates the probabilities.

Guo, Pleiss, Sun and Weinberger, On Calibration of Modern Neural Networks, ICML 2017.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.special import softmax
from transformers import PreTrainedConfig

from ..validation import UserError

TEMPERATURES = (0.01, 100.0)
# field of a configuration; the library drops a field called `temperature`
TEMPERATURE_FIELD = "calibration_temperature"


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature from 0.01 to 100 that minimises the cross entropy of logits divided by it.

    Args:
        logits: `(clips, labels)`.
        labels: label index of each clip, `(clips,)`.
    """
    true = logits[np.arange(len(labels)), labels]

    def slope(log_inverse: float) -> float:
        inverse = np.exp(log_inverse)
        return float(np.mean((softmax(inverse * logits, axis=1) * logits).sum(axis=1) - true))

    # The loss is convex in 1 / temperature, so its slope has one root. A minimiser would stop anywhere on the plateau
    # of zero loss of logits that are right for every clip.
    smallest, largest = TEMPERATURES
    if slope(-np.log(largest)) >= 0:
        return largest
    if slope(-np.log(smallest)) <= 0:
        return smallest
    return float(np.exp(-brentq(slope, -np.log(largest), -np.log(smallest))))


def keep_temperature(config: PreTrainedConfig, rows: Sequence[dict[str, Any]]) -> None:
    """Fit a temperature on the validation clips of a fold, and write it into the configuration.

    Without validation clips there is none, nor where the fit ends at 0.01 or 100, which is not to be trusted.

    Args:
        config: configuration of the model that gave the logits, changed in place.
        rows: rows of `scoring.predict_parts`.
    """
    validation = [row for row in rows if row["split"] == "validation"]
    if not validation:
        return
    temperature = fit_temperature(
        np.asarray([row["logits"] for row in validation]), np.asarray([row["label"] for row in validation])
    )
    if temperature not in TEMPERATURES:
        setattr(config, TEMPERATURE_FIELD, temperature)


def temperature_of(config: PreTrainedConfig) -> float | None:
    """Return the divisor of a checkpoint's logits; None where it was not calibrated.

    Raises:
        UserError: for a value that is not a positive number.
    """
    value = getattr(config, TEMPERATURE_FIELD, None)
    if value is not None and not (type(value) in (int, float) and 0 < value < float("inf")):
        raise UserError(
            f"expected a positive number as {TEMPERATURE_FIELD} in config.json, found {value!r}; correct or remove it."
        )
    return value
