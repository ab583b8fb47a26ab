"""Which clips train, select and test: protocols that turn a corpus into folds of row indices.

Every fold is proven: its parts are disjoint, speakers stay on one side where the protocol says so, and no
clip is tested twice. Folds depend on the clips' names and the seed, never on the order of the rows.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from datasets import Dataset

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Fold:
    """Row indices of one split of a corpus, each part sorted; training sees `train`, selection `validation`.

    Args:
        name: unique among the folds of its protocol, and safe as a folder name where speakers are.
        train: rows that fit the model and every statistic of its features.
        validation: rows that choose epochs and settings.
        test: rows that are predicted once, at the end.

    Raises:
        ValueError: a part is empty, holds a row twice, or shares a row with another part.
    """

    name: str
    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]

    def __post_init__(self) -> None:
        for part in PARTS:
            rows = tuple(sorted(int(row) for row in getattr(self, part)))
            object.__setattr__(self, part, rows)
            if not rows or len(set(rows)) < len(rows):
                raise ValueError(
                    f"fold {self.name!r}: expected one or more different rows in {part}, found {len(rows)}, "
                    f"of which {len(set(rows))} differ: give it rows, each once"
                )
        for one, other in combinations(PARTS, 2):
            shared = set(getattr(self, one)) & set(getattr(self, other))
            if shared:
                raise ValueError(
                    f"fold {self.name!r}: expected no row in both {one} and {other}, found {len(shared)} "
                    f"(first: {min(shared)}): give each row to one part"
                )


FoldMaker = Callable[["Dataset", np.ndarray, int], list[Fold]]


@dataclass(frozen=True)
class Protocol:
    """A way to split a corpus, with what its score means.

    Args:
        make_folds: `(clips sorted by file, labels (clips,), seed)` -> folds of positions among those clips.
        speaker_disjoint: whether a speaker's clips all lie in one part of a fold.
        tests_every_clip: whether the test parts of all folds together hold every clip.
        idea: how it splits.
        source: who uses it.
        measures: the question that its score answers.
        cannot: the question that its score leaves open.
    """

    make_folds: FoldMaker
    speaker_disjoint: bool
    tests_every_clip: bool
    idea: str
    source: str
    measures: str
    cannot: str


def make_folds(dataset: Dataset, protocol: str, labels: Sequence[int], seed: int = 0) -> list[Fold]:
    """Folds of a protocol, checked against what the protocol claims.

    Args:
        dataset: a corpus with the columns `file` and `speaker`; its audio is not read.
        protocol: a key of `PROTOCOLS`.
        labels: label index of each row, `(rows,)`.
        seed: of every random choice; the same seed gives the same clips in the same folds.

    Raises:
        ValueError: the protocol is unknown, labels or file names do not fit the rows, the corpus lacks
            speakers or clips for the protocol, or the folds break the protocol's claims.
    """
    if protocol not in PROTOCOLS:
        nearest = difflib.get_close_matches(protocol, PROTOCOLS, 1, cutoff=0)[0]
        raise ValueError(
            f"expected a protocol of {', '.join(PROTOCOLS)}, found {protocol!r}: did you mean {nearest!r}?"
        )
    if len(labels) != len(dataset):
        raise ValueError(
            f"expected one label for each of {len(dataset)} rows, found {len(labels)}: pass the labels of this dataset"
        )
    order = _order_by_file(dataset["file"][:])
    sorted_labels = np.asarray(labels)[order]
    positions = PROTOCOLS[protocol].make_folds(dataset.select(order), sorted_labels, seed)
    folds = [Fold(fold.name, *(order[list(getattr(fold, part))] for part in PARTS)) for fold in positions]
    _check_folds(folds, protocol, dataset)
    return folds


def _order_by_file(files: list[str]) -> np.ndarray:
    repeated = [file for file, count in Counter(files).items() if count > 1]
    if repeated:
        raise ValueError(
            f"expected a file name of its own for each clip, found {len(repeated)} names more than once "
            f"(first: {min(repeated)}): rename the clips or remove the copies"
        )
    return np.array(sorted(range(len(files)), key=files.__getitem__), dtype=int)


def _check_folds(folds: list[Fold], protocol: str, dataset: Dataset) -> None:
    tested = Counter(row for fold in folds for row in fold.test)
    again = [row for row, count in tested.items() if count > 1]
    if again:
        raise ValueError(
            f"{protocol}: expected each clip in at most one test part, found {len(again)} in several "
            f"(first: row {min(again)}): correct the protocol"
        )
    if PROTOCOLS[protocol].tests_every_clip and len(tested) < len(dataset):
        raise ValueError(
            f"{protocol}: expected {len(dataset)} clips in the test parts, found {len(tested)}: correct the protocol"
        )
    if PROTOCOLS[protocol].speaker_disjoint:
        _check_speakers(folds, dataset["speaker"][:])


def _check_speakers(folds: list[Fold], speakers: list[str]) -> None:
    for fold, (one, other) in product(folds, combinations(PARTS, 2)):
        sides = [{speakers[row] for row in getattr(fold, part)} for part in (one, other)]
        shared = set.intersection(*sides)
        if shared:
            raise ValueError(
                f"fold {fold.name!r}: expected no speaker in both {one} and {other}, found {sorted(shared)}: "
                "correct the protocol"
            )


def _random_80_20(clips: Dataset, labels: np.ndarray, seed: int) -> list[Fold]:
    test_size = len(clips) // 5
    validation_size = (len(clips) - test_size) // 10
    if not validation_size:
        raise ValueError(f"random-80-20 needs at least 12 clips, found {len(clips)}: add clips")
    shuffled = np.random.default_rng(seed).permutation(len(clips))
    test, validation, train = np.split(shuffled, [test_size, test_size + validation_size])
    return [Fold("random-80-20", train, validation, test)]


def _leave_one_speaker_out(clips: Dataset, labels: np.ndarray, seed: int) -> list[Fold]:
    speakers = _speakers(clips, "leave-one-speaker-out")
    names = sorted(set(speakers))
    folds = []
    for name, following in zip(names, names[1:] + names[:1], strict=True):
        test, validation = speakers == name, speakers == following
        folds.append(Fold(name, *map(np.flatnonzero, (~test & ~validation, validation, test))))
    return folds


def _speaker_k_fold(clips: Dataset, labels: np.ndarray, seed: int) -> list[Fold]:
    speakers = _speakers(clips, "speaker-k-fold")
    tests = _speaker_groups(speakers, labels, 5, seed)
    folds = []
    for number, test in enumerate(tests, start=1):
        rest = np.setdiff1d(np.arange(len(clips)), test)
        validation = rest[_validation(speakers[rest], labels[rest], number, seed)]
        train = np.setdiff1d(rest, validation)
        folds.append(Fold(f"{number}-of-{len(tests)}", train, validation, test))
    return folds


def _validation(speakers: np.ndarray, labels: np.ndarray, number: int, seed: int) -> np.ndarray:
    eighths = _speaker_groups(speakers, labels, 8, seed)
    # Begin elsewhere in each fold, so that the same few speakers do not select in all of them. A speaker with
    # most of the clips would starve training; a group without some label cannot select for it.
    rotated = eighths[number % len(eighths) :] + eighths[: number % len(eighths)]
    return max(rotated, key=lambda rows: (len(rows) <= len(labels) / 4, len(np.unique(labels[rows]))))


def _speakers(clips: Dataset, protocol: str) -> np.ndarray:
    speakers = clips["speaker"][:]
    unknown = [file for file, speaker in zip(clips["file"][:], speakers, strict=True) if not speaker]
    cure = (
        "take it from the file names with `--speaker_pattern`, add a speaker column to the metadata file, "
        "or use `--protocol random-80-20`"
    )
    if unknown:
        raise ValueError(
            f"{protocol} needs a speaker for every clip, but {len(unknown)} of {len(speakers)} have none "
            f"(first: {unknown[0]}): {cure}"
        )
    if len(set(speakers)) < 3:
        raise ValueError(
            f"{protocol} needs at least 3 speakers, one each to train, select and test, but found "
            f"{sorted(set(speakers))}: {cure}"
        )
    return np.array(speakers)


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


PROTOCOLS: dict[str, Protocol] = {
    "random-80-20": Protocol(
        make_folds=_random_80_20,
        speaker_disjoint=False,
        tests_every_clip=False,
        idea="A random fifth of the clips is the test; a tenth of the rest validates (the report had none).",
        source="D. Pak, Emotion Classification using Various Transformer Architectures, 2022",
        measures="How well further clips of known speakers are labelled, some of them parts of known takes.",
        cannot="Tell anything about unseen speakers; the one test part is small (217 clips of VIVAE).",
    ),
    "leave-one-speaker-out": Protocol(
        make_folds=_leave_one_speaker_out,
        speaker_disjoint=True,
        tests_every_clip=True,
        idea="Each speaker in turn is the test, the next by name validates, the others train.",
        source="ARCH: M. La Quatra et al., Benchmarking Representations for Speech, Music, and Acoustic "
        "Events, ICASSP Workshops 2024",
        measures="How well an unseen speaker is labelled, and how much that varies from speaker to speaker.",
        cannot="Select steadily: one speaker validates; nor separate a hard speaker from an unlucky seed.",
    ),
    "speaker-k-fold": Protocol(
        make_folds=_speaker_k_fold,
        speaker_disjoint=True,
        tests_every_clip=True,
        idea="Up to five groups of whole speakers, balanced in labels, are the test in turn; about an eighth "
        "of the other clips, again of whole speakers, validates.",
        source="hf_vivae; groups by StratifiedGroupKFold of scikit-learn",
        measures="How well unseen speakers are labelled, in any corpus that names its speakers.",
        cannot="Be set beside leave-one-speaker-out, which trains on more speakers; a label with fewer clips "
        "than folds is missing from some test parts.",
    ),
}
