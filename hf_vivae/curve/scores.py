"""Scores of a curve: UAR of each number of speakers with its band, and the gain from one number to the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from ..evaluation.bootstrap import RESAMPLES, Bounds, bootstrap_bounds, different_clips, weighted_label_scores
from ..evaluation.runs import Predictions
from ..metrics import label_scores


@dataclass(frozen=True)
class CurveScore:
    """UAR of a model that learnt from one number of speakers.

    Args:
        draws: UAR of each draw.
        uar: their mean.
        bounds: 95 % bounds of the mean, over test speakers and draws; None for fewer than 5 test speakers.
        gain: mean minus that of the next smaller number; None for the smallest.
        gain_bounds: 95 % bounds of the gain, on the same test speakers and draws.
    """

    draws: list[float]
    uar: float
    bounds: Bounds | None
    gain: float | None
    gain_bounds: Bounds | None


def score_curve(
    tests: Sequence[Sequence[Predictions]], num_labels: int, resamples: int = RESAMPLES, seed: int = 0
) -> list[CurveScore]:
    """Return the score of each number of speakers, with bounds over test speakers and draws.

    A resample draws test speakers with all their clips, as in `bootstrap_bounds`, and, independently of them, draws of
    training speakers, for all numbers of speakers together. Of n draws it takes n - 1 with replacement: n would give
    the mean a variance that is too small by 1 - 1/n (Hesterberg, What Teachers Should Know About the Bootstrap, The
    American Statistician 69, 2015). So the bounds cover the choice of the speakers that are tested and of those that
    are learnt from; a t interval over the draws alone would leave out the former, which is usually the larger part.

    Args:
        tests: for each number of speakers, in ascending order, the test clips of each draw; the last number may have
            one run for all draws. All runs test the same clips.
        num_labels: number of labels.
        resamples: number of resamples.
        seed: of the resamples.
    """
    clips = different_clips([run for runs in tests for run in runs])
    indices = iter(clips.indices)
    statistics = [
        [weighted_label_scores(run, next(indices), len(clips), num_labels) for run in runs] for runs in tests
    ]
    draws, rng = len(tests[0]), np.random.default_rng(seed)

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        shares = np.ones((1, weights.shape[1]))
        if draws > 1:
            shares = rng.multinomial(draws - 1, np.full(draws, 1 / draws), weights.shape[1]).T / (draws - 1)
        means = []
        for runs in statistics:
            scores = np.stack([run(weights)["uar"] for run in runs])  # (draws, resamples)
            means.append((shares * scores).sum(axis=0) if len(runs) == draws else scores[0])
        gains = {f"gain {index}": means[index] - means[index - 1] for index in range(1, len(means))}
        return {**{f"uar {index}": mean for index, mean in enumerate(means)}, **gains}

    bounds = bootstrap_bounds(statistic, clips.speakers, resamples, seed)
    by_draw = [[label_scores(run.labels, run.predicted)["uar"] for run in runs] for runs in tests]
    means = [fmean(scores) for scores in by_draw]
    return [
        CurveScore(
            scores,
            means[index],
            bounds.get(f"uar {index}"),
            means[index] - means[index - 1] if index else None,
            bounds.get(f"gain {index}"),
        )
        for index, scores in enumerate(by_draw)
    ]
