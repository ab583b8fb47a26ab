"""The systems of a group scored one after the other, and compared on the clips that they share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations
from typing import Any

from ..validation import UserError
from .comparison import Comparison, adjusted_p_values, compare
from .evaluated import Group, System
from .system_scores import SystemScores, Tests, score_system

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
