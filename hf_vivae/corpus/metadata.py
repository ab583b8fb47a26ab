"""Metadata files of labelled clips: a CSV, JSON lines or parquet table with one row per file."""

from __future__ import annotations

import csv
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..validation import UserError
from .schema import INTENSITIES, Problems

NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
NO_LABEL = "without a label"  # the kind of problem of such rows
# How Python and pandas write an absent value; a label of that name would be a class of clips that have none.
ABSENT = frozenset({"", "nan", "NaN", "None", "<NA>"})


@dataclass(frozen=True)
class Clip:
    """A labelled file: its path below the root with slashes, and what is known of it."""

    file: str
    label: str
    speaker: str | None = None
    intensity: str | None = None
    item: str | None = None


def metadata_file(root: Path) -> Path | None:
    """The metadata file of a folder, if it has one.

    Raises:
        ValueError: where it has several.
    """
    found = [root / name for name in NAMES if (root / name).is_file()]
    if len(found) > 1:
        raise UserError(
            f"expected one metadata file in {root}, found {' and '.join(file.name for file in found)}; "
            "keep one of them."
        )
    return found[0] if found else None


def read_metadata(metadata: Path, problems: Problems) -> list[Clip]:
    """Clips of the rows that name a file; rows that cannot be used are added to the problems.

    Columns are `file` (or `file_name`), `label` (or `emotion`), and where known `speaker`, `intensity`, `item`.

    Raises:
        ValueError: where the file is not such a table.
    """
    rows = [_text(row) for row in _read_rows(metadata)]
    file = _column(metadata, rows, "file", "file_name")
    label = _column(metadata, rows, "label", "emotion")
    problems.note("without a file", [f"row {number}" for number, row in enumerate(rows, 1) if not row.get(file)])
    unlabelled = [(number, row[file]) for number, row in enumerate(rows, 1) if row.get(file) and not row.get(label)]
    problems.note(NO_LABEL, [f"{name} in row {number}" for number, name in unlabelled])
    clips = [
        Clip(
            file=Path(row[file]).as_posix(),
            label=row.get(label) or "",
            speaker=row.get("speaker"),
            intensity=row.get("intensity"),
            item=row.get("item"),
        )
        for row in rows
        if row.get(file)
    ]
    _check(metadata.parent, clips, problems)
    return [clip for clip in clips if (metadata.parent / clip.file).is_file()]


def _check(root: Path, clips: list[Clip], problems: Problems) -> None:
    counts = Counter(clip.file for clip in clips)
    problems.note("named twice", [file for file, count in counts.items() if count > 1])
    problems.note("absent", [clip.file for clip in clips if not (root / clip.file).is_file()])
    problems.note(
        f"with an intensity other than {', '.join(INTENSITIES)}",
        [f"{clip.file}: {clip.intensity}" for clip in clips if clip.intensity not in (None, *INTENSITIES)],
    )


def _read_rows(metadata: Path) -> list[dict[str, Any]]:
    read = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}[metadata.suffix]
    try:
        return read(metadata)
    except UnicodeDecodeError as error:
        raise UserError(f"expected text in UTF-8 in {metadata}, found {error.reason}; save it anew.") from error


def _read_csv(metadata: Path) -> list[dict[str, Any]]:
    with metadata.open(newline="", encoding="utf-8-sig") as lines:
        rows = list(csv.DictReader(lines))
    for number, row in enumerate(rows, 1):
        if None in row:  # where DictReader keeps the fields that have no column
            raise UserError(f"expected as many fields as columns in {metadata}, found more in row {number}; mend it.")
    return rows


def _read_jsonl(metadata: Path) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(metadata.read_text("utf-8-sig").split("\n"), 1):
        try:
            row = json.loads(line) if line.strip() else None
        except json.JSONDecodeError:
            row = line
        if isinstance(row, dict):
            rows.append(row)
        elif line.strip():
            raise UserError(
                f"expected one JSON object per line in {metadata}, found {line[:40]!r} in line {number}; mend it."
            )
    return rows


def _read_parquet(metadata: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet

    try:
        return pyarrow.parquet.read_table(metadata).to_pylist()
    except pyarrow.ArrowException as error:
        raise UserError(f"expected a parquet table at {metadata}, found another file; write it anew.") from error


def _text(row: dict[str, Any]) -> dict[str, str | None]:
    texts = {key: str(value).strip() for key, value in row.items()}
    return {key: None if text in ABSENT else text for key, text in texts.items()}


def _column(metadata: Path, rows: list[dict[str, str | None]], *names: str) -> str:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    present = [name for name in names if name in columns]
    if len(present) != 1:
        found = " and ".join(present) or ", ".join(columns) or "no rows"
        raise UserError(
            f"expected one column {' or '.join(names)} in {metadata}, found {found}; name the column {names[0]}."
        )
    return present[0]
