"""The temperature that makes a checkpoint's probabilities as sure as they are right, fitted on validation clips.

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
# of a configuration; the library drops what is called `temperature` there
TEMPERATURE_FIELD = "calibration_temperature"


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature from 0.01 to 100 over which logits have the least cross entropy.

    Args:
        logits: `(clips, labels)`.
        labels: label index of each clip, `(clips,)`.
    """
    true = logits[np.arange(len(labels)), labels]

    def slope(log_inverse: float) -> float:
        inverse = np.exp(log_inverse)
        return float(np.mean((softmax(inverse * logits, axis=1) * logits).sum(axis=1) - true))

    # The loss is convex in 1 / temperature, so its slope has one root. A minimiser would stop anywhere on the plateau
    # of zero loss that logits which are right for every clip have.
    smallest, largest = TEMPERATURES
    if slope(-np.log(largest)) >= 0:
        return largest
    if slope(-np.log(smallest)) <= 0:
        return smallest
    return float(np.exp(-brentq(slope, -np.log(largest), -np.log(smallest))))


def keep_temperature(config: PreTrainedConfig, rows: Sequence[dict[str, Any]]) -> None:
    """Fit a temperature on the validation clips of a fold, and keep it in the configuration.

    None is kept where there are no such clips, and where the fit ends at 0.01 or 100, which is none to trust.

    Args:
        config: of the model that the logits are from.
        rows: those of `scoring.predict_parts`.
    """
    chosen = [row for row in rows if row["split"] == "validation"]
    if not chosen:
        return
    temperature = fit_temperature(
        np.asarray([row["logits"] for row in chosen]), np.asarray([row["label"] for row in chosen])
    )
    if temperature not in TEMPERATURES:
        setattr(config, TEMPERATURE_FIELD, temperature)


def temperature_of(config: PreTrainedConfig) -> float | None:
    """What a checkpoint's logits are to be divided by; None where it was not calibrated.

    Raises:
        ValueError: for a value that is no positive number.
    """
    found = getattr(config, TEMPERATURE_FIELD, None)
    if found is not None and not (type(found) in (int, float) and 0 < found < float("inf")):
        raise UserError(
            f"expected a positive number as {TEMPERATURE_FIELD} in config.json, found {found!r}; correct or remove it."
        )
    return found
