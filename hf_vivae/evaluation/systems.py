"""Systems: runs joined from folds, their names, and ensembles of runs."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise

import numpy as np
from scipy.special import log_softmax, logsumexp

from ..models import short_name
from ..run_folder import UNSELECTED
from ..validation import UserError
from .runs import EvaluationSet, FoldFolder, Predictions, Settings, by_run, read_part

# text that needs no quotation marks in a name, since it cannot be taken for another value
BARE = re.compile(r"(?!(?:null|true|false|default)$)[A-Za-z_./][\w./:+-]*")
LONGEST_NAME = 80  # characters of an ensemble's name; longer ones are named by their number of members
GROUP_FIELDS = {
    "corpus": "corpus",
    "clips": "number of clips",
    "task": "task",
    "protocol": "protocol",
    "of_folds": "folds",
    "label_map": "label map",
}


@dataclass(frozen=True)
class Run:
    """One model trained with one seed, over the folds of its protocol that were found, in order of their names."""

    seed: str
    folds: tuple[FoldFolder, ...]

    @property
    def seeds(self) -> tuple[str, ...]:
        """Seeds of all models that the run consists of."""
        return (self.seed,)

    @property
    def fold_names(self) -> list[str]:
        """Names of its folds, each once."""
        return list(dict.fromkeys(fold.fold for fold in self.folds))

    def read(self, part: str) -> Predictions | None:
        """Read the clips of one part; None where the run has no such part. Nothing is cached."""
        return read_part([fold.path for fold in self.folds], part)


@dataclass(frozen=True)
class System:
    """Runs that differ only by their seed and have the same folds.

    Args:
        name: unique in its group, and the same in other groups.
        runs: in the order of their seeds.
        members: names of the systems that an ensemble joins; empty for any other system.
    """

    name: str
    runs: tuple[Run, ...]
    members: tuple[str, ...] = ()

    @property
    def folds(self) -> list[FoldFolder]:
        """Folds of all runs."""
        return [fold for run in self.runs for fold in run.folds]

    @property
    def seeds(self) -> list[str]:
        """Seed of each run."""
        return [run.seed for run in self.runs]

    @property
    def covered(self) -> str:
        """Number of folds out of those of the protocol, such as "3 of 5"."""
        return f"{len(self.runs[0].fold_names)} of {self.folds[0].clips.of_folds}"

    @property
    def whole(self) -> bool:
        """True if it has all folds of its protocol."""
        return len(self.runs[0].fold_names) == self.folds[0].clips.of_folds

    @property
    def is_foreign(self) -> bool:
        """True if another program made its predictions, or those of a member of an ensemble."""
        return any(fold.is_foreign for fold in self.folds)

    @property
    def caveats(self) -> list[str]:
        """Sentences on practices of publications that affect its scores, each once."""
        return list(dict.fromkeys(caveat for fold in self.folds for caveat in fold.caveats))

    @property
    def name_with_star(self) -> str:
        """Name, with a star where its scores have caveats."""
        return f"{self.name} *" if self.caveats else self.name

    @property
    def selection(self) -> str:
        """Score and clips that selected its epochs or settings, or "none"; all of them where runs or folds differ."""
        return ", ".join(sorted({fold.selection for fold in self.folds}))


@dataclass(frozen=True)
class Group:
    """Systems that can be compared in one table.

    Args:
        clips: corpus, task and protocol that they share.
        labels: names of the labels, in the order of the logits.
        systems: in the order of their names.
    """

    clips: EvaluationSet
    labels: tuple[str, ...]
    systems: tuple[System, ...]


def join_folds(folders: Sequence[FoldFolder]) -> list[Group]:
    """Join folds to runs, runs to systems and systems to groups, in the order of corpus, task and protocol."""
    runs: dict[tuple, list[Run]] = defaultdict(list)
    for folds in by_run(folders):
        ordered = tuple(sorted(folds, key=lambda fold: _natural_key(fold.fold)))
        first = ordered[0]
        runs[first.clips, first.settings, tuple(fold.fold for fold in ordered)].append(Run(first.seed, ordered))
    names = name_settings({folder.settings for folder in folders})
    groups: dict[EvaluationSet, list[System]] = defaultdict(list)
    for (clips, settings, _), members in runs.items():
        system = System(names[settings], tuple(sorted(members, key=lambda run: _natural_key(run.seed))))
        if not system.whole:
            name = f"{system.name} ({system.covered} folds, seed {', '.join(system.seeds)})"
            system = replace(system, name=name)
        groups[clips].append(system)
    return [
        Group(clips, systems[0].folds[0].labels, tuple(sorted(systems, key=lambda system: system.name)))
        for clips, systems in sorted(groups.items())
    ]


def _natural_key(text: str) -> list[tuple[int, str]]:
    """Return a key that sorts "9-of-11" before "10-of-11"."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text)]


