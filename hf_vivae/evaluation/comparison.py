"""Paired tests between runs and between groups of clips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations
from typing import Any

import numpy as np

from ..validation import UserError
from .bootstrap import RESAMPLES, Estimate, ResampledClips, different_clips, estimates, label_scores
from .runs import Predictions
from .scores import SystemScores, Tests, label_point_scores, mean_over_seeds, score_system
from .systems import Group, System

SCORES = ("accuracy", "uar")
EXACT_BELOW = 25  # discordant clips; from here on chi-squared with continuity correction is close


@dataclass(frozen=True)
class Comparison:
    """The first system against the second.

    Args:
        clips: number of different clips that both tested.
        accuracy: of the first minus the second, means over seeds.
        uar: the same of UAR.
        only_first: clips that only the first has right; None with several seeds.
        only_second: clips that only the second has right; None with several seeds.
        p_value: McNemar's, of the hypothesis that either is right alone equally often; it takes the clips as
            independent, so where speakers differ, trust the bounds over speakers more. None with several seeds.
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
    """Difference of two systems, with a paired bootstrap and, for one seed each, McNemar's test.

    A resample draws clips, or speakers, once for both systems and all seeds.

    Args:
        first: the test clips of each seed of a system, over all folds.
        second: those of the other system, seed by seed on the same clips.
        names: of the systems, for errors.
        label_names: name of each label, in the order of the logits.
        resamples: number of draws, of clips and again of speakers.
        seed: of the draws.

    Raises:
        ValueError: the systems have different numbers of seeds, or seeds in the same place tested different clips or
            gave a clip different labels.
    """
    _check_seeds(first, second, names)
    clips = different_clips([*first, *second])
    values = [
        mean_over_seeds([label_point_scores(run.labels, run.predicted) for run in system])
        for system in (first, second)
    ]
    differences = estimates(
        {score: values[0][score] - values[1][score] for score in SCORES},
        _difference(first, second, clips, len(label_names)),
        clips,
        resamples,
        seed,
    )
    alone = _discordant(first[0], second[0]) if len(first) == 1 else (None, None)
    p_value = mcnemar_p_value(*alone) if len(first) == 1 else None
    return Comparison(len(clips), differences["accuracy"], differences["uar"], *alone, p_value)


def _difference(
    first: Sequence[Predictions], second: Sequence[Predictions], clips: ResampledClips, labels: int
) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    of_runs = [
        label_scores(run, places, len(clips), labels)
        for run, places in zip([*first, *second], clips.places, strict=True)
    ]

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        scores = [of_run(weights) for of_run in of_runs]
        by_name = {name: np.array([of_run[name] for of_run in scores]) for name in SCORES}
        return {
            name: found[: len(first)].mean(axis=0) - found[len(first) :].mean(axis=0)
            for name, found in by_name.items()
        }

    return statistic


def _check_seeds(first: Sequence[Predictions], second: Sequence[Predictions], names: tuple[str, str]) -> None:
    if len(first) != len(second):
        raise UserError(
            f"expected as many seeds of {names[0]} as of {names[1]}, found {len(first)} and {len(second)}: "
            "compare the seeds that both have"
        )
    for number, pair in enumerate(zip(first, second, strict=True), start=1):
        _check_clips(*pair, names if len(first) == 1 else tuple(f"seed {number} of {name}" for name in names))


