"""How far a figure can be trusted."""

import statistics
from collections.abc import Sequence

from scipy.stats import binomtest


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
