"""Clips worth a second look: near-duplicates, and clips whose label their nearest neighbours doubt."""

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ..files import OUTPUT_REMEDY, atomic_file, check_new
from ..reporting.tables import csv_cell
from ..validation import UserError
from .folder import EMBEDDING, EmbeddingFolder, unit_vectors
from .index import check_usearch, open_index
from .labels import LabelledRow, read_labelled_rows

NEIGHBOURS = 10  # that vote
SEARCHED_NEIGHBOURS = 64  # of which those of the same file and speaker are left out
DUPLICATE = 0.95  # cosine from which on two clips count as one recording: MP3 of a clip has less than 0.999
ROUNDING = 0.002  # of a cosine of numbers of 16 bits, as the index has them


def find_neighbours(folder: EmbeddingFolder, count: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield the number of each row, the numbers of its nearest rows `(count,)`, and their cosines `(count,)`.

    They are found by the index, so that one in a hundred may be missing; cosines are those of 16 bits.
    """
    index = open_index(folder, count)
    for numbers, table in folder.tables(EMBEDDING):
        matches = index.search(unit_vectors(table[EMBEDDING]), min(count, len(index)), threads=1)
        keys, distances = np.atleast_2d(matches.keys), np.atleast_2d(matches.distances)
        yield from ((int(number), key, 1 - away) for number, key, away in zip(numbers, keys, distances, strict=True))


def near_duplicates(
    folder: EmbeddingFolder, rows: Sequence[LabelledRow], similarity: float = DUPLICATE
) -> list[tuple[LabelledRow, LabelledRow, float]]:
    """Return pairs of rows of different files with at least this cosine, the most similar first.

    Args:
        folder: of embeddings.
        rows: of the folder.
        similarity: cosine of two embeddings.
    """
    by_number = {row.number: row for row in rows}
    candidates = set()
    for number, neighbours, cosines in find_neighbours(folder, SEARCHED_NEIGHBOURS):
        for neighbour in map(int, neighbours[cosines >= similarity - ROUNDING]):
            if by_number[neighbour].file != by_number[number].file:
                candidates.add((min(number, neighbour), max(number, neighbour)))
    pairs = []
    for first, second in sorted(candidates):
        vectors = np.array([row[EMBEDDING] for row in folder.rows([first, second], EMBEDDING)], np.float64)
        cosine = float(vectors[0] @ vectors[1] / np.prod(np.linalg.norm(vectors, axis=1)))
        if cosine >= similarity:
            pairs.append((by_number[first], by_number[second], cosine))
    return sorted(pairs, key=lambda pair: -pair[2])


def doubtful_labels(
    folder: EmbeddingFolder, rows: Sequence[LabelledRow]
) -> list[tuple[LabelledRow, str, float, list[LabelledRow]]]:
    """Return rows whose label is not that of most of their neighbours, the largest majority first.

    Ten neighbours vote, each with its cosine: k nearest neighbours (Cover and Hart, "Nearest neighbor pattern
    classification", 1967), as a filter of labels (Wilson, "Asymptotic properties of nearest neighbor rules using
    edited data", 1972). Rows of the same file and of the same speaker do not vote, since they would agree for other
    reasons.

    Args:
        folder: of embeddings.
        rows: of the folder; those without a label neither vote nor are doubted.

    Returns:
        For each row the neighbours' label, its share of the votes, and the neighbours.
    """
    by_number, doubts = {row.number: row for row in rows}, []
    for number, numbers, cosines in find_neighbours(folder, SEARCHED_NEIGHBOURS):
        row = by_number[number]
        if row.label is None:
            continue
        voters = [
            (neighbour, float(cosine))
            for neighbour, cosine in zip(map(by_number.get, map(int, numbers)), cosines, strict=True)
            if neighbour.label is not None
            and neighbour.file != row.file
            and (row.speaker is None or neighbour.speaker != row.speaker)
        ][:NEIGHBOURS]
        votes: Counter[str] = Counter()
        for neighbour, cosine in voters:
            votes[neighbour.label] += max(cosine, 0.0)
        if not (total := sum(votes.values())):
            continue
        label, weight = max(votes.items(), key=lambda vote: (vote[1], vote[0]))
        if label != row.label and weight > total / 2:
            doubts.append((row, label, weight / total, [neighbour for neighbour, _ in voters]))
    return sorted(doubts, key=lambda doubt: -doubt[2])


def run_review(path: Path, *, output: Path, labels: str | None = None, similarity: float = DUPLICATE) -> int:
    """Write `duplicates.csv`, and `doubtful.csv` where labels are given, into a new folder; return the exit code."""
    check_usearch("review")
    if not 0 < similarity <= 1:
        raise UserError(f"expected --similarity above 0 and at most 1, found {similarity:g}; {DUPLICATE:g} is usual.")
    check_new(output)
    folder = EmbeddingFolder.open(path)
    rows = read_labelled_rows(folder, labels)
    if not rows:
        raise UserError(f"expected embeddings in {path}, found none; embed clips first.")
    duplicates = near_duplicates(folder, rows, similarity)
    output.mkdir(parents=True)
    _write(
        output / "duplicates.csv",
        ("file", "start", "end", "other", "other_start", "other_end", "similarity"),
        [(*_place(one), *_place(other), f"{cosine:.5f}") for one, other, cosine in duplicates],
    )
    print(f"{len(duplicates)} pairs of near-duplicates: {output / 'duplicates.csv'}")
    if labels is not None:
        doubts = doubtful_labels(folder, rows)
        labelled = sum(row.label is not None for row in rows)
        _write(
            output / "doubtful.csv",
            ("file", "start", "end", "label", "neighbours_label", "share", "nearest"),
            [
                (*_place(row), row.label, other, f"{share:.3f}", neighbours[0].file)
                for row, other, share, neighbours in doubts
            ],
        )
        print(f"{len(doubts)} of {labelled} labels are doubted by their neighbours: {output / 'doubtful.csv'}")
    return 0


def _place(row: LabelledRow) -> tuple[str, str, str]:
    return row.file, *("" if time is None else f"{time:.3f}" for time in (row.start, row.end))


def _write(file: Path, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    with atomic_file(file, OUTPUT_REMEDY) as part, open(part, "w", newline="", encoding="utf-8") as stream:
        lines = csv.writer(stream, lineterminator="\n")
        lines.writerow(columns)
        lines.writerows([csv_cell(cell) for cell in row] for row in rows)
