"""Clips of tables: rows of Parquet and Arrow files, never all at once in memory."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..text import readable
from ..validation import UserError
from .clips import Clip, Shard, digest, file_state
from .references import named_file, read_reference

TABLES = (".parquet", ".arrow")
ROWS_AT_ONCE = 32
ROWS_PER_SHARD = 1000  # of an Arrow file, which has no groups that can be skipped
TAIL = 2**16  # bytes at the end of an Arrow file, which has no footer


def table_shards(file: Path) -> Iterator[Shard]:
    """Shards of a table: each row group of a Parquet file, each thousand rows of an Arrow file.

    Args:
        file: with a column of files' bytes, of `{"bytes", "path"}`, or of `{"array", "sampling_rate"}`.

    Raises:
        ValueError: where it is not there, is damaged, or has no such column.
    """
    with _readable(file):
        yield from _parquet(file) if _is_parquet(file) else _arrow(file)


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"expected a table of {file.suffix[1:]} at {file}, found none ({error}); give a whole one."
        ) from error


def _is_parquet(file: Path) -> bool:
    return file.suffix.lower() == ".parquet"


def _parquet(file: Path) -> Iterator[Shard]:
    with _open_parquet(file) as table:
        column = audio_column(table.schema_arrow, str(file))
        names = name_column(table.schema_arrow)
        sizes = [table.metadata.row_group(group).num_rows for group in range(table.num_row_groups)]
    version, first = _version(file), 0
    for group, rows in enumerate(sizes):
        read = partial(_read_group, file, group, first, column, names)
        yield Shard(digest(str(file), str(group)), version, read, rows)
        first += rows


def _open_parquet(file: Path) -> pq.ParquetFile:
    return pq.ParquetFile(pa.OSFile(os.fsencode(file)))  # which, unlike pq, takes names that are no UTF-8


def _version(file: Path) -> str:
    with open(file, "rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(size - 8, 0))
        end = 8 + int.from_bytes(stream.read(4), "little") if _is_parquet(file) else TAIL
        stream.seek(max(size - end, 0))
        footer = hashlib.sha256(stream.read()).hexdigest()
    return digest(footer, file_state(file))


def _read_group(file: Path, group: int, first: int, column: str, names: str | None) -> Iterator[Clip]:
    with _readable(file), _open_parquet(file) as table:
        columns = [column, names] if names else [column]
        for batch in table.iter_batches(ROWS_AT_ONCE, row_groups=[group], columns=columns):
            for row in batch.to_pylist():
                yield row_clip(row, column, names, f"{file.name}:{first}", str(file.parent))
                first += 1


def _arrow(file: Path) -> Iterator[Shard]:
    table = _open_arrow(file)
    column, names = audio_column(table.schema, str(file)), name_column(table.schema)
    version = _version(file)
    for first in range(0, len(table), ROWS_PER_SHARD):
        rows = min(ROWS_PER_SHARD, len(table) - first)
        read = partial(_read_rows, file, first, rows, column, names)
        yield Shard(digest(str(file), str(first)), version, read, rows)


def _open_arrow(file: Path) -> pa.Table:
    """A file that `datasets` has written, mapped into memory."""
    return pa.ipc.open_stream(pa.memory_map(os.fsencode(file))).read_all()


def _read_rows(file: Path, first: int, rows: int, column: str, names: str | None) -> Iterator[Clip]:
    with _readable(file):
        table = _open_arrow(file).select([column, names] if names else [column])
        for start in range(first, first + rows, ROWS_AT_ONCE):
            batch = table.slice(start, min(ROWS_AT_ONCE, first + rows - start)).to_pylist()
            for number, row in enumerate(batch, start):
                yield row_clip(row, column, names, f"{file.name}:{number}", str(file.parent))


NAMES = ("file", "file_name", "path", "id")


def name_column(schema: pa.Schema) -> str | None:
    """The column that names clips, if there is one."""
    return next((name for name in NAMES if name in schema.names and pa.types.is_string(schema.field(name).type)), None)


def audio_column(schema: pa.Schema, where: str) -> str:
    """The column that holds sound: `audio` if it does, else the first that does.

    Raises:
        ValueError: where none does.
    """
    found = [field.name for field in schema if _holds_sound(field.type)]
    if not found:
        raise UserError(
            f"expected a column of audio files' bytes in {where}, found {', '.join(schema.names)}; write the clips "
            "into one, as datasets.Audio does."
        )
    return "audio" if "audio" in found else found[0]


def _holds_sound(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        names = {field.name for field in kind}
        return names >= {"bytes", "path"} or names >= {"array", "sampling_rate"}
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def row_clip(row: Mapping[str, Any], column: str, names: str | None, otherwise: str, root: str) -> Clip:
    """The clip of a row.

    Args:
        row: values by column.
        column: of sound.
        names: column of the clips' names, if there is one.
        otherwise: name of a clip that has none.
        root: below which files lie that a row may name, see `read_reference`.
    """
    sound, named = row[column], None
    path = sound.get("path") if isinstance(sound, dict) else None
    if path is not None and all(sound.get(key) is None for key in ("bytes", "array")):
        sound, named = partial(read_reference, path, root), named_file(path, root)
    return Clip(readable(str((names and row[names]) or path or otherwise)), sound, named)
