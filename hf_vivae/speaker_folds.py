"""Folds of whole speakers: who is tested neither trains nor selects, so sibling takes stay on one side, too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from .folds import Fold
from .validation import UserError

if TYPE_CHECKING:
    from datasets import Dataset


def leave_one_speaker_out(clips: Dataset, labels: np.ndarray, seed: int, num_groups: int) -> Iterator[Fold]:
    """A fold for each speaker, in the order of their names; the next one validates."""
    names, speakers = _speakers(clips, "leave-one-speaker-out")
    for speaker, name in enumerate(names):
        test, validation = speakers == speaker, speakers == (speaker + 1) % len(names)
        yield Fold(name, *map(np.flatnonzero, (~test & ~validation, validation, test)))


def speakers_05_06(clips: Dataset, labels: np.ndarray, seed: int, num_groups: int) -> Iterator[Fold]:
    """One fold that tests S05 and S06."""
    protocol = "speakers-05-06"
    names, speakers = _speakers(clips, protocol)
    if not {"S05", "S06"} <= set(names) or len(names) < 4:
        raise UserError(
            f"{protocol} needs the speakers S05 and S06, and at least 2 others to train and select, but found "
            f"{', '.join(names[:10])}{' and more' if len(names) > 10 else ''}: use `--protocol speaker-k-fold`"
        )
    tested = np.isin(speakers, [names.index("S05"), names.index("S06")])
    train, validation = _train_and_select(np.flatnonzero(~tested), speakers, labels, 1, seed)
    yield Fold(protocol, train, validation, np.flatnonzero(tested))


def speaker_k_fold(clips: Dataset, labels: np.ndarray, seed: int, num_groups: int) -> Iterator[Fold]:
    """A fold for each group of speakers."""
    return _speaker_k_fold("speaker-k-fold", clips, labels, seed, num_groups)


def group_k_fold(clips: Dataset, labels: np.ndarray, seed: int, num_groups: int) -> Iterator[Fold]:
    """A fold for each group of speakers as scikit-learn's `GroupKFold` makes them, of like numbers of clips."""
    from sklearn.model_selection import GroupKFold

    protocol = "group-k-fold"
    names, speakers = _speakers(clips, protocol)
    groups = min(num_groups, len(names))
    for number, (rest, test) in enumerate(GroupKFold(groups).split(speakers, groups=speakers), start=1):
        _check_rest(protocol, speakers[rest], number)
        yield Fold(f"{number}-of-{groups}", *_train_and_select(rest, speakers, labels, number, seed), test)


def core_to_full(clips: Dataset, labels: np.ndarray, seed: int, num_groups: int) -> Iterator[Fold]:
    """A fold for each group of speakers with clips outside the core set; core clips of the others train."""
    protocol = "core-to-full"
    _, speakers = _speakers(clips, protocol)
    core = _core(clips, protocol)
    groups = _speaker_groups(speakers, labels, num_groups, seed)
    for number, group in enumerate(groups, start=1):
        test = group[~core[group]]
        if len(test):
            rest = np.flatnonzero(core & ~np.isin(speakers, speakers[group]))
            _check_rest(protocol, speakers[rest], number, " with core clips")
            yield Fold(f"{number}-of-{len(groups)}", *_train_and_select(rest, speakers, labels, number, seed), test)


def cross_intensity(clips: Dataset, labels: np.ndarray, seed: int, num_groups: int) -> Iterator[Fold]:
    """A fold for each intensity and group of speakers, where that group has clips of that intensity.

    It is the fold of `speaker_k_fold`, tested on that intensity only, and trained and selected on all others.
    """
    protocol = "cross-intensity"
    names, intensities = _intensities(clips, labels, protocol)
    folds = list(_speaker_k_fold(protocol, clips, labels, seed, num_groups))
    for intensity in np.unique(intensities):
        chosen = intensities == intensity
        for fold in folds:
            test = [row for row in fold.test if chosen[row]]
            train, validation = ([row for row in rows if not chosen[row]] for rows in (fold.train, fold.validation))
            if test and not (train and validation):
                raise UserError(
                    f"{protocol} needs clips of another intensity than {names[intensity]} to "
                    f"{'select' if train else 'train'}, but the speakers who do so in fold {fold.name} have none: "
                    "change --num_groups or --seed, or use `--protocol speaker-k-fold`"
                )
            if test:
                yield Fold(f"{names[intensity]}-{fold.name}", train, validation, test)


def _speaker_k_fold(protocol: str, clips: Dataset, labels: np.ndarray, seed: int, num_groups: int) -> Iterator[Fold]:
    _, speakers = _speakers(clips, protocol)
    groups = _speaker_groups(speakers, labels, num_groups, seed)
    for number, test in enumerate(groups, start=1):
        rest = np.setdiff1d(np.arange(len(clips)), test)
        _check_rest(protocol, speakers[rest], number)
        yield Fold(f"{number}-of-{len(groups)}", *_train_and_select(rest, speakers, labels, number, seed), test)