def name_settings(all_settings: Iterable[Settings]) -> dict[Settings, str]:
    """Return a unique name for each of different settings, such as `mlp paper learning_rate=0.0001`."""
    by_name: dict[str, dict[Settings, dict[str, str]]] = defaultdict(dict)
    for settings in all_settings:
        by_name[_model_and_recipe(settings)][settings] = _flatten(settings)
    names = {}
    for name, members in by_name.items():
        keys = sorted({key for values in members.values() for key in values})
        differing = [key for key in keys if _differs(key, list(members.values()))]
        for settings, values in members.items():
            names[settings] = " ".join([name, *(f"{key}={values[key]}" for key in differing if key in values)])
    return names


def _model_and_recipe(settings: Settings) -> str:
    values = {name: json.loads(value) for name, value in settings if name in ("model", "recipe", "as_coded")}
    model, recipe, deviations = short_name(values["model"]), values["recipe"], values["as_coded"]
    if recipe == "none":  # a checkpoint of the Hub or of a folder
        return model
    # the recipe as_coded has all deviations, any other those that were given
    return f"{model} {'+'.join([recipe, *deviations]) if recipe == 'paper' else recipe}"


def _differs(key: str, members: list[dict[str, str]]) -> bool:
    # settings without these keys select no epoch, as select_on already states
    among = [values for values in members if key in values or key not in UNSELECTED]
    return len({values.get(key) for values in among}) > 1


def _flatten(settings: Settings) -> dict[str, str]:
    """Return settings together with the fields of `model_config`; simple words without quotation marks."""
    values = {name: json.loads(value) for name, value in settings}
    if values.get("select_on") == "none":
        values = {name: value for name, value in values.items() if name not in UNSELECTED}
    values |= values.pop("model_config") or {}
    return {
        name: value if isinstance(value, str) and BARE.fullmatch(value) else json.dumps(value)
        for name, value in values.items()
    }


@dataclass(frozen=True)
class EnsembleRun(Run):
    """Runs whose probabilities are averaged; its folds are those of all of them.

    Args:
        members: runs that tested the same clips of the same folds.
    """

    members: tuple[Run, ...]

    @property
    def seeds(self) -> tuple[str, ...]:
        """Seeds of its members."""
        return tuple(dict.fromkeys(member.seed for member in self.members))

    def read(self, part: str) -> Predictions | None:
        """Read the clips that all members have in one part of a fold; None where a fold has none."""
        predictions = [member.read(part) for member in self.members]
        return None if any(of_member is None for of_member in predictions) else average(predictions)


def average(members: Sequence[Predictions]) -> Predictions | None:
    """Return the mean probabilities of the clips that all members have in the same fold, as logits.

    Args:
        members: one part of each member, as `read_part` sorts it.

    Returns:
        The predictions; None where a fold has no such clip.
    """
    shared = set.intersection(*map(_clips, members))
    if {fold for _, fold in shared} != {fold for member in members for fold in member.folds.tolist()}:
        return None
    parts = []
    for member in members:
        keys = zip(member.files.tolist(), member.folds.tolist(), strict=True)
        rows = np.array([key in shared for key in keys])
        parts.append(Predictions(**{field.name: getattr(member, field.name)[rows] for field in fields(member)}))
    # the logarithm of a mean probability is a logit whose softmax is that probability
    logits = logsumexp([log_softmax(part.logits, axis=1) for part in parts], axis=0) - np.log(len(parts))
    return replace(parts[0], logits=logits)


def _clips(predictions: Predictions) -> set[tuple[str, str]]:
    """Return file and fold of each clip."""
    return set(zip(predictions.files.tolist(), predictions.folds.tolist(), strict=True))


