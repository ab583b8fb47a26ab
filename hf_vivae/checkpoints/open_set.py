"""Rejection of clips that have none of a checkpoint's labels: a background class, or a threshold of the largest logit.

Both give the output a last label, `unknown`. The maximum logit is the score of Hendrycks, Basart, Mazeika, Zou, Kwon,
Mostajabi, Steinhardt and Song, Scaling Out-of-Distribution Detection for Real-World Settings, ICML 2022.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedConfig

from ..validation import UserError

UNKNOWN = "unknown"
BACKGROUND = ("background", "noise", "other")  # in any case; labels of clips that have none of the other labels
# fields of a configuration
BACKGROUND_FIELD = "background_labels"
OPEN_SET_FIELD = "open_set"
MAX_LOGIT = "max_logit"


@dataclass(frozen=True)
class OutputLabels:
    """Labels of a checkpoint's output, into which its logits are merged.

    Args:
        names: the model's labels without those of background, and `unknown` as the last where clips can be rejected.
        known: index of the logit of each of them but `unknown`.
        background: indices of the logits that are merged into `unknown`.
        threshold: of the largest logit, below which a clip is `unknown`; None without one.
    """

    names: tuple[str, ...]
    known: tuple[int, ...]
    background: tuple[int, ...] = ()
    threshold: float | None = None

    @property
    def unknown(self) -> int | None:
        """Index of `unknown` among the names; None where no clip is rejected."""
        return None if len(self.names) == len(self.known) else len(self.known)

    def merge(self, logits: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
        """Return logits of the names, `(clips, names)`, whose softmax is the probabilities.

        The probability of `unknown` is the sum of those of the background classes. A threshold is the logit of one
        more class, which is the likeliest exactly where all logits are below it.

        Args:
            logits: of the model, `(clips, labels)`.
            temperature: by which they are divided.
        """
        logits = logits / temperature
        if self.unknown is None:
            return logits
        rejected = [logits[:, list(self.background)]] if self.background else []
        if self.threshold is not None:
            rejected.append(torch.full_like(logits[:, :1], self.threshold / temperature))
        unknown = torch.logsumexp(torch.cat(rejected, dim=-1), dim=-1, keepdim=True)
        return torch.cat((logits[:, list(self.known)], unknown), dim=-1)


def output_labels(config: PreTrainedConfig) -> OutputLabels:
    """Return the labels of a checkpoint's output.

    Raises:
        UserError: for fields of its configuration that are not as training writes them.
    """
    names = [config.id2label[index] for index in range(config.num_labels)]
    background = getattr(config, BACKGROUND_FIELD, None) or []
    if not (isinstance(background, list) and all(name in names for name in background)):
        raise UserError(
            f"expected a list of labels as {BACKGROUND_FIELD} in config.json, found {background!r}; correct or remove "
            "it."
        )
    open_set = getattr(config, OPEN_SET_FIELD, None)
    threshold = open_set.get("threshold") if isinstance(open_set, dict) else None
    is_finite = type(threshold) in (int, float) and math.isfinite(threshold)
    if open_set is not None and not (is_finite and open_set.get("score") == MAX_LOGIT):
        raise UserError(
            f"expected the score {MAX_LOGIT} and a finite threshold as {OPEN_SET_FIELD} in config.json, found "
            f"{open_set!r}; correct or remove it."
        )
    known = tuple(index for index, name in enumerate(names) if name not in background)
    kept = tuple(names[index] for index in known)
    if background or open_set is not None:
        if not known or UNKNOWN in kept:
            raise UserError(
                f"expected labels besides {', '.join(background) or UNKNOWN}, and none called {UNKNOWN}, in "
                f"config.json, found {', '.join(names)}; correct them, or remove {BACKGROUND_FIELD} and "
                f"{OPEN_SET_FIELD}."
            )
        kept = (*kept, UNKNOWN)
    return OutputLabels(kept, known, tuple(map(names.index, background)), threshold)


def background_labels(names: Sequence[str]) -> list[str]:
    """Return those of some labels that are names of background.

    Raises:
        UserError: where all are, or where another is called `unknown`.
    """
    background = [name for name in names if name.lower() in BACKGROUND]
    if not background:
        return []
    if len(background) == len(names):
        raise UserError(
            f"expected a label that is no background, found only {', '.join(background)}; add clips of other labels, "
            "or rename these with --label_map."
        )
    check_unknown_is_free(names, f"with the background class {background[0]}")
    return background


def check_unknown_is_free(names: Sequence[str], reason: str) -> None:
    """Refuse a label called `unknown` where that is the label of rejected clips.

    Raises:
        UserError: with the reason, to follow "expected no label unknown".
    """
    if UNKNOWN in names:
        raise UserError(
            f"expected no label {UNKNOWN} {reason}, whose clips get that label, found one; rename it with --label_map."
        )


def fewest_clips(rate: float) -> int:
    """Return the number of validation clips that a threshold needs at a rate of false rejections."""
    return math.ceil(1 / rate - 1e-9) - 1


def fit_threshold(logits: np.ndarray, rate: float) -> float:
    """Return the threshold of the largest logit below which a share of further clips, at most `rate`, is expected.

    Of n clips, it is the largest logit with rank floor(rate (n + 1)) from below, so that a further clip that is
    exchangeable with these is rejected with a probability of at most `rate` (split conformal prediction; Vovk,
    Gammerman and Shafer, Algorithmic Learning in a Random World, 2005).

    Args:
        logits: of clips that have the labels, `(clips, labels)`; at least `fewest_clips`.
        rate: above 0 and below 1.
    """
    largest = np.sort(logits.max(axis=1))
    return float(largest[int(rate * (len(largest) + 1) + 1e-9) - 1])


def keep_threshold(config: PreTrainedConfig, rows: Sequence[dict[str, Any]], rate: float) -> None:
    """Fit a threshold on the validation clips of a fold, and write it into the configuration.

    Args:
        config: configuration of the model that gave the logits, changed in place.
        rows: rows of `scoring.predict_parts`.
        rate: of false rejections.
    """
    logits = np.asarray([row["logits"] for row in rows if row["split"] == "validation"])
    threshold = fit_threshold(logits, rate)
    fitted = {"score": MAX_LOGIT, "threshold": threshold, "rate": rate, "clips": len(logits)}
    setattr(config, OPEN_SET_FIELD, fitted)