def _check_rest(protocol: str, speakers: np.ndarray, number: int, which: str = "") -> None:
    found = len(np.unique(speakers))
    if found < 2:
        raise UserError(
            f"{protocol} needs at least 2 speakers{which} besides each group, one each to train and select, but found "
            f"{found} besides group {number}: ask for more groups with --num_groups, or add speakers"
        )


def _train_and_select(
    rest: np.ndarray, speakers: np.ndarray, labels: np.ndarray, number: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """The positions `rest`, divided by whole speakers: most train, about an eighth validates."""
    eighths = _speaker_groups(speakers[rest], labels[rest], 8, seed)
    # Begin elsewhere in each fold, so that the same few speakers do not select in all of them. A speaker with
    # most of the clips would starve training; a group without some label cannot select for it.
    rotated = eighths[number % len(eighths) :] + eighths[: number % len(eighths)]
    chosen = max(rotated, key=lambda rows: (len(rows) <= len(rest) / 4, len(np.unique(labels[rest][rows]))))
    return np.delete(rest, chosen), rest[chosen]


def _speakers(clips: Dataset, protocol: str) -> tuple[list[str], np.ndarray]:
    """Names of the speakers, sorted, and the index of each clip's, `(clips,)`."""
    cure = (
        "take it from the file names with `--speaker_pattern`, add a speaker column to the metadata file, "
        "or use `--protocol random-80-20`"
    )
    names, speakers = np.unique(_column(clips, "speaker", f"{protocol} needs a speaker", cure), return_inverse=True)
    if len(names) < 3:
        raise UserError(
            f"{protocol} needs at least 3 speakers, one each to train, select and test, but found "
            f"{names.tolist()}: {cure}"
        )
    return names.tolist(), speakers


def _core(clips: Dataset, protocol: str) -> np.ndarray:
    """Whether each clip is in the core set, `(clips,)`."""
    cure = "read VIVAE with both of its sets, or use `--protocol speaker-k-fold`"
    core = _column(clips, "core", f"{protocol} needs true or false in the column core", cure)
    if core.all() or not core.any():
        raise UserError(
            f"{protocol} needs clips inside and outside the core set, but found {core.sum()} of {len(core)} inside: "
            f"{cure}"
        )
    return core


def _intensities(clips: Dataset, labels: np.ndarray, protocol: str) -> tuple[list[str], np.ndarray]:
    """Names of all intensities, and the index of each clip's, `(clips,)`."""
    cure = "use `--protocol speaker-k-fold`"
    intensities = _column(
        clips, "intensity", f"{protocol} needs an intensity", f"add it to the metadata file, or {cure}"
    )
    names = clips.features["intensity"].names
    if len(np.unique(intensities)) < 2:
        raise UserError(
            f"{protocol} needs clips of at least 2 intensities, but found only {names[intensities[0]]}: {cure}"
        )
    if len(set(zip(labels.tolist(), intensities.tolist(), strict=True))) == len(np.unique(labels)):
        raise UserError(
            f"{protocol} needs labels that occur at several intensities, but found each at one only, so that a model "
            f"could not learn those that it is tested on: use `--task emotion`, or {cure}"
        )
    return names, intensities


def _column(clips: Dataset, column: str, need: str, cure: str) -> np.ndarray:
    values = clips[column][:] if column in clips.column_names else [None] * len(clips)
    unknown = [file for file, value in zip(clips["file"][:], values, strict=True) if value is None or value == ""]
    if unknown:
        raise UserError(
            f"{need} for every clip, but {len(unknown)} of {len(values)} have none (first: {unknown[0]}): {cure}"
        )
    return np.array(values)


def _speaker_groups(speakers: np.ndarray, labels: np.ndarray, most: int, seed: int) -> list[np.ndarray]:
    from sklearn.model_selection import StratifiedGroupKFold

    names = np.unique(speakers)
    if len(names) <= most:
        # Nothing to balance; StratifiedGroupKFold then can leave a group empty (scikit-learn 1.9).
        return [np.flatnonzero(speakers == name) for name in np.random.default_rng(seed).permutation(names)]
    splitter = StratifiedGroupKFold(most, shuffle=True, random_state=seed)
    strata = _pool_rare_labels(labels, most)
    return [group for _, group in splitter.split(speakers, strata, speakers)]


def _pool_rare_labels(labels: np.ndarray, groups: int) -> np.ndarray:
    # A label with fewer clips than there are groups is legitimate, but cannot reach every group, and the
    # splitter warns of it (or refuses, if every label is rare). Rare labels are balanced as one, joined by
    # the next rarest until there is a clip for every group.
    values, sizes = np.unique(labels, return_counts=True)
    pool: list[int] = []
    total = 0
    for index in np.argsort(sizes, kind="stable"):
        if sizes[index] < groups or 0 < total < groups:
            pool.append(values[index])
            total += sizes[index]
    return np.where(np.isin(labels, pool), pool[0], labels) if pool else labels
