"""Scores by speaker, by intensity and by duration, and whether a group is harder than all other clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from ..corpus import INTENSITIES
from .predictions import Predictions
from .resampling import Estimate, Statistic, different_clips, estimates
from .statistics import absent_labels, label_point_scores, wilson_interval
from .weighted_scores import ratio


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
