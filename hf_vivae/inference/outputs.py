"""Scores of clips as one file: CSV, JSON lines or Parquet, with those that have none in a file of their own."""

import csv
import json
import math
import os
from collections.abc import Iterable
from contextlib import closing, nullcontext, suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow.csv import CSVWriter

from ..disk import whole_file
from ..text import csv_cell
from ..validation import UserError
from .parts import DURATION, ERROR, KEPT


class LineWriter:
    """JSON lines, one for each row; used as the writers of pyarrow are.

    Args:
        file: is made anew.
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
    """Return the list of clips without scores: `x.csv.errors.csv` beside `x.csv`, or `_errors.csv` in a folder."""
    return output.with_name(f"{output.name}.errors.csv") if output.suffix in WRITERS else output / "_errors.csv"


def check_errors_file(output: Path) -> None:
    """Refuse to replace a file that has the name of an output's `errors_file`, and is none.

    Raises:
        UserError: where there is one; a list that an earlier start has left passes.
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
    """Put tables of scores together.

    Args:
        output: a file with a suffix of `WRITERS`, which is written in one step; or the folder that the tables are in.
            Clips without scores are listed in its `errors_file`; where there are none, that of an earlier start is
            removed. In CSV, text that a spreadsheet would take for a formula begins with an apostrophe.
        schema: of the tables, with their column of errors.
        tables: are read one at a time.
        longest: seconds of a clip behind which it is cut.

    Returns:
        How many clips have scores, how many have none, and how many are longer than `longest`.

    Raises:
        DiskError: where they cannot be written.
    """
    names = [name for name in schema.names if name != ERROR]
    is_file, errors = output.suffix in WRITERS, errors_file(output)
    plain = pa.schema([schema.field(name) for name in names])
    scored = failed = longer = 0
    with (
        whole_file(output, KEPT) if is_file else nullcontext() as part,
        closing(WRITERS[output.suffix](part, plain)) if is_file else nullcontext() as writer,
        whole_file(errors, KEPT) as errors_part,
        open(errors_part, "w", newline="", encoding="utf-8") as stream,
    ):
        lines = csv.writer(stream)
        lines.writerow(LISTED)
        for table in tables:
            whole = pc.is_null(table[ERROR])
            good, bad = table.filter(whole).select(names), table.filter(pc.invert(whole))
            if writer:
                writer.write((_neutral(good) if output.suffix == ".csv" else good).replace_schema_metadata(None))
            lines.writerows(zip(*(map(csv_cell, bad[name].to_pylist()) for name in LISTED), strict=True))
            scored, failed = scored + len(good), failed + len(bad)
            longer += sum(duration > longest for duration in good[DURATION].to_pylist())
    if not failed:
        errors.unlink()
    return scored, failed, longer


def _neutral(table: pa.Table) -> pa.Table:
    for place, field in enumerate(table.schema):
        if pa.types.is_string(field.type):
            cells = [csv_cell(cell) for cell in table[place].to_pylist()]
            table = table.set_column(place, field, pa.array(cells, field.type))
    return table
