"""Scores of clips as one file: CSV, JSON lines or Parquet, with those that have none in a file of their own."""

import csv
import json
from collections.abc import Iterable
from contextlib import closing, nullcontext
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow.csv import CSVWriter

from ..disk import whole_file
from .parts import ERROR, KEPT


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


def write_output(output: Path, schema: pa.Schema, tables: Iterable[pa.Table]) -> tuple[int, int]:
    """Put tables of scores together; how many clips have scores, and how many have none.

    Args:
        output: a file with a suffix of `WRITERS`, which is written in one step; or the folder that the tables are in.
            Clips without scores are listed in `<name>.errors.csv` beside a file, or in `_errors.csv` in a folder.
        schema: of the tables, with their column of errors.
        tables: are read one at a time.

    Raises:
        DiskError: where they cannot be written.
    """
    names = [name for name in schema.names if name != ERROR]
    is_file = output.suffix in WRITERS
    errors = output.with_name(f"{output.stem}.errors.csv") if is_file else output / "_errors.csv"
    plain = pa.schema([schema.field(name) for name in names])
    scored = failed = 0
    with (
        whole_file(output, KEPT) if is_file else nullcontext() as part,
        closing(WRITERS[output.suffix](part, plain)) if is_file else nullcontext() as writer,
        whole_file(errors, KEPT) as errors_part,
        open(errors_part, "w", newline="", encoding="utf-8") as stream,
    ):
        lines = csv.writer(stream)
        lines.writerow(("file", ERROR))
        for table in tables:
            whole = pc.is_null(table[ERROR])
            good, bad = table.filter(whole).select(names), table.filter(pc.invert(whole))
            if writer:
                writer.write(good.replace_schema_metadata(None))
            lines.writerows(zip(bad["file"].to_pylist(), bad[ERROR].to_pylist(), strict=True))
            scored, failed = scored + len(good), failed + len(bad)
    if not failed:
        errors.unlink()
    return scored, failed
