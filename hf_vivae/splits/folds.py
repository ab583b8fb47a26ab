"""`Fold`, the row indices of a split, and `Protocol`, a way to split a corpus with its claims."""

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
    """Row indices of one split of a corpus, each part sorted.

    Args:
        name: unique among the folds of its protocol, and a safe folder name if the names of the speakers are.
        train: rows that the model and every statistic of its features are fitted on.
        validation: rows that select epochs and settings.
        test: rows that are predicted once, at the end.

    Raises:
        UserError: for a part that is empty, contains a row twice, or shares a row with another part.
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
                    f"of which {len(rows[part]) - repeated} differ; give it rows, each once."
                )
        for part, other in combinations(PARTS, 2):
            shared = rows[other][np.isin(rows[other], rows[part])]
            if len(shared):
                raise UserError(
                    f"fold {self.name!r}: expected no row in both {part} and {other}, found {len(shared)} "
                    f"(first: {shared[0]}); give each row to one part."
                )


FoldMaker = Callable[["Dataset", np.ndarray, int, int], Iterable[Fold]]


@dataclass(frozen=True)
class Protocol:
    """A way to split a corpus, with claims about its folds and the meaning of its scores.

    Args:
        make_folds: function of clips sorted by file, labels `(clips,)`, seed and number of groups, which returns folds
            of positions among these clips.
        speaker_disjoint: each fold has all clips of a speaker in the same part, or in none.
        tests_every_clip: the test parts of all folds together contain every clip.
        uses_every_clip: the three parts of each fold together contain every clip.
        grouped: the folds depend on the number of groups.
        idea: description of the split.
        source: publication or program that uses it.
        measures: what its score measures.
        cannot: what its score does not show, to follow the words "It cannot".
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
