"""Systems: runs joined from folds, their names, and ensembles of runs."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.special import log_softmax, logsumexp

from ..models import short_name
from ..run_folder import UNSELECTED
from ..validation import UserError
from .runs import EvaluationSet, FoldFolder, Predictions, Settings, by_run, read_part


@dataclass(frozen=True)
class Run:
    """One model trained with one seed, over those folds of its protocol that were found, in order of their names."""

    seed: str
    folds: tuple[FoldFolder, ...]

    @property
    def seeds(self) -> tuple[str, ...]:
        """Those of all models that it is made of."""
        return (self.seed,)

    @property
    def fold_names(self) -> list[str]:
        """Of its folds, each once."""
        return list(dict.fromkeys(fold.fold for fold in self.folds))

    def read(self, part: str) -> Predictions | None:
        """Its clips of one part, read anew each time; None where it has no such part."""
        return read_part([fold.path for fold in self.folds], part)


@dataclass(frozen=True)
class System:
    """Runs that differ only by their seed and have the same folds.

    Args:
        name: unique in its group, and the same in others.
        runs: in the order of their seeds.
        members: names of the systems that it joins, where it is an ensemble.
    """

    name: str
    runs: tuple[Run, ...]
    members: tuple[str, ...] = ()

    @property
    def folds(self) -> list[FoldFolder]:
        """Those of all runs."""
        return [fold for run in self.runs for fold in run.folds]

    @property
    def seeds(self) -> list[str]:
        """That of each run."""
        return [run.seed for run in self.runs]

    @property
    def covered(self) -> str:
        """How many of the protocol's folds it has, such as "3 of 5"."""
        return f"{len(self.runs[0].fold_names)} of {self.folds[0].clips.of_folds}"

    @property
    def whole(self) -> bool:
        """Whether it has all folds of its protocol."""
        return len(self.runs[0].fold_names) == self.folds[0].clips.of_folds

    @property
    def habits(self) -> list[str]:
        """Sentences that mark its scores, each once."""
        return list(dict.fromkeys(habit for fold in self.folds for habit in fold.habits))

    @property
    def selection(self) -> str:
        """The score and the clips that chose its epochs or settings, or "none"; all where runs or folds differ."""
        return ", ".join(sorted({fold.selection for fold in self.folds}))


@dataclass(frozen=True)
class Group:
    """The systems that a table may hold together.

    Args:
        clips: corpus, task and protocol that they share.
        labels: names of the labels, in the order of the logits.
        systems: in the order of their names.
    """

    clips: EvaluationSet
    labels: tuple[str, ...]
    systems: tuple[System, ...]


def join(folders: Sequence[FoldFolder]) -> list[Group]:
    """Folds to runs, runs to systems, systems to groups, in the order of corpus, task and protocol."""
    systems: dict[tuple, list[Run]] = defaultdict(list)
    for folds in by_run(folders):
        ordered = tuple(sorted(folds, key=lambda fold: _natural(fold.fold)))
        first = ordered[0]
        systems[first.clips, first.settings, tuple(fold.fold for fold in ordered)].append(Run(first.seed, ordered))
    names = name_settings({folder.settings for folder in folders})
    groups: dict[EvaluationSet, list[System]] = defaultdict(list)
    for (clips, settings, _), members in systems.items():
        groups[clips].append(_system(names[settings], sorted(members, key=lambda run: _natural(run.seed))))
    return [_group(clips, members) for clips, members in sorted(groups.items())]


def _system(name: str, runs: Sequence[Run]) -> System:
    system = System(name, tuple(runs))
    if system.whole:
        return system
    return System(f"{name} ({system.covered} folds, seed {', '.join(system.seeds)})", system.runs)


def _group(clips: EvaluationSet, systems: Sequence[System]) -> Group:
    ordered = sorted(systems, key=lambda system: system.name)
    return Group(clips, ordered[0].folds[0].labels, tuple(ordered))


def _natural(text: str) -> list[tuple[int, str]]:
    """Sorts "9-of-11" before "10-of-11"."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text)]


BARE = re.compile(
    r"(?!(?:null|true|false|default)$)[A-Za-z_./][\w./:+-]*"
)  # text that cannot be taken for another value


def name_settings(all_settings: Iterable[Settings]) -> dict[Settings, str]:
    """A name of its own for each of different settings, such as `mlp paper learning_rate=0.0001`."""
    alike: dict[str, list[Settings]] = defaultdict(list)
    for settings in all_settings:
        alike[_model_and_recipe(settings)].append(settings)
    return {settings: name for base, members in alike.items() for settings, name in _tell_apart(base, members).items()}


def _model_and_recipe(settings: Settings) -> str:
    values = {name: json.loads(value) for name, value in settings if name in ("model", "recipe", "as_coded")}
    model, recipe, switches = short_name(values["model"]), values["recipe"], values["as_coded"]
    if recipe == "none":  # a checkpoint of the Hub or of a folder
        return model
    # the recipe as_coded has all switches on, any other those that were given
    return f"{model} {'+'.join([recipe, *switches]) if recipe == 'paper' else recipe}"


def _tell_apart(base: str, members: list[Settings]) -> dict[Settings, str]:
    flat = {settings: _flat(settings) for settings in members}
    keys = sorted({key for values in flat.values() for key in values})
    differing = [key for key in keys if _differs(key, list(flat.values()))]
    return {
        settings: " ".join([base, *(f"{key}={values[key]}" for key in differing if key in values)])
        for settings, values in flat.items()
    }


def _differs(key: str, members: list[dict[str, str]]) -> bool:
    # where no clips select, these are left out: they only repeat what select_on says
    among = [values for values in members if key in values or key not in UNSELECTED]
    return len({values.get(key) for values in among}) > 1


def _flat(settings: Settings) -> dict[str, str]:
    """Settings with the fields of `model_config` among them; words without quotation marks."""
    values = {name: json.loads(value) for name, value in settings}
    if values.get("select_on") == "none":
        values = {name: value for name, value in values.items() if name not in UNSELECTED}
    values |= values.pop("model_config") or {}
    return {name: _shown(value) for name, value in values.items()}


def _shown(value: Any) -> str:
    return value if isinstance(value, str) and BARE.fullmatch(value) else json.dumps(value)


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
