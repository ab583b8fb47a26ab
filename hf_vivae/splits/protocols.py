"""Evaluation protocols: functions from clips to folds, each with its source and what it measures."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from ..validation import UserError
from .folds import Fold, Protocol

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


PUBLISHED_SEED = 42  # of voc2vec's and of LINKS' split, whatever the seed of the run


def _random_80_20(clips: Dataset, labels: np.ndarray, seed: int, num_groups: int) -> list[Fold]:
    test_size = len(clips) // 5
    validation_size = (len(clips) - test_size) // 10
    if not validation_size:
        raise UserError(f"random-80-20 needs at least 12 clips, found {len(clips)}: add clips")
    shuffled = np.random.default_rng(seed).permutation(len(clips))
    test, validation, train = np.split(shuffled, [test_size, test_size + validation_size])
    return [Fold("random-80-20", train, validation, test)]


def _random_10_fold(clips: Dataset, labels: np.ndarray, seed: int, num_groups: int) -> list[Fold]:
    size = len(clips) // 10
    if not size:
        raise UserError(f"random-10-fold needs at least 10 clips, one for each slice, found {len(clips)}: add clips")
    shuffled = list(range(len(clips)))
    random.Random(PUBLISHED_SEED).shuffle(shuffled)
    slices = np.split(shuffled, [number * size for number in range(1, 10)])
    folds = []
    for number in range(10):
        test, validation, *train = slices[number:] + slices[:number]
        folds.append(Fold(f"{number + 1}-of-10", np.concatenate(train), validation, test))
    return folds


def _random_70_15_15(clips: Dataset, labels: np.ndarray, seed: int, num_groups: int) -> list[Fold]:
    from sklearn.model_selection import train_test_split

    values, sizes = np.unique(labels, return_counts=True)
    if sizes.min() < 7:  # of 7 clips, 30 % are 2, one for each of the small parts
        first = clips[int(np.argmax(labels == values[sizes.argmin()]))]["file"]
        raise UserError(
            f"random-70-15-15 needs at least 7 clips of each label, but one has {sizes.min()} (first: {first}): "
            "add clips, or use another --protocol"
        )
    shuffled = np.random.RandomState(PUBLISHED_SEED).permutation(len(clips))  # as DataFrame.sample(frac=1) does
    train, rest = train_test_split(shuffled, test_size=0.3, stratify=labels[shuffled], random_state=PUBLISHED_SEED)
    validation, test = train_test_split(rest, test_size=0.5, stratify=labels[rest], random_state=PUBLISHED_SEED)
    return [Fold("random-70-15-15", train, validation, test)]


PROTOCOLS: dict[str, Protocol] = {
    "random-80-20": Protocol(
        make_folds=_random_80_20,
        speaker_disjoint=False,
        tests_every_clip=False,
        uses_every_clip=True,
        grouped=False,
        idea="A random fifth of the clips is the test; a tenth of the rest validates (the report had none).",
        source="D. Pak, Emotion Classification using Various Transformer Architectures, 2022",
        measures="How well further clips of known speakers are labelled, some of them parts of known takes.",
        cannot="Tell anything about unseen speakers; the one test part is small (217 clips of VIVAE).",
    ),
    "leave-one-speaker-out": Protocol(
        make_folds=leave_one_speaker_out,
        speaker_disjoint=True,
        tests_every_clip=True,
        uses_every_clip=True,
        grouped=False,
        idea="Each speaker in turn is the test, the next by name validates, the others train.",
        source="ARCH: M. La Quatra et al., Benchmarking Representations for Speech, Music, and Acoustic "
        "Events, ICASSP Workshops 2024",
        measures="How well an unseen speaker is labelled, and how much that varies from speaker to speaker.",
        cannot="Select steadily: one speaker validates; nor separate a hard speaker from an unlucky seed.",
    ),
    "speakers-05-06": Protocol(
        make_folds=speakers_05_06,
        speaker_disjoint=True,
        tests_every_clip=False,
        uses_every_clip=True,
        grouped=False,
        idea="Speakers S05 and S06 are the test (222 clips of VIVAE); whole speakers with about an eighth of the "
        "other clips validate, which is our addition.",
        source="nkululeko, data/vivae: a list of files to train on and one to test on, none to select with; its "
        "settings once kept four of the six emotions, today all",
        measures="How well two unseen speakers are labelled, at the cost of one training.",
        cannot="Speak for other speakers: two of eleven are tested, both with more clips than any of the others.",
    ),
    "random-10-fold": Protocol(
        make_folds=_random_10_fold,
        speaker_disjoint=False,
        tests_every_clip=True,
        uses_every_clip=True,
        grouped=False,
        idea="The clips, shuffled with the fixed seed 42, are cut into ten slices that are the test in turn; the "
        "next slice validates.",
        source="voc2vec: A. Koudounas et al., voc2vec: A Foundation Model for Non-Verbal Vocalization, ICASSP 2025, "
        "whose code selects on the slice that it scores (`--select_on test` does so); the order of its list of clips "
        "is not published, here they are shuffled from the order of their names",
        measures="How well further clips of known speakers are labelled; every clip is tested once.",
        cannot="Tell anything about unseen speakers, nor repeat voc2vec's own slices clip by clip.",
    ),
    "random-70-15-15": Protocol(
        make_folds=_random_70_15_15,
        speaker_disjoint=False,
        tests_every_clip=False,
        uses_every_clip=True,
        grouped=False,
        idea="The clips, shuffled and stratified by label with the fixed seed 42: 70 % train, 15 % validate, 15 % are "
        "the test.",
        source="LINKS, kk-nonverbal-vocal-class: CLiC-it 2025, CEUR Vol-4112, paper 64; its committed script scores "
        "the part that we validate with, and the order in which it lists the clips is not published, here it is that "
        "of their names",
        measures="How well further clips of known speakers are labelled, with labels in equal shares everywhere.",
        cannot="Tell anything about unseen speakers, nor repeat LINKS' own parts clip by clip; a score of its "
        "validation part is no score of this test part.",
    ),
    "speaker-k-fold": Protocol(
        make_folds=speaker_k_fold,
        speaker_disjoint=True,
        tests_every_clip=True,
        uses_every_clip=True,
        grouped=True,
        idea="Up to five (`--num_groups`) groups of whole speakers, balanced in labels, are the test in turn; about "
        "an eighth of the other clips, again of whole speakers, validates.",
        source="hf_vivae; groups by StratifiedGroupKFold of scikit-learn",
        measures="How well unseen speakers are labelled, in any corpus that names its speakers.",
        cannot="Be set beside leave-one-speaker-out, which trains on more speakers; a label with fewer clips "
        "than folds is missing from some test parts.",
    ),
    "group-k-fold": Protocol(
        make_folds=group_k_fold,
        speaker_disjoint=True,
        tests_every_clip=True,
        uses_every_clip=True,
        grouped=True,
        idea="The groups of speakers of scikit-learn's GroupKFold (`--num_groups`) are the test in turn; about an "
        "eighth of the other clips, again of whole speakers, validates.",
        source="scikit-learn; the seed moves who validates, and not who is tested",
        measures="The same as speaker-k-fold, on the very parts that others make of these speakers with GroupKFold.",
        cannot="Balance labels between the parts, as speaker-k-fold does.",
    ),
    "core-to-full": Protocol(
        make_folds=core_to_full,
        speaker_disjoint=True,
        tests_every_clip=False,
        uses_every_clip=False,
        grouped=True,
        idea="The groups of speaker-k-fold are the test in turn, with their clips outside the core set; core clips of "
        "the other speakers train and validate.",
        source="hf_vivae; the core set is VIVAE's own, 480 clips by ten speakers",
        measures="Whether a model of the chosen clips labels those that were not chosen, of unseen speakers.",
        cannot="Separate harder clips from less training, on fewer than half of the clips that speaker-k-fold "
        "trains on; core clips are never tested.",
    ),
    "cross-intensity": Protocol(
        make_folds=cross_intensity,
        speaker_disjoint=True,
        tests_every_clip=True,
        uses_every_clip=False,
        grouped=True,
        idea="The folds of speaker-k-fold, once for each intensity: tested on that intensity, trained and validated "
        "on all others.",
        source="hf_vivae; no publication on VIVAE known to us does it",
        measures="What is kept when speaker and intensity are both unseen: every clip is tested once, in the same "
        "group of speakers as under speaker-k-fold, so that the two can be compared clip by clip.",
        cannot="Separate the missing intensity from the smaller training part, about three quarters of that of "
        "speaker-k-fold.",
    ),
}
