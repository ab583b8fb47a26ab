"""Folds with fewer speakers: nested random subsets of those that train and validate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from ..validation import UserError
from .folds import PARTS, Fold


def check_speakers(folds: Sequence[Fold], speakers: Sequence[str | None]) -> None:
    """Check that each clip has a speaker, and that no speaker is in two parts of a fold.

    Args:
        folds: of any protocol.
        speakers: name of each clip's speaker, `(clips,)`; None or "" where unknown.

    Raises:
        UserError: with the number of clips without a speaker, or the first speaker in two parts.
    """
    if unknown := sum(not speaker for speaker in speakers):
        raise UserError(
            f"expected a speaker for every clip to train on some of the speakers, found none for {unknown} of "
            f"{len(speakers)}; take it from the file names with --speaker_pattern, or add a speaker column."
        )
    for fold in folds:
        present = {part: {speakers[row] for row in getattr(fold, part)} for part in PARTS}
        for part, other in combinations(PARTS, 2):
            if shared := present[part] & present[other]:
                raise UserError(
                    f"expected folds that keep speakers apart to train on some of the speakers, found {min(shared)} "
                    f"in {part} and {other} of fold {fold.name}; add --protocol speaker-k-fold."
                )


def count_speakers(fold: Fold, speakers: Sequence[str | None]) -> int:
    """Return the number of speakers of a fold's training and validation clips together."""
    return len({speakers[row] for row in (*fold.train, *fold.validation)})


def draw_speakers(fold: Fold, speakers: Sequence[str | None], number: int, draw: int) -> Fold:
    """Return a fold with the training and validation clips of some of its speakers, and all of its test clips.

    Training and validation speakers are put into a random order each, and the first of both are taken, with the share
    of validation speakers of the whole fold and at least one of each. Subsets of one draw are nested: a speaker
    of a smaller one is in the same part of each larger one. All speakers give the fold itself.

    Args:
        fold: whose parts share no speaker (`check_speakers`).
        speakers: name of each clip's speaker, `(clips,)`.
        number: of training and validation speakers together.
        draw: seed of the order.

    Raises:
        UserError: for a number below 2, or above that of the fold's speakers.
    """
    available = count_speakers(fold, speakers)
    if not 2 <= number <= available:
        raise UserError(
            f"expected --train_speakers of 2 to {available}, the speakers that train and validate in fold "
            f"{fold.name}, found {number}; give another number, or leave it out for all of them."
        )
    rng = np.random.default_rng(draw)
    train, validation = (
        rng.permutation(sorted({speakers[row] for row in part})).tolist() for part in (fold.train, fold.validation)
    )
    validating = min(max(1, round(number * len(validation) / available)), number - 1)
    drawn = {*train[: number - validating], *validation[:validating]}
    kept = {part: [row for row in getattr(fold, part) if speakers[row] in drawn] for part in ("train", "validation")}
    return replace(fold, **kept)
