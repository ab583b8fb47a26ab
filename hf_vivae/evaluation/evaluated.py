"""Folds joined to runs wherever they lie, runs that differ only by seed to systems, and systems to groups."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from .fold_folders import Clips, FoldFolder, by_run
from .predictions import Predictions, read_part
from .system_names import name_settings


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

    clips: Clips
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
    groups: dict[Clips, list[System]] = defaultdict(list)
    for (clips, settings, _), members in systems.items():
        groups[clips].append(_system(names[settings], sorted(members, key=lambda run: _natural(run.seed))))
    return [_group(clips, members) for clips, members in sorted(groups.items())]


def _system(name: str, runs: Sequence[Run]) -> System:
    system = System(name, tuple(runs))
    if system.whole:
        return system
    return System(f"{name} ({system.covered} folds, seed {', '.join(system.seeds)})", system.runs)


def _group(clips: Clips, systems: Sequence[System]) -> Group:
    ordered = sorted(systems, key=lambda system: system.name)
    return Group(clips, ordered[0].folds[0].labels, tuple(ordered))


def _natural(text: str) -> list[tuple[int, str]]:
    """Sorts "9-of-11" before "10-of-11"."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text)]
