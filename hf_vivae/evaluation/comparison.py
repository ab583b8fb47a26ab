"""Paired comparisons of systems: bootstrap of differences and McNemar's test."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations
from typing import Any

import numpy as np

from ..metrics import label_scores
from ..validation import UserError
from .bootstrap import RESAMPLES, Estimate, different_clips, estimates, weighted_label_scores
from .runs import Predictions
from .scores import SystemScores, Tests, mean_over_seeds, score_system
from .systems import Group, System

SCORES = ("accuracy", "uar")
EXACT_BELOW = 25  # discordant clips, above which chi-squared with continuity correction is accurate
MOST_PAIRED = 10  # systems of which all pairs are compared: 45 pairs; more need a baseline


@dataclass(frozen=True)
class Comparison:
    """Differences of the first system minus the second.

    Args:
        clips: number of different clips that both tested.
        accuracy: difference in accuracy, mean over seeds.
        uar: difference in UAR, mean over seeds.
        only_first: clips that only the first classified correctly; None with several seeds.
        only_second: clips that only the second classified correctly; None with several seeds.
        p_value: of McNemar's test, which takes clips as independent; where speakers differ, bounds over speakers are
            more reliable. None with several seeds.
    """

    clips: int
    accuracy: Estimate
    uar: Estimate
    only_first: int | None
    only_second: int | None
    p_value: float | None


def compare(
    first: Sequence[Predictions],
    second: Sequence[Predictions],
    names: tuple[str, str],
    label_names: Sequence[str],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Return the difference of two systems, with a paired bootstrap and, for one seed each, McNemar's test.

    A resample draws clips, or speakers, once for both systems and all seeds.

    Args:
        first: the test clips of each seed of a system, over all folds.
        second: those of the other system, seed by seed on the same clips.
        names: of the systems, for errors.
        label_names: name of each label, in the order of the logits.
        resamples: number of draws, of clips and again of speakers.
        seed: of the draws.

    Raises:
        UserError: the systems have different numbers of seeds, or seeds at the same position tested different clips
            or have different labels for a clip.
    """
    if len(first) != len(second):
        raise UserError(
            f"expected as many seeds of {names[0]} as of {names[1]}, found {len(first)} and {len(second)}: "
            "compare the seeds that both have"
        )
    for number, pair in enumerate(zip(first, second, strict=True), start=1):
        _check_clips(*pair, names if len(first) == 1 else tuple(f"seed {number} of {name}" for name in names))
    clips = different_clips([*first, *second])
    values = [
        mean_over_seeds([label_scores(run.labels, run.predicted) for run in system]) for system in (first, second)
    ]
    of_runs = [
        weighted_label_scores(run, rows, len(clips), len(label_names))
        for run, rows in zip([*first, *second], clips.indices, strict=True)
    ]

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        scores = [of_run(weights) for of_run in of_runs]
        by_name = {name: np.array([of_run[name] for of_run in scores]) for name in SCORES}
        return {
            name: of_both[: len(first)].mean(axis=0) - of_both[len(first) :].mean(axis=0)
            for name, of_both in by_name.items()
        }

    points = {score: values[0][score] - values[1][score] for score in SCORES}
    differences = estimates(points, statistic, clips, resamples, seed)
    only_first = only_second = p_value = None
    if len(first) == 1:
        correct = [(run.predicted == run.labels)[np.argsort(run.files)] for run in (first[0], second[0])]
        only_first, only_second = (int(np.sum(own & ~other)) for own, other in (correct, correct[::-1]))
        p_value = mcnemar_p_value(only_first, only_second)
    return Comparison(len(clips), differences["accuracy"], differences["uar"], only_first, only_second, p_value)


def _check_clips(first: Predictions, second: Predictions, names: tuple[str, str]) -> None:
    labels = [dict(zip(run.files.tolist(), run.labels.tolist(), strict=True)) for run in (first, second)]
    only = [sorted(labels[0].keys() - labels[1].keys()), sorted(labels[1].keys() - labels[0].keys())]
    if only[0] or only[1]:
        different = " and ".join(f"{_count(files)} only in {name}" for files, name in zip(only, names, strict=True))
        raise UserError(
            f"expected the same clips in {names[0]} and {names[1]}, found {different}: "
            "compare runs of one protocol, seed and corpus"
        )
    differ = sorted(file for file, label in labels[0].items() if labels[1][file] != label)
    if differ:
        raise UserError(
            f"expected the same labels in {names[0]} and {names[1]}, found different ones for {_count(differ)}: "
            "compare runs of one task and corpus"
        )


def _count(files: Sequence[str]) -> str:
    first = f" (first: {', '.join(files[:3])})" if files else ""
    return f"{len(files)} {'clip' if len(files) == 1 else 'clips'}{first}"


