"""Metadata files of labelled clips: a CSV, JSON lines or parquet table with one row per file."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..validation import UserError
from .listing import Listing, normalize
from .schema import INTENSITIES, Problems

NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
NO_LABEL = "without a label"  # the kind of problem of such rows
OUTSIDE = "outside the folder"  # of files that lie elsewhere
TWICE = "named twice"  # of files with several names, or of one name
NOT_LISTED = "in no row of the metadata file"  # of clips that are left out
# How Python and pandas write an absent value; a label of that name would be a class of clips that have none.
ABSENT = frozenset({"", "nan", "NaN", "None", "<NA>"})


@dataclass(frozen=True)
class Clip:
    """A labelled file: its name below the root with slashes, where it lies, and what is known of it."""

    file: str
    path: Path
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


def read_metadata(metadata: Path, listing: Listing, problems: Problems) -> list[Clip]:
    """Clips of the rows that name a file of the folder; all other rows and files are added to the problems.

    Columns are `file` (or `file_name`), `label` (or `emotion`), and where known `speaker`, `intensity`, `item`.

    Args:
        metadata: the file.
        listing: the files of its folder.
        problems: where rows that cannot be used are added, and files that no row names.

    Raises:
        ValueError: where the file is not such a table.
    """
    rows = [_text(row) for row in _read_rows(metadata)]
    file = _column(metadata, rows, "file", "file_name")
    label = _column(metadata, rows, "label", "emotion")
    problems.note("without a file", [f"row {number}" for number, row in enumerate(rows, 1) if not row.get(file)])
    rows = [(number, row) for number, row in enumerate(rows, 1) if row.get(file)]
    problems.note(NO_LABEL, [f"{row[file]} in row {number}" for number, row in rows if not row.get(label)])
    places = [listing.find(row[file]) for _, row in rows]
    outside = [listing.leads_out(place) for place in places]
    problems.note(OUTSIDE, [row[file] for (_, row), elsewhere in zip(rows, outside, strict=True) if elsewhere])
    clips = [
        Clip(
            file=listing.name_of(row[file]),
            path=place,
            label=normalize(row.get(label) or ""),
            speaker=row.get("speaker") and normalize(row["speaker"]),
            intensity=row.get("intensity"),
            item=row.get("item") and normalize(row["item"]),
        )
        for (_, row), place, elsewhere in zip(rows, places, outside, strict=True)
        if not elsewhere
    ]
    return _check(clips, listing, problems)


def _check(clips: list[Clip], listing: Listing, problems: Problems) -> list[Clip]:
    present = [clip for clip in clips if os.path.isfile(clip.path)]
    names: dict[str, dict[str, int]] = {}  # of each file, with the number of rows that give it
    for clip in present:
        counts = names.setdefault(os.path.realpath(clip.path), {})
        counts[clip.file] = counts.get(clip.file, 0) + 1
    problems.note(TWICE, [", as ".join(counts) for counts in names.values() if sum(counts.values()) > 1])
    problems.note("absent", [clip.file for clip in clips if not os.path.isfile(clip.path)])
    problems.note(
        f"with an intensity other than {', '.join(INTENSITIES)}",
        [f"{clip.file}: {clip.intensity}" for clip in clips if clip.intensity not in (None, *INTENSITIES)],
    )
    files = sorted((name, path) for name, paths in listing.paths.items() for path in paths)
    problems.note(NOT_LISTED, [name for name, path in files if os.path.realpath(path) not in names])
    return present


def _read_rows(metadata: Path) -> list[dict[str, Any]]:
    read = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}[metadata.suffix]
    try:
        return read(metadata)
    except UnicodeDecodeError as error:
        raise UserError(f"expected text in UTF-8 in {metadata}, found {error.reason}; save it anew.") from error
    except OSError as error:  # of a disk, or of pyarrow for damaged pages
        raise UserError(
            f"expected a table that can be read at {metadata}, found {error.strerror or error}; write it anew."
        ) from error


def _read_csv(metadata: Path) -> list[dict[str, Any]]:
    with metadata.open(newline="", encoding="utf-8-sig") as lines:
        try:
            rows = list(csv.DictReader(lines))
        except csv.Error as error:
            raise UserError(f"expected a CSV table at {metadata}, found another file ({error}); mend it.") from error
    for number, row in enumerate(rows, 1):
        if None in row:  # where DictReader keeps the fields that have no column
            raise UserError(f"expected as many fields as columns in {metadata}, found more in row {number}; mend it.")
    return rows


def _read_jsonl(metadata: Path) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(metadata.read_text("utf-8-sig").split("\n"), 1):
        try:
            row = json.loads(line) if line.strip() else None
        except (ValueError, RecursionError):  # no JSON, or numbers and nesting beyond all reason
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
    # JSON may hold halves of characters, which no table takes
    texts = {key: str(value).strip().encode("utf-8", "backslashreplace").decode() for key, value in row.items()}
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