def add_ensembles(groups: Sequence[Group], names: Sequence[str]) -> list[Group]:
    """Return the groups, with an ensemble in each that has all the named systems.

    Several systems are joined seed by seed, over the seeds that all of them have; a single one over its seeds.

    Args:
        groups: as `join_folds` returns them.
        names: of systems; an empty sequence joins all systems of each group.

    Raises:
        UserError: no group has all these systems or anything to join, no seed is shared, or members tested other
            clips or other folds; a clip that one tests in a fold could then be one that another was trained on.
    """
    ensembles = []
    for group in groups:
        members = [system for system in group.systems if system.name in names or not names]
        complete = len(members) >= len(set(names)) and sum(len(system.runs) for system in members) > 1
        ensembles.append(members if complete else [])
    if not any(ensembles):
        raise UserError(
            f"expected two runs or more of {', '.join(names) or 'systems'} with one corpus, task and protocol to "
            f"join with --ensemble, found none{_differences(groups, names)}; name systems of one table, or one system "
            "with several seeds."
        )
    return [
        replace(group, systems=(*group.systems, _make_ensemble(members))) if members else group
        for group, members in zip(groups, ensembles, strict=True)
    ]


def _differences(groups: Sequence[Group], names: Sequence[str]) -> str:
    """Return in brackets what differs between the groups of the named systems; empty where one has them all."""
    named = [group for group in groups if any(system.name in names or not names for system in group.systems)]
    values = {"labels": {group.labels for group in named}}
    values |= {title: {getattr(group.clips, name) for group in named} for name, title in GROUP_FIELDS.items()}
    differing = [title for title, different in values.items() if len(different) > 1]
    return f" (they differ in {', '.join(differing or ['clips or speakers'])})" if len(named) > 1 else ""


def _make_ensemble(systems: Sequence[System]) -> System:
    names = tuple(system.name for system in systems)
    if len(systems) == 1:
        (system,) = systems
        members = {f"seed {run.seed} of {system.name}": run for run in system.runs}
        name = f"ensemble of {len(members)} seeds of {system.name}"
        runs = [_ensemble_run("+".join(system.seeds), members)]
    else:
        listed = f"ensemble of {' + '.join(names)}"
        name = listed if len(listed) <= LONGEST_NAME else f"ensemble of {len(names)} systems"
        by_system = {system.name: {run.seed: run for run in system.runs} for system in systems}
        shared = [seed for seed in systems[0].seeds if all(seed in runs for runs in by_system.values())]
        if not shared:
            found = "; ".join(f"{', '.join(runs)} of {system}" for system, runs in by_system.items())
            raise UserError(
                f"expected a seed that all members of an ensemble have, found {found}; train them with one seed, or "
                "name others with --ensemble."
            )
        runs = [_ensemble_run(seed, {system: runs[seed] for system, runs in by_system.items()}) for seed in shared]
    return System(name, tuple(runs), names)


def _ensemble_run(seed: str, members: Mapping[str, Run]) -> EnsembleRun:
    for first, second in pairwise(members):
        _check_same_tests((first, second), members[first], members[second])
    return EnsembleRun(seed, tuple(fold for run in members.values() for fold in run.folds), tuple(members.values()))


def _check_same_tests(names: tuple[str, str], first: Run, second: Run) -> None:
    """Refuse members of which one may be trained on clips that the other tests."""
    for name, run, other in ((names[0], first, second), (names[1], second, first)):
        if missing := [fold for fold in other.fold_names if fold not in run.fold_names]:
            raise UserError(
                f"expected members of an ensemble to have the same folds, found that {name} lacks "
                f"{', '.join(missing)}; train these too (--folds), or name others with --ensemble."
            )
    differing = sorted(_clips(first.read("test")) ^ _clips(second.read("test")))
    if differing:
        file, fold = differing[0]
        uses = [f"{name} {_describe_use(run, differing[0])}" for name, run in zip(names, (first, second), strict=True)]
        raise UserError(
            f"expected members of an ensemble to test the same clips in each fold, found that for {file} in fold "
            f"{fold} {' and '.join(uses)}; name others with --ensemble (seeds of one system can be joined under a "
            "protocol that tests the same clips with each, such as leave-one-speaker-out)."
        )


def _describe_use(run: Run, clip: tuple[str, str]) -> str:
    """Return what a run used a clip of a fold for."""
    for part, verb in {"test": "tested", "train": "trained on", "validation": "selected on"}.items():
        predictions = run.read(part)
        if predictions is not None and clip in _clips(predictions):
            return f"{verb} it"
    return "did not have it there"
