"""Splits of a corpus into training, validation and test clips: folds of row indices, made by protocols.

Every fold is checked: its parts are disjoint by row and by the digest of the sound, no speaker is in two parts where
the protocol claims so, and no clip is tested twice. Folds depend on the names of the clips and the seed, never on the
order of the rows. Where clips are segments of recordings (column `recording`), protocols that keep speakers apart keep
recordings apart, too.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ..validation import UserError, check_choice
from .folds import PARTS, Fold, Protocol
from .protocols import PROTOCOLS

if TYPE_CHECKING:
    from datasets import Dataset


__all__ = ["NUM_GROUPS", "PARTS", "PROTOCOLS", "Fold", "Protocol", "make_folds"]

logger = logging.getLogger(__name__)

NUM_GROUPS = 5


@dataclass
class SplitArguments:
    """Treatment of copies of clips when a corpus is split."""

    duplicates: Literal["error", "keep_together"] = field(
        default="error",
        metadata={
            "help": "Stop at copies of a clip in two parts of a fold (error), or put them into one (keep_together)."
        },
    )


def make_folds(
    dataset: Dataset,
    protocol: str,
    labels: Sequence[int],
    seed: int = 0,
    num_groups: int = NUM_GROUPS,
    digests: Sequence[str] | None = None,
    duplicates: str = "error",
) -> list[Fold]:
    """Make the folds of a protocol, and check them against its claims.

    Args:
        dataset: a corpus with the columns `file` and `speaker`, and `intensity` or `core` if the protocol needs them;
            its audio is not read. With a column `recording`, speakers may be unknown: if the protocol keeps speakers
            apart, speakers who share a recording count as one, and a recording without speakers as a speaker.
        protocol: a key of `PROTOCOLS`.
        labels: label index of each row, `(rows,)`.
        seed: seed of all random choices that the protocol does not fix; the same seed results in the same folds.
        num_groups: maximum number of groups of speakers, for protocols that are `grouped`.
        digests: digest of the sound of each row, `(rows,)`; rows with the same digest are copies of a clip. If None,
            no row counts as a copy.
        duplicates: "error" refuses folds with copies of a clip in two parts; "keep_together" puts them into the part
            of the first by name. If the protocol keeps speakers apart, speakers who share a clip count as one.

    Raises:
        UserError: for an unknown protocol, a number of groups that it does not use, labels or file names that do not
            fit the rows, a corpus without columns or clips that the protocol needs, fewer than three groups of
            recordings, copies of a clip in two parts, and folds that violate the protocol's claims.
    """
    check_choice("the protocol", protocol, PROTOCOLS)
    check_num_groups(protocol, num_groups)
    if len(labels) != len(dataset):
        raise UserError(f"expected one label for each of {len(dataset)} rows, found {len(labels)}; pass its labels.")
    files = dataset["file"][:]
    repeated = [file for file, count in Counter(files).items() if count > 1]
    if repeated:
        raise UserError(
            f"expected a file name of its own for each clip, found {len(repeated)} names more than once "
            f"(first: {min(repeated)}); rename the clips or remove the copies."
        )
    order = sorted(range(len(files)), key=files.__getitem__)
    copies = [[row] for row in order]  # the rows of each clip, in the order of their first names
    is_segmented = "recording" in dataset.column_names
    keeps_apart = PROTOCOLS[protocol].speaker_disjoint
    clips = speakers = _join_recordings(dataset, protocol) if is_segmented and keeps_apart else dataset
    if digests is not None and duplicates == "keep_together":
        groups: dict[str, list[int]] = {}
        for row in order:
            groups.setdefault(digests[row], []).append(row)
        copies = list(groups.values())
        if keeps_apart:
            clips = _join_speakers(clips, copies, "clip")
    first = [rows[0] for rows in copies]
    positions = PROTOCOLS[protocol].make_folds(clips.select(first), np.asarray(labels)[first], seed, num_groups)
    folds = [
        Fold(fold.name, *([row for clip in getattr(fold, part) for row in copies[clip]] for part in PARTS))
        for fold in positions
    ]
    _check_folds(folds, protocol, speakers)
    if is_segmented and not keeps_apart:
        _check_recordings(folds, protocol, dataset["recording"][:])
    if digests is not None:
        _check_copies(folds, files, digests)
    return folds


def check_num_groups(protocol: str, num_groups: int) -> None:
    """Check that a protocol uses this number of groups.

    Raises:
        UserError: for a number below 2, and for a protocol that does not divide the speakers into groups.
    """
    if num_groups < 2:
        raise UserError(
            f"expected --num_groups of 2 or more, found {num_groups}; one group cannot both train and test."
        )
    if num_groups != NUM_GROUPS and not PROTOCOLS[protocol].grouped:
        grouped = ", ".join(name for name, header in PROTOCOLS.items() if header.grouped)
        raise UserError(
            f"expected --num_groups only with a protocol of {grouped}, found it with {protocol}; leave it out."
        )


def _join_recordings(dataset: Dataset, protocol: str) -> Dataset:
    """Return the segments with one name for speakers who share a recording, that of the recording for unknown ones."""
    recordings: dict[str, list[int]] = {}
    for row, recording in enumerate(dataset["recording"][:]):
        recordings.setdefault(recording, []).append(row)
    names = [speaker or name for speaker, name in zip(dataset["speaker"][:], dataset["recording"][:], strict=True)]
    named = dataset.remove_columns("speaker").add_column("speaker", names)
    joined = _join_speakers(named, list(recordings.values()), "recording")
    if (number := len(set(joined["speaker"][:]))) < 3:
        raise UserError(
            f"{protocol}: expected at least 3 groups of recordings without a common speaker, one each to train, "
            f"select and test, found {number} in {len(recordings)} recordings; add recordings, or name one speaker "
            "for each recording with --speaker_pattern."
        )
    return joined


def _join_speakers(dataset: Dataset, copies: list[list[int]], shared: str) -> Dataset:
    """Return the corpus with one name, the first, for speakers of one list of rows, directly or through others.

    Args:
        dataset: the corpus.
        copies: rows of each clip, or of each recording.
        shared: "clip" or "recording", for a warning.
    """
    speakers = dataset["speaker"][:]
    if None in speakers:  # refused by the protocol, with a remedy
        return dataset
    names, codes = np.unique(speakers, return_inverse=True)
    first, second = zip(*((codes[rows[0]], codes[row]) for rows in copies for row in rows), strict=True)
    links = coo_array((np.ones(len(first)), (first, second)), shape=(len(names), len(names)))
    _, component = connected_components(links, directed=False)
    groups = [names[component == number] for number in range(component.max() + 1)]
    if joined := [" = ".join(group) for group in groups if len(group) > 1]:
        logger.warning("Speakers who share a %s count as one: %s.", shared, "; ".join(joined))
    renamed = [str(groups[component[code]][0]) for code in codes]
    return dataset.remove_columns("speaker").add_column("speaker", renamed)


def _check_folds(folds: list[Fold], protocol: str, dataset: Dataset) -> None:
    header = PROTOCOLS[protocol]
    tested = Counter(row for fold in folds for row in fold.test)
    repeated = [row for row, count in tested.items() if count > 1]
    if repeated:
        raise UserError(
            f"{protocol}: expected each clip in at most one test part, found {len(repeated)} in several "
            f"(first: row {min(repeated)}); correct the protocol."
        )
    if header.tests_every_clip and len(tested) < len(dataset):
        raise UserError(
            f"{protocol}: expected {len(dataset)} clips in the test parts, found {len(tested)}; correct the protocol."
        )
    if header.uses_every_clip:
        for fold in folds:
            used = sum(len(getattr(fold, part)) for part in PARTS)
            if used < len(dataset):
                raise UserError(
                    f"fold {fold.name!r}: expected all {len(dataset)} clips in its parts, found {used}; "
                    "correct the protocol."
                )
    if not header.speaker_disjoint:
        return
    names, codes = np.unique(dataset["speaker"][:], return_inverse=True)
    for fold in folds:
        present = {part: np.bincount(codes[list(getattr(fold, part))], minlength=len(names)) > 0 for part in PARTS}
        for part, other in combinations(PARTS, 2):
            shared = names[present[part] & present[other]].tolist()
            if shared:
                raise UserError(
                    f"fold {fold.name!r}: expected no speaker in both {part} and {other}, found {shared}; "
                    "correct the protocol."
                )


def _check_recordings(folds: list[Fold], protocol: str, recordings: Sequence[str]) -> None:
    """Refuse folds that divide a recording: its segments share the room, the microphone and mostly the speaker."""
    for fold in folds:
        train, validation, test = (
            {recordings[row] for row in rows} for rows in (fold.train, fold.validation, fold.test)
        )
        if divided := sorted(train & validation | train & test | validation & test):
            raise UserError(
                f"{protocol}: expected all segments of a recording in one part of a fold, found those of {divided[0]} "
                f"in several ({len(divided)} such recordings in fold {fold.name}); give --protocol speaker-k-fold, "
                "which keeps recordings apart."
            )


def _check_copies(folds: list[Fold], files: Sequence[str], digests: Sequence[str]) -> None:
    remedy = "remove the copies, or keep them in one part with --duplicates keep_together"
    tested: dict[str, tuple[str, int]] = {}
    for fold in folds:
        parts = {row: part for part in PARTS for row in getattr(fold, part)}
        first: dict[str, int] = {}
        pairs = [
            f"{files[first[digests[row]]]} ({parts[first[digests[row]]]}) = {files[row]} ({part})"
            for row, part in parts.items()
            if parts[first.setdefault(digests[row], row)] != part
        ]
        if pairs:
            more = f"; and {len(pairs) - 10} more" if len(pairs) > 10 else ""
            raise UserError(
                f"fold {fold.name!r}: expected no clip in two parts, found {len(pairs)} with a copy in another "
                f"({'; '.join(pairs[:10])}{more}); {remedy}."
            )
        for row in fold.test:
            name, other = tested.setdefault(digests[row], (fold.name, row))
            if name != fold.name:
                raise UserError(
                    f"expected each clip in the test part of one fold, found {files[other]} in that of {name} and its "
                    f"copy {files[row]} in that of {fold.name}; {remedy}."
                )
