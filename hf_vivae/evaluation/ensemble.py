"""Ensembles: the mean of the probabilities that several trained models give each label, as one more system.

Lakshminarayanan, Pritzel and Blundell, Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles,
NeurIPS 2017. All members weigh the same, and no score of theirs is looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise

import numpy as np
from scipy.special import log_softmax, logsumexp

from ..validation import UserError
from .evaluated import Group, Run, System
from .predictions import Predictions

LONGEST_NAME = 80  # characters; more members are named below the table of scores alone
TELLING = {"corpus": "corpus", "clips": "number of clips", "task": "task", "protocol": "protocol", "of_folds": "folds"}
FATES = {"train": "trained on", "validation": "selected on"}


@dataclass(frozen=True)
class EnsembleRun(Run):
    """Runs whose probabilities are averaged; its folds are those of all of them.

    Args:
        members: runs that tested the same clips of the same folds.
    """

    members: tuple[Run, ...]

    @property
    def seeds(self) -> tuple[str, ...]:
        """Those of its members."""
        return tuple(dict.fromkeys(member.seed for member in self.members))

    def read(self, part: str) -> Predictions | None:
        """The clips that all members have in one part of a fold, read anew each time; None where a fold has none."""
        found = [member.read(part) for member in self.members]
        return None if any(one is None for one in found) else average(found)


def average(members: Sequence[Predictions]) -> Predictions | None:
    """Mean probabilities of the clips that all have in the same fold, as logits; None where a fold has none.

    Args:
        members: one part of each member, as `read_part` sorts it.
    """
    shared = set.intersection(*map(_clips, members))
    if {fold for _, fold in shared} != {fold for one in members for fold in one.folds.tolist()}:
        return None
    chosen = [_choose(one, shared) for one in members]
    # the logarithm of a mean probability is a logit whose softmax is that probability
    logits = logsumexp([log_softmax(one.logits, axis=1) for one in chosen], axis=0) - np.log(len(chosen))
    return replace(chosen[0], logits=logits)


def _clips(predictions: Predictions) -> set[tuple[str, str]]:
    """File and fold of each."""
    return set(zip(predictions.files.tolist(), predictions.folds.tolist(), strict=True))


def _choose(predictions: Predictions, clips: set[tuple[str, str]]) -> Predictions:
    keys = zip(predictions.files.tolist(), predictions.folds.tolist(), strict=True)
    rows = np.array([key in clips for key in keys])
    return Predictions(**{field.name: getattr(predictions, field.name)[rows] for field in fields(predictions)})


def add_ensembles(groups: Sequence[Group], names: Sequence[str]) -> list[Group]:
    """The groups, with an ensemble in each that has all the named systems.

    Several systems are joined seed by seed, over the seeds that all of them have; a single one over its seeds.

    Args:
        groups: as `join` gives them.
        names: of systems; none joins all systems of each group.

    Raises:
        ValueError: no group has all these systems or anything to join, no seed is shared, or members tested other
            clips or other folds; a clip that one tests in a fold can then be one that another has learnt there.
    """
    chosen = [_members(group, names) for group in groups]
    if not any(chosen):
        raise UserError(
            f"expected two runs or more of {', '.join(names) or 'systems'} with one corpus, task and protocol to "
            f"join with --ensemble, found none{_differing(groups, names)}; name systems that stand in one table, or "
            "one with several seeds."
        )
    return [
        replace(group, systems=(*group.systems, _ensemble(members))) if members else group
        for group, members in zip(groups, chosen, strict=True)
    ]


def _members(group: Group, names: Sequence[str]) -> list[System]:
    """The named systems of a group, all without names; nothing where one is missing, or there is a single run."""
    found = [system for system in group.systems if system.name in names or not names]
    complete = len(found) >= len(set(names)) and sum(len(system.runs) for system in found) > 1
    return found if complete else []


def _differing(groups: Sequence[Group], names: Sequence[str]) -> str:
    """What tells the tables of the named systems apart, in brackets; empty where one has them all."""
    found = [group for group in groups if any(system.name in names or not names for system in group.systems)]
    told = {"labels": {group.labels for group in found}}
    told |= {said: {getattr(group.clips, name) for group in found} for name, said in TELLING.items()}
    differing = [said for said, values in told.items() if len(values) > 1]
    return f" (they differ in {', '.join(differing or ['clips or speakers'])})" if len(found) > 1 else ""


def _ensemble(systems: Sequence[System]) -> System:
    names = tuple(system.name for system in systems)
    if len(systems) == 1:
        (system,) = systems
        members = {f"seed {run.seed} of {system.name}": run for run in system.runs}
        name, runs = f"ensemble of {len(members)} seeds of {system.name}", [_join("+".join(system.seeds), members)]
    else:
        listed = f"ensemble of {' + '.join(names)}"
        name = listed if len(listed) <= LONGEST_NAME else f"ensemble of {len(names)} systems"
        runs = [_join(seed, members) for seed, members in _by_seed(systems).items()]
    return System(name, tuple(runs), names)


def _by_seed(systems: Sequence[System]) -> dict[str, dict[str, Run]]:
    """For each seed that all systems have, their runs by name."""
    by_system = {system.name: {run.seed: run for run in system.runs} for system in systems}
    shared = [seed for seed in systems[0].seeds if all(seed in runs for runs in by_system.values())]
    if not shared:
        found = "; ".join(f"{', '.join(runs)} of {name}" for name, runs in by_system.items())
        raise UserError(
            f"expected a seed that all members of an ensemble have, found {found}; train them with one seed, or name "
            "others with --ensemble."
        )
    return {seed: {name: runs[seed] for name, runs in by_system.items()} for seed in shared}


def _join(seed: str, members: Mapping[str, Run]) -> EnsembleRun:
    for first, second in pairwise(members):
        _check_same_tests((first, second), members[first], members[second])
    return EnsembleRun(seed, tuple(fold for run in members.values() for fold in run.folds), tuple(members.values()))


def _check_same_tests(names: tuple[str, str], first: Run, second: Run) -> None:
    """Refuse members of which one may have learnt from clips that the other tests."""
    _check_same_folds(names, first, second)
    differing = sorted(_clips(first.read("test")) ^ _clips(second.read("test")))
    if differing:
        file, fold = differing[0]
        found = " and ".join(
            f"{name} {_fate(run, differing[0])}" for name, run in zip(names, (first, second), strict=True)
        )
        raise UserError(
            f"expected members of an ensemble to test the same clips in each fold, found that for {file} in fold "
            f"{fold} {found}; name others with --ensemble (seeds of one system can be joined under a protocol that "
            "tests the same clips with each, such as leave-one-speaker-out)."
        )


def _check_same_folds(names: tuple[str, str], first: Run, second: Run) -> None:
    for name, run, other in ((names[0], first, second), (names[1], second, first)):
        if missing := [fold for fold in other.fold_names if fold not in run.fold_names]:
            raise UserError(
                f"expected members of an ensemble to have the same folds, found that {name} lacks "
                f"{', '.join(missing)}; train these too (--folds), or name others with --ensemble."
            )


def _fate(run: Run, clip: tuple[str, str]) -> str:
    """What a run did with a clip in a fold."""
    tested = run.read("test")
    if clip in _clips(tested):
        return "tested it"
    for part, said in FATES.items():
        found = run.read(part)
        if found is not None and clip in _clips(found):
            return f"{said} it"
    return "did not have it there"
