"""Bootstrap intervals of any score: over clips, and over whole speakers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, t

from .predictions import Predictions

RESAMPLES = 2000
LEVEL = 0.95
FEWEST = 5  # clips or speakers; fewer say too little about others
NUMBERS = 2**20  # in the weights of one batch of resamples: 8 MB, whatever the corpus
Bounds = tuple[float, float]
# weights, `(clips, resamples)`: how often each clip was drawn -> scores by name, `(resamples,)`, NaN where undefined
Statistic = Callable[[np.ndarray], Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Estimate:
    """A score with 95 % bootstrap bounds.

    The bounds are about other clips and other speakers for the models as they were trained; what training with another
    seed changes is the spread over seeds. They meet where every clip is right or every clip wrong.

    Args:
        value: mean over the seeds; None where it is undefined for a seed.
        clips: bounds for the chance that other clips had been drawn, each on its own. Clips of one speaker are alike,
            so these are too narrow for a statement about unseen speakers.
        speakers: bounds for the chance that other speakers had been drawn, with all their clips; None where a speaker
            is unknown. Either bounds are None for fewer than 5 clips or speakers, and where more than 5 % of the
            resamples leave the score undefined, such as the AUC of a label that two clips have.
    """

    value: float | None
    clips: Bounds | None
    speakers: Bounds | None


@dataclass(frozen=True)
class Clips:
    """The different clips that some runs tested, sorted by file.

    Args:
        files: name of each clip, `(clips,)`.
        speakers: `(clips,)`; "" where unknown.
        places: for each run the index among these clips of each of its rows, `(rows,)`.
    """

    files: np.ndarray
    speakers: np.ndarray
    places: tuple[np.ndarray, ...]

    def __len__(self) -> int:
        return len(self.files)


def different_clips(runs: Sequence[Predictions]) -> Clips:
    """The clips that some runs tested: all the same ones, unless the protocol draws anew for each seed.

    Args:
        runs: one or more.
    """
    files, first, places = np.unique(
        np.concatenate([run.files for run in runs]), return_index=True, return_inverse=True
    )
    ends = np.cumsum([len(run) for run in runs])[:-1]
    speakers = np.concatenate([run.speakers for run in runs])[first]
    return Clips(files, speakers, tuple(np.split(places, ends)))


def estimates(
    values: Mapping[str, float | None],
    statistic: Statistic,
    clips: Clips,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Scores with their bounds.

    Args:
        values: scores by name.
        statistic: the same scores of resamples.
        clips: those that are drawn.
        resamples: number of draws, of clips and again of speakers.
        seed: of the draws; the same seed gives the same bounds, in whatever order the rows are.
    """
    by_clip = bootstrap_bounds(statistic, clips.files, resamples, seed)
    by_speaker = {} if "" in clips.speakers else bootstrap_bounds(statistic, clips.speakers, resamples, seed)
    return {name: Estimate(value, by_clip.get(name), by_speaker.get(name)) for name, value in values.items()}


def bootstrap_bounds(
    statistic: Statistic, drawn: np.ndarray, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Bounds | None]:
    """95 % bounds of each score of a statistic, by the cluster bootstrap with expanded percentiles.

    As many clusters as there are get drawn with replacement, each with all its clips; one that is drawn twice counts
    twice (Davison and Hinkley, Bootstrap Methods and their Application, 1997; Field and Welsh, Bootstrapping clustered
    data, Journal of the Royal Statistical Society B 69, 2007). Percentiles of few clusters are too narrow, by about as
    much as a normal quantile is below Student's, and are taken further out for it (Hesterberg, What Teachers Should
    Know About the Bootstrap, The American Statistician 69, 2015).

    Args:
        statistic: scores of weighted clips.
        drawn: name of each clip's cluster, `(clips,)`: its speaker, or its file where clips are drawn.
        resamples: number of draws.
        seed: of the draws.

    Returns:
        Bounds by name of the score; nothing for fewer than 5 clusters.
    """
    names, members = np.unique(drawn, return_inverse=True)
    if len(names) < FEWEST:
        return {}
    batches = [statistic(counts[members]) for counts in _draws(len(names), resamples, len(drawn), seed)]
    level = expanded_level(len(names))
    return {name: _percentiles(np.concatenate([batch[name] for batch in batches]), level) for name in batches[0]}


def expanded_level(clusters: int) -> float:
    """Share of resamples to leave out on either side for 95 % bounds over so many clusters; 0.025 for very many."""
    quantile = t.ppf((1 - LEVEL) / 2, clusters - 1)
    return float(norm.cdf(math.sqrt(clusters / (clusters - 1)) * quantile))


def _draws(clusters: int, resamples: int, clips: int, seed: int) -> Iterator[np.ndarray]:
    # Not scipy.stats.bootstrap: it gives indices, of which weights would have to be counted, expects a single score,
    # and has no bounds for a score that a resample leaves undefined.
    rng = np.random.default_rng(seed)
    size = max(1, NUMBERS // clips)
    for start in range(0, resamples, size):
        batch = min(size, resamples - start)
        indices = rng.integers(clusters, size=(clusters, batch)) * batch + np.arange(batch)
        yield np.bincount(indices.ravel(), minlength=clusters * batch).reshape(clusters, batch).astype(float)


def _percentiles(scores: np.ndarray, level: float) -> Bounds | None:
    defined = scores[~np.isnan(scores)]
    if len(defined) < LEVEL * len(scores):
        return None
    low, high = np.quantile(defined, [level, 1 - level])
    return float(low), float(high)
