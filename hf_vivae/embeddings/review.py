"""The command `hf-vivae review`: near-duplicates, and clips whose label their neighbours doubt.

Doubts are a plain vote of nearest neighbours: Wilson, "Asymptotic properties of nearest neighbor rules using edited
data", IEEE Transactions on Systems, Man, and Cybernetics 1972.
"""

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

from ..files import OUTPUT_REMEDY, atomic_file, check_new, read_table
from ..reporting.tables import csv_cell
from ..validation import UserError
from .folder import EMBEDDING, EmbeddingFolder, unit_vectors
from .index import check_usearch, open_index

NEAR_DUPLICATE = 0.95  # cosine; an MP3 of a clip is not quite like it
VOTERS = 10
SEARCHED = 50  # nearest rows, of which those of the same speaker have no vote
TABLES = (".csv", ".jsonl", ".parquet")


@dataclass(frozen=True)
class LabelledRow:
    """A row of embeddings with the label that it should have.

    Args:
        file: of the row.
        start: of a window, in seconds.
        end: of a window, in seconds.
        label: None where it is not known.
        speaker: None where it is not known.
    """

    file: str
    start: float | None
    end: float | None
    label: str | None
    speaker: str | None

    @property
    def source(self) -> tuple[str, str]:
        """Return what its neighbours must differ in to have a vote: the speaker, or where unknown the file."""
        return ("speaker", self.speaker) if self.speaker else ("file", self.file)


def label_rows(folder: EmbeddingFolder, table: Path | None) -> dict[int, LabelledRow]:
    """Return the rows with embeddings by their number, with labels by a table or by the folders of the files.

    Args:
        folder: of embeddings.
        table: with the columns `file` (or `file_name`), `label` (or `emotion`) and, if known, `speaker`; its files are
            whole paths or their last parts.

    Raises:
        UserError: for a table without these columns or without two labels of the files. Files of one folder have none.
    """
    listed: dict[str, tuple[str, str | None]] = {}
    if table is not None:
        if table.suffix not in TABLES or not table.is_file():
            raise UserError(f"expected --labels as a file of {', '.join(TABLES)}, found {table}; give one of them.")
        for row in read_table(table):
            file, label = row.get("file") or row.get("file_name"), row.get("label") or row.get("emotion")
            if not file or not label:
                raise UserError(f"expected a file and a label in each row of {table}, found {row}; add them.")
            listed[PurePath(file).as_posix()] = (str(label), row.get("speaker"))
    rows = {}
    for numbers, part in folder.tables("file", "start", "end"):
        for number, row in zip(numbers.tolist(), part.to_pylist(), strict=True):
            path = PurePath(row["file"])
            if table is None:
                label, speaker = path.parent.name, None
            else:
                names = ("/".join(path.parts[first:]) for first in range(len(path.parts)))
                known = (listed[name] for name in (path.as_posix(), *names) if name in listed)
                label, speaker = next(known, (None, None))
            rows[number] = LabelledRow(**row, label=label, speaker=speaker)
    names = {row.label for row in rows.values() if row.label is not None}
    if len(names) < 2:
        if table is None:
            return {number: replace(row, label=None) for number, row in rows.items()}
        raise UserError(
            f"expected at least two labels in {table} for the files of {folder.path}, found "
            f"{', '.join(names) or 'none'}; give another table as --labels."
        )
    return rows


def find_neighbours(folder: EmbeddingFolder) -> Iterator[tuple[int, list[tuple[int, float]]]]:
    """Yield the number of each row with the numbers and similarities of those nearest to it, without itself.

    Similarities are cosines as the index has them, rounded to 16 bits.

    Raises:
        UserError: as `open_index`.
    """
    index = open_index(folder, SEARCHED)
    for numbers, part in folder.tables(EMBEDDING):
        if not len(numbers):
            continue
        batch = index.search(unit_vectors(part[EMBEDDING]), SEARCHED + 1)
        batch = [batch] if len(numbers) == 1 else batch  # of one vector, usearch returns no batch
        for number, matches in zip(numbers.tolist(), batch, strict=True):
            nearest = zip(matches.keys.tolist(), matches.distances.tolist(), strict=True)
            yield number, [(other, min(1 - distance, 1.0)) for other, distance in nearest if other != number]


def doubt(row: LabelledRow, neighbours: Iterable[LabelledRow]) -> tuple[str, float, int] | None:
    """Return the label that most neighbours have, its share and their number; None where the row's label stands.

    Args:
        row: with a label.
        neighbours: the nearest first; those without label or of the same speaker (file, where unknown) have no vote.
    """
    voters = [other.label for other in neighbours if other.label is not None and other.source != row.source][:VOTERS]
    if not voters:
        return None
    label, votes = Counter(voters).most_common(1)[0]
    return (label, votes / len(voters), len(voters)) if label != row.label and 2 * votes > len(voters) else None


def run_review(path: Path, *, output: Path, labels: Path | None = None, min_similarity: float = NEAR_DUPLICATE) -> int:
    """Write near-duplicates and doubts of a folder of embeddings as CSV, and return the exit code."""
    check_usearch("review")
    if not 0 < min_similarity <= 1:
        raise UserError(
            f"expected --min_similarity above 0 and at most 1, found {min_similarity:g}; {NEAR_DUPLICATE:g} is usual."
        )
    files = {name: output / f"{name}.csv" for name in ("duplicates", "doubts")}
    for file in files.values():
        check_new(file)
    folder = EmbeddingFolder.open(path)
    rows = label_rows(folder, labels)
    duplicates: dict[tuple[int, int], float] = {}
    doubts = []
    for number, neighbours in find_neighbours(folder):
        row = rows[number]
        for other, similarity in neighbours:
            if similarity >= min_similarity and rows[other].file != row.file:
                duplicates[min(number, other), max(number, other)] = similarity
        if row.label is not None and (vote := doubt(row, (rows[other] for other, _ in neighbours))):
            label, share, voters = vote
            doubts.append([row.file, row.start, row.end, row.label, label, f"{share:.2f}", voters])
    columns = ["file", "start", "end", "other_file", "other_start", "other_end", "similarity"]
    pairs = []
    for numbers, similarity in sorted(duplicates.items(), key=lambda item: -item[1]):
        places = [cell for row in map(rows.get, numbers) for cell in (row.file, row.start, row.end)]
        pairs.append([*places, f"{similarity:.4f}"])
    _write(files["duplicates"], columns, pairs)
    unlabelled = sum(row.label is None for row in rows.values())
    print(f"{len(pairs)} pairs of near-duplicates: {files['duplicates']}")
    if unlabelled == len(rows):
        print("All files lie in one folder, so that no label is judged; give a table as --labels.")
        return 0
    columns = ["file", "start", "end", "label", "neighbours_label", "share", "neighbours"]
    _write(files["doubts"], columns, sorted(doubts, key=lambda cells: cells[5], reverse=True))
    print(f"{len(doubts)} of {len(rows) - unlabelled} labels that their neighbours doubt: {files['doubts']}")
    if unlabelled:
        print(f"{unlabelled} rows have no label in {labels}: they are not judged, and have no vote.")
    return 0


def _write(file: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with atomic_file(file, OUTPUT_REMEDY) as part, open(part, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([csv_cell(cell) for cell in row] for row in rows)