def mcnemar_p_value(only_first: int, only_second: int) -> float:
    """Return the p-value of McNemar's test (1947).

    It is exact below 25 discordant clips, else chi-squared with continuity correction; 1 without discordant clips.

    Args:
        only_first: clips that only the first classified correctly.
        only_second: clips that only the second classified correctly.
    """
    from statsmodels.stats.contingency_tables import mcnemar

    exact = only_first + only_second < EXACT_BELOW
    return float(mcnemar([[0, only_first], [only_second, 0]], exact=exact, correction=True).pvalue)


def adjusted_p_values(p_values: Sequence[float]) -> list[float]:
    """Return p-values that are adjusted for the number of comparisons (Holm, 1979), in the same order.

    Args:
        p_values: of all comparisons that are made.
    """
    from statsmodels.stats.multitest import multipletests

    return multipletests(p_values, method="holm")[1].tolist() if len(p_values) else []


@dataclass(frozen=True)
class Pair:
    """Two systems on the same clips.

    Args:
        first: the system that is compared.
        second: the system that it is compared with.
        seeds: shared seeds, which are compared.
        comparison: the first minus the second.
        adjusted: McNemar's p-value, adjusted for all pairs of the group (Holm); None with several seeds.
    """

    first: System
    second: System
    seeds: tuple[str, ...]
    comparison: Comparison
    adjusted: float | None


@dataclass(frozen=True)
class GroupScores:
    """Scores and comparisons of the systems of a group.

    Args:
        group: the group.
        systems: those with all folds first, then by UAR, the best first.
        pairs: comparisons in the order of the systems.
        not_compared: a sentence for each pair that has no comparison, or for all of them.
    """

    group: Group
    systems: tuple[SystemScores, ...]
    pairs: tuple[Pair, ...]
    not_compared: tuple[str, ...]

    @property
    def majority(self) -> Mapping[str, float]:
        """Scores of predicting the most frequent label of the training clips, means over the systems' splits."""
        with_training_clips = [scores.majority for scores in self.systems if not scores.system.is_foreign]
        return mean_over_seeds(with_training_clips or [scores.majority for scores in self.systems])


def score_group(group: Group, baseline: str | None, done: Callable[[], Any]) -> GroupScores:
    """Score all systems, reading the predictions of one at a time, and compare them.

    Args:
        group: systems on the same clips.
        baseline: name of the system that all others are compared with; None compares all pairs of up to 10 systems.
        done: called after each system.
    """
    systems = []
    for system in group.systems:
        systems.append(score_system(system, group.labels))
        done()
    systems.sort(key=lambda scores: (not scores.system.whole, -scores.estimates["uar"].value))
    pairs, not_compared = _compare_systems([scores.system for scores in systems], group.labels, baseline)
    return GroupScores(group, tuple(systems), pairs, not_compared)


def _compare_systems(
    systems: Sequence[System], labels: Sequence[str], baseline: str | None
) -> tuple[tuple[Pair, ...], tuple[str, ...]]:
    if baseline is None and len(systems) > MOST_PAIRED:
        return (), (f"The {len(systems)} systems are not compared in pairs; name one with --baseline.",)
    seconds = [system for system in systems if system.name == baseline]
    if baseline is not None and not seconds:
        return (), (f"The baseline {baseline} has no runs on these clips.",)
    others = [system for system in systems if system.name != baseline]
    couples = combinations(systems, 2) if baseline is None else ((system, seconds[0]) for system in others)
    read = lru_cache(maxsize=MOST_PAIRED)(_tests_by_seed)
    pairs, not_compared = [], []
    for first, second in couples:
        try:
            pairs.append(_compare_pair(first, second, read(first), read(second), labels))
        except UserError as problem:
            not_compared.append(f"{first.name} and {second.name} are not compared: {problem}.")
    tested = [index for index, pair in enumerate(pairs) if pair.comparison.p_value is not None]
    adjusted = adjusted_p_values([pairs[index].comparison.p_value for index in tested])
    for index, p_value in zip(tested, adjusted, strict=True):
        pairs[index] = replace(pairs[index], adjusted=p_value)
    return tuple(pairs), tuple(not_compared)


def _tests_by_seed(system: System) -> Tests:
    """Return its test clips for each seed; an ensemble over seeds has the same clips for each of them."""
    return {seed: test for run in system.runs for test in [run.read("test")] for seed in run.seeds}


def _compare_pair(first: System, second: System, tests: Tests, others: Tests, labels: Sequence[str]) -> Pair:
    seeds = tuple(seed for seed in tests if seed in others)
    if not seeds:
        raise UserError(
            f"expected a seed that both have, found {', '.join(tests)} of one and {', '.join(others)} of the other"
        )
    shared = ([of_system[seed] for seed in seeds] for of_system in (tests, others))
    return Pair(first, second, seeds, compare(*shared, (first.name, second.name), labels), None)