def _check_clips(first: Predictions, second: Predictions, names: tuple[str, str]) -> None:
    labels = [dict(zip(run.files.tolist(), run.labels.tolist(), strict=True)) for run in (first, second)]
    only = [sorted(labels[0].keys() - labels[1].keys()), sorted(labels[1].keys() - labels[0].keys())]
    if only[0] or only[1]:
        found = " and ".join(f"{_count(files)} only in {name}" for files, name in zip(only, names, strict=True))
        raise UserError(
            f"expected the same clips in {names[0]} and {names[1]}, found {found}: "
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


def _discordant(first: Predictions, second: Predictions) -> tuple[int, int]:
    right = [(run.predicted == run.labels)[np.argsort(run.files)] for run in (first, second)]
    return int(np.sum(right[0] & ~right[1])), int(np.sum(right[1] & ~right[0]))


def mcnemar_p_value(only_first: int, only_second: int) -> float:
    """P-value of McNemar's test (1947): exact below 25 discordant clips, else chi-squared with continuity correction.

    Args:
        only_first: clips that only the first has right.
        only_second: clips that only the second has right; 1 where it has none and the first has none.
    """
    from statsmodels.stats.contingency_tables import mcnemar

    exact = only_first + only_second < EXACT_BELOW
    return float(mcnemar([[0, only_first], [only_second, 0]], exact=exact, correction=True).pvalue)


def adjusted_p_values(p_values: Sequence[float]) -> list[float]:
    """P-values of several comparisons, adjusted so that the chance of any false finding stays as stated (Holm, 1979).

    Args:
        p_values: of all comparisons that are made; the adjusted ones come in the same order.
    """
    from statsmodels.stats.multitest import multipletests

    return multipletests(p_values, method="holm")[1].tolist() if len(p_values) else []


MOST_PAIRED = 10  # systems of which all pairs are compared: 45 pairs; more need a baseline


@dataclass(frozen=True)
class Pair:
    """Two systems on the same clips.

    Args:
        first: the system that is compared.
        second: the one that it is compared with.
        seeds: that both have, and that were compared.
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
    """A group of systems, scored and compared.

    Args:
        group: the group.
        systems: whole ones first, then by UAR, the best first.
        pairs: comparisons in the order of the systems.
        not_compared: a sentence for each pair that has no comparison, or for all of them.
    """

    group: Group
    systems: tuple[SystemScores, ...]
    pairs: tuple[Pair, ...]
    not_compared: tuple[str, ...]


def score_group(group: Group, baseline: str | None, done: Callable[[], Any]) -> GroupScores:
    """Score all systems, reading the predictions of one at a time, and compare them.

    Args:
        group: systems on like clips.
        baseline: name of the system that all others are compared with; None compares all pairs of up to 10 systems.
        done: called after each system.
    """
    systems = []
    for system in group.systems:
        systems.append(score_system(system, group.labels))
        done()
    systems.sort(key=lambda scores: (not scores.system.whole, -scores.estimates["uar"].value))
    return GroupScores(group, tuple(systems), *_compare([one.system for one in systems], group.labels, baseline))


def _compare(
    systems: Sequence[System], labels: Sequence[str], baseline: str | None
) -> tuple[tuple[Pair, ...], tuple[str, ...]]:
    if baseline is None and len(systems) > MOST_PAIRED:
        return (), (f"The {len(systems)} systems are not compared in pairs; name one with --baseline.",)
    seconds = [system for system in systems if system.name == baseline]
    if baseline is not None and not seconds:
        return (), (f"The baseline {baseline} has no runs on these clips.",)
    couples = combinations(systems, 2) if baseline is None else ((one, seconds[0]) for one in systems)
    read = lru_cache(maxsize=MOST_PAIRED)(_tests_by_seed)
    found, refused = [], []
    for first, second in couples:
        if first is second:
            continue
        try:
            found.append(_pair(first, second, read(first), read(second), labels))
        except UserError as problem:
            refused.append(f"{first.name} and {second.name} are not compared: {problem}.")
    return tuple(_adjust(found)), tuple(refused)


def _tests_by_seed(system: System) -> Tests:
    """Its test clips for each seed; those of an ensemble over seeds stand for each of these."""
    return {seed: test for run in system.runs for test in [run.read("test")] for seed in run.seeds}


def _pair(first: System, second: System, tests: Tests, others: Tests, labels: Sequence[str]) -> Pair:
    seeds = tuple(seed for seed in tests if seed in others)
    if not seeds:
        raise UserError(
            f"expected a seed that both have, found {', '.join(tests)} of one and {', '.join(others)} of the other"
        )
    chosen = ([of_system[seed] for seed in seeds] for of_system in (tests, others))
    return Pair(first, second, seeds, compare(*chosen, (first.name, second.name), labels), None)


def _adjust(pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs with p-values adjusted for how many there are."""
    tested = [pair for pair in pairs if pair.comparison.p_value is not None]
    adjusted = adjusted_p_values([pair.comparison.p_value for pair in tested])
    by_pair = dict(zip(map(id, tested), adjusted, strict=True))
    return [replace(pair, adjusted=by_pair.get(id(pair))) for pair in pairs]
