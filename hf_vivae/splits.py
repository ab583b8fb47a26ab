"""Which clips train, select and test: protocols that turn a corpus into folds of row indices.

Every fold is proven: its parts are disjoint, speakers stay on one side where the protocol says so, and no
clip is tested twice. Folds depend on the clips' names and the seed, never on the order of the rows.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from .folds import PARTS, Fold, Protocol
from .protocols import PROTOCOLS
from .validation import UserError

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["NUM_GROUPS", "PARTS", "PROTOCOLS", "Fold", "Protocol", "make_folds"]

NUM_GROUPS = 5


def make_folds(
    dataset: Dataset, protocol: str, labels: Sequence[int], seed: int = 0, num_groups: int = NUM_GROUPS
) -> list[Fold]:
    """Folds of a protocol, checked against what the protocol claims.

    Args:
        dataset: a corpus with the columns `file` and `speaker`, and where the protocol asks for them `intensity`
            and `core`; its audio is not read.
        protocol: a key of `PROTOCOLS`.
        labels: label index of each row, `(rows,)`.
        seed: of every random choice that the protocol has not fixed; the same seed gives the same clips in the
            same folds.
        num_groups: into how many groups, at most, a protocol that is `grouped` divides the speakers.

    Raises:
        ValueError: the protocol is unknown or has no groups, labels or file names do not fit the rows, the corpus
            lacks what the protocol needs, or the folds break the protocol's claims.
    """
    if protocol not in PROTOCOLS:
        nearest = difflib.get_close_matches(protocol, PROTOCOLS, 1, cutoff=0)[0]
        raise UserError(
            f"expected a protocol of {', '.join(PROTOCOLS)}, found {protocol!r}: did you mean {nearest!r}?"
        )
    check_num_groups(protocol, num_groups)
    if len(labels) != len(dataset):
        raise UserError(
            f"expected one label for each of {len(dataset)} rows, found {len(labels)}: pass the labels of this dataset"
        )
    order = _order_by_file(dataset["file"][:])
    sorted_labels = np.asarray(labels)[order]
    positions = PROTOCOLS[protocol].make_folds(dataset.select(order), sorted_labels, seed, num_groups)
    folds = [Fold(fold.name, *(order[list(getattr(fold, part))] for part in PARTS)) for fold in positions]
    _check_folds(folds, protocol, dataset)
    return folds


def check_num_groups(protocol: str, num_groups: int) -> None:
    """Refuse a number of groups that no protocol has, or that this one has no use for.

    Raises:
        ValueError: saying which protocols divide speakers into groups.
    """
    if num_groups < 2:
        raise UserError(
            f"expected --num_groups of 2 or more, found {num_groups}: some speakers train while others are tested"
        )
    if num_groups != NUM_GROUPS and not PROTOCOLS[protocol].grouped:
        grouped = ", ".join(name for name, header in PROTOCOLS.items() if header.grouped)
        raise UserError(
            f"expected --num_groups only with a protocol of {grouped}, found it with {protocol}: leave it out"
        )


def _order_by_file(files: list[str]) -> np.ndarray:
    repeated = [file for file, count in Counter(files).items() if count > 1]
    if repeated:
        raise UserError(
            f"expected a file name of its own for each clip, found {len(repeated)} names more than once "
            f"(first: {min(repeated)}): rename the clips or remove the copies"
        )
    return np.array(sorted(range(len(files)), key=files.__getitem__), dtype=int)


def _check_folds(folds: list[Fold], protocol: str, dataset: Dataset) -> None:
    header = PROTOCOLS[protocol]
    tested = Counter(row for fold in folds for row in fold.test)
    again = [row for row, count in tested.items() if count > 1]
    if again:
        raise UserError(
            f"{protocol}: expected each clip in at most one test part, found {len(again)} in several "
            f"(first: row {min(again)}): correct the protocol"
        )
    if header.tests_every_clip and len(tested) < len(dataset):
        raise UserError(
            f"{protocol}: expected {len(dataset)} clips in the test parts, found {len(tested)}: correct the protocol"
        )
    if header.uses_every_clip:
        _check_use(folds, len(dataset))
    if header.speaker_disjoint:
        _check_speakers(folds, dataset["speaker"][:])


def _check_use(folds: list[Fold], clips: int) -> None:
    for fold in folds:
        used = sum(len(getattr(fold, part)) for part in PARTS)
        if used < clips:
            raise UserError(
                f"fold {fold.name!r}: expected all {clips} clips in its parts, found {used}: correct the protocol"
            )


def _check_speakers(folds: list[Fold], speakers: list[str]) -> None:
    names, codes = np.unique(speakers, return_inverse=True)
    for fold in folds:
        present = {part: np.bincount(codes[list(getattr(fold, part))], minlength=len(names)) > 0 for part in PARTS}
        for one, other in combinations(PARTS, 2):
            shared = names[present[one] & present[other]].tolist()
            if shared:
                raise UserError(
                    f"fold {fold.name!r}: expected no speaker in both {one} and {other}, found {shared}: "
                    "correct the protocol"
                )
