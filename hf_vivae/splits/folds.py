"""What a split is: folds of row indices, and protocols, which make folds and say what they promise."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from ..validation import UserError

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
        rows = {part: np.sort(np.asarray(getattr(self, part), dtype=np.intp)) for part in PARTS}
        for part in PARTS:
            object.__setattr__(self, part, tuple(rows[part].tolist()))
            repeated = np.count_nonzero(np.diff(rows[part]) == 0)
            if repeated or not len(rows[part]):
                raise UserError(
                    f"fold {self.name!r}: expected one or more different rows in {part}, found {len(rows[part])}, "
                    f"of which {len(rows[part]) - repeated} differ: give it rows, each once"
                )
        for one, other in combinations(PARTS, 2):
            shared = rows[other][np.isin(rows[other], rows[one])]
            if len(shared):
                raise UserError(
                    f"fold {self.name!r}: expected no row in both {one} and {other}, found {len(shared)} "
                    f"(first: {shared[0]}): give each row to one part"
                )


FoldMaker = Callable[["Dataset", np.ndarray, int, int], Iterable[Fold]]


@dataclass(frozen=True)
class Protocol:
    """A way to split a corpus, with what its score means.

    Args:
        make_folds: `(clips sorted by file, labels (clips,), seed, number of groups)` -> folds of positions among
            those clips.
        speaker_disjoint: whether a speaker's clips all lie in one part of a fold, or in none.
        tests_every_clip: whether the test parts of all folds together hold every clip.
        uses_every_clip: whether the three parts of each fold together hold every clip.
        grouped: whether the number of groups means anything to it.
        idea: how it splits.
        source: who uses it.
        measures: the question that its score answers.
        cannot: the question that its score leaves open.
    """

    make_folds: FoldMaker
    speaker_disjoint: bool
    tests_every_clip: bool
    uses_every_clip: bool
    grouped: bool
    idea: str
    source: str
    measures: str
    cannot: str
