"""Output of `hf-vivae predict` and of commands like it: one file or a folder, and the list of failed clips."""

import csv
import json
import math
import os
import sys
from collections.abc import Iterable
from contextlib import closing, nullcontext, suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow.csv import CSVWriter

from ..files import atomic_file
from ..reporting.tables import csv_cell
from ..validation import UserError, printable

ERROR = "error"
DURATION = "duration"
KEPT = "free some room and repeat the command, which goes on after the finished parts"


class LineWriter:
    """Writer of JSON lines, one for each row, with the methods of pyarrow's writers.

    Args:
        file: is overwritten.
        schema: of the tables.
    """

    def __init__(self, file: Path, schema: pa.Schema) -> None:
        self._file = open(file, "w", encoding="utf-8")  # noqa: SIM115 (`close` closes it)

    def write(self, table: pa.Table) -> None:
        """Append the rows of a table."""
        self._file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in table.to_pylist())

    def close(self) -> None:
        """Finish the file."""
        self._file.close()


WRITERS = {".csv": CSVWriter, ".jsonl": LineWriter, ".parquet": pq.ParquetWriter}

LISTED = ("file", ERROR)  # columns of clips without scores


def errors_file(output: Path) -> Path:
    """Return the file for clips without scores: `x.csv.errors.csv` next to `x.csv`, or `_errors.csv` in a folder."""
    return output.with_name(f"{output.name}.errors.csv") if output.suffix in WRITERS else output / "_errors.csv"


def check_errors_file(output: Path) -> None:
    """Refuse to replace a file of other content that has the name of an output's `errors_file`.

    Raises:
        UserError: where there is one; a list of an earlier start passes.
    """
    errors = errors_file(output)
    if not os.path.lexists(errors):
        return
    with suppress(OSError), open(errors, "rb") as file:
        if file.readline().rstrip() == ",".join(LISTED).encode():
            return
    raise UserError(
        f"expected no file at {errors}, where clips without scores are listed, found one; remove it, or give another "
        "--output."
    )


def write_output(
    output: Path, schema: pa.Schema, tables: Iterable[pa.Table], longest: float = math.inf
) -> tuple[int, int, int]:
    """Write tables of scores as one output.

    Args:
        output: a file with a suffix of `WRITERS`, which is written in one step; or the folder of the tables. Clips
            without scores are listed in its `errors_file`; where there are none, that of an earlier start is removed.
            In CSV, text that a spreadsheet would take for a formula begins with an apostrophe.
        schema: of the tables, with their column of errors.
        tables: are read one at a time.
        longest: seconds after which a clip is cut.

    Returns:
        Numbers of clips with scores, without scores, and longer than `longest`.

    Raises:
        DiskError: where the output cannot be written.
    """
    names = [name for name in schema.names if name != ERROR]
    is_file, errors = output.suffix in WRITERS, errors_file(output)
    plain = pa.schema([schema.field(name) for name in names])
    scored = failed = longer = 0
    with (
        atomic_file(output, KEPT) if is_file else nullcontext() as part,
        closing(WRITERS[output.suffix](part, plain)) if is_file else nullcontext() as writer,
        atomic_file(errors, KEPT) as errors_part,
        open(errors_part, "w", newline="", encoding="utf-8") as stream,
    ):
        lines = csv.writer(stream)
        lines.writerow(LISTED)
        for table in tables:
            has_scores = pc.is_null(table[ERROR])
            good, bad = table.filter(has_scores).select(names), table.filter(pc.invert(has_scores))
            if writer:
                writer.write(
                    (_escape_formulas(good) if output.suffix == ".csv" else good).replace_schema_metadata(None)
                )
            lines.writerows(zip(*(map(csv_cell, bad[name].to_pylist()) for name in LISTED), strict=True))
            scored, failed = scored + len(good), failed + len(bad)
            longer += sum(duration > longest for duration in good[DURATION].to_pylist())
    if not failed:
        errors.unlink()
    return scored, failed, longer


def _escape_formulas(table: pa.Table) -> pa.Table:
    for index, field in enumerate(table.schema):
        if pa.types.is_string(field.type):
            cells = [csv_cell(cell) for cell in table[index].to_pylist()]
            table = table.set_column(index, field, pa.array(cells, field.type))
    return table


def terminal_text(text: str) -> str:
    """Return text that the terminal can show in its encoding."""
    encoding = sys.stdout.encoding or "utf-8"
    return printable(text).encode(encoding, "backslashreplace").decode(encoding)
