"""Output of `hf-vivae predict`: its columns, its files, and the parts from which an interrupted command continues."""

import csv
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, nullcontext, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow.csv import CSVWriter

from ..files import atomic_file, read_json, write_json
from ..reporting.tables import csv_cell
from ..validation import UserError, readable
from .scorer import ClipScores
from .sources import file_state

RECORD = "_predict.json"  # readers of a folder of Parquet ignore names that begin with _
ERROR = "error"
DURATION = "duration"
KEPT = "free some room and repeat the command, which goes on after the finished parts"


class PredictionShards:
    """A folder with a Parquet file for each shard.

    Columns are the clip's file, label, probability, a `p_<label>` for each label, duration and how much of it was used
    in seconds, and error.

    Args:
        folder: is made.
        settings: of the scores, such as the checkpoint; scores in the folder must have the same.
        labels: of the checkpoint, in its order.

    Raises:
        UserError: for a folder with other files, or with scores of other settings.
    """

    def __init__(self, folder: Path, settings: dict[str, Any], labels: Sequence[str]) -> None:
        self.folder, self.labels = folder, list(labels)
        probabilities = [(f"p_{label}", pa.float32()) for label in labels]
        self.schema = pa.schema(
            [
                ("file", pa.string()),
                ("label", pa.string()),
                ("probability", pa.float32()),
                *probabilities,
                (DURATION, pa.float64()),
                ("duration_used", pa.float64()),
                (ERROR, pa.string()),
            ]
        )
        settings = settings | {"labels": self.labels}
        record = folder / RECORD
        if folder.exists() and not folder.is_dir():
            raise UserError(f"expected a new folder as --output, found the file {folder}; give another name.")
        if record.is_file() and (earlier := read_json(record)) != settings:
            changed = next(name for name in {*earlier, *settings} if earlier.get(name) != settings.get(name))
            raise UserError(
                f"expected scores with {changed} {settings.get(changed)!r} in {folder}, found some with "
                f"{earlier.get(changed)!r}; give another --output, or remove that folder."
            )
        if not record.is_file():
            # hidden files are parts of an earlier start that was killed
            if folder.is_dir() and any(not file.name.startswith(".") for file in folder.iterdir()):
                raise UserError(
                    f"expected an empty or new folder, found other files in {folder}; give another --output."
                )
            write_json(record, settings)

    def path(self, number: int) -> Path:
        """Return the file of a shard, by its index."""
        return self.folder / f"part-{number:06}.parquet"

    def is_done(self, number: int, key: str, version: str) -> bool:
        """Return whether a shard has been scored and neither it nor the files that its rows name have changed.

        Args:
            number: index of the shard.
            key: of the shard.
            version: of the shard; scores of another version are not used.

        Raises:
            UserError: where scores of other clips have that index, since the input is another.
        """
        file = self.path(number)
        if not file.is_file():
            return False
        metadata = pq.read_schema(file).metadata or {}
        if metadata.get(b"shard") != key.encode():
            raise UserError(
                f"expected the clips of an earlier start, found others in their place at {file.name}; give another "
                f"--output, or remove {self.folder}."
            )
        named = json.loads(metadata.get(b"files", b"{}"))
        return metadata.get(b"version") == version.encode() and all(file_state(name) == named[name] for name in named)

    def is_worth_retrying(self, number: int) -> bool:
        """Return whether clips of a finished shard failed for reasons outside of their files, such as a network."""
        return b"retry" in pq.read_schema(self.path(number)).metadata

    def write(
        self,
        number: int,
        key: str,
        version: str,
        scores: Sequence[tuple[str, ClipScores | ValueError]],
        named: Mapping[str, str],
    ) -> None:
        """Write a shard in one step.

        Args:
            number: as for `is_done`.
            key: as for `is_done`.
            version: as for `is_done`.
            scores: name of each clip, and its scores or the error.
            named: `file_state` of files that its rows name, before they were read.

        Raises:
            DiskError: where it cannot be written.
        """
        rows = [self._row(file, result) for file, result in scores]
        metadata = {"shard": key, "version": version, "files": json.dumps(named)}
        if any(isinstance(result, ValueError) and not _is_refusal(result) for _, result in scores):
            metadata["retry"] = ""
        table = pa.Table.from_pylist(rows, schema=self.schema).replace_schema_metadata(metadata)
        with atomic_file(self.path(number), KEPT) as part:
            pq.write_table(table, part)

    def _row(self, file: str, result: ClipScores | ValueError) -> dict[str, Any]:
        if isinstance(result, ValueError):
            return {"file": file, ERROR: readable(str(result))}
        scores = result.probabilities
        probabilities = {f"p_{label}": float(score) for label, score in zip(self.labels, scores, strict=True)}
        best = int(scores.argmax())
        return {
            "file": file,
            "label": self.labels[best],
            "probability": float(scores[best]),
            **probabilities,
            DURATION: result.duration,
            "duration_used": result.duration_used,
        }

    def remove_beyond(self, count: int) -> int:
        """Remove parts of an earlier start that had more shards, and return their number."""
        removed = 0
        for file in self.folder.glob("part-*.parquet"):
            number = file.stem.removeprefix("part-")
            if number.isdecimal() and int(number) >= count:
                file.unlink()
                removed += 1
        return removed

    def read(self, number: int) -> pa.Table:
        """Return the scores of a finished shard."""
        return pq.read_table(self.path(number))

    def rows(self, number: int) -> int:
        """Return the number of clips of a finished shard."""
        return pq.read_metadata(self.path(number)).num_rows


def _is_refusal(error: BaseException | None) -> bool:
    """Return whether a clip was refused for its content, and would be again; not where it could not be read."""
    if not isinstance(error, UserError):
        return False
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__
    return error is None


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
