"""Labels of the rows of a folder of embeddings: the checkpoint's, the folder's name, or those of a table."""

import os
from dataclasses import dataclass
from pathlib import Path

from ..files import read_table
from ..validation import UserError
from .folder import EmbeddingFolder

FOLDERS = "folders"  # in place of a table: the name of the folder that a file lies in
TABLES = (".csv", ".jsonl", ".parquet")


@dataclass(frozen=True)
class LabelledRow:
    """A row of a folder of embeddings with its label.

    Args:
        number: of the row in the folder.
        file: of the clip, or of the recording that it is a part of.
        start: of the part in seconds; None for a whole clip.
        end: of the part in seconds; None for a whole clip.
        label: of the clip; None where there is none.
        speaker: of the clip; None where it is not known.
    """

    number: int
    file: str
    start: float | None
    end: float | None
    label: str | None
    speaker: str | None = None


def read_labelled_rows(folder: EmbeddingFolder, labels: str | None) -> list[LabelledRow]:
    """Return all rows that have an embedding, in the order of the folder.

    Args:
        folder: of embeddings.
        labels: None for the label that the checkpoint predicts; `FOLDERS`; or a table with the columns `file` and
            `label`, and `speaker` if known, whose files are relative to the table or written as in the folder.

    Raises:
        UserError: for a table that cannot be read, has other columns, or names no file of the folder.
    """
    rows = [
        LabelledRow(int(number), row["file"], row["start"], row["end"], row["label"])
        for numbers, table in folder.tables("file", "start", "end", "label")
        for number, row in zip(numbers, table.to_pylist(), strict=True)
    ]
    if labels is None:
        return rows
    if labels == FOLDERS:
        return [LabelledRow(*_place(row), Path(row.file).parent.name or None) for row in rows]
    table = Path(labels)
    if table.suffix not in TABLES or not table.is_file():
        raise UserError(
            f"expected --labels as {FOLDERS} or a table ({', '.join(TABLES)}) with the columns file and label, found "
            f"{labels}; give one of them."
        )
    entries = read_table(table)
    if not entries or not {"file", "label"} <= entries[0].keys():
        columns = ", ".join(entries[0]) if entries else "no rows"
        raise UserError(f"expected the columns file and label in {table}, found {columns}; name them so.")
    by_file = {}
    for entry in entries:
        value = entry["label"] or None, entry.get("speaker") or None
        by_file |= {entry["file"]: value, os.path.realpath(table.parent / entry["file"]): value}
    labelled = [
        LabelledRow(*_place(row), *by_file.get(row.file, by_file.get(os.path.realpath(row.file), (None, None))))
        for row in rows
    ]
    if not any(row.label for row in labelled):
        raise UserError(
            f"expected files of {folder.path} in {table}, such as {rows[0].file if rows else 'none'}, found "
            f"{entries[0]['file']} and others; write them relative to the table, or as they were embedded."
        )
    return labelled


def _place(row: LabelledRow) -> tuple[int, str, float | None, float | None]:
    return row.number, row.file, row.start, row.end
