"""Clips of tables: rows of Parquet and Arrow files, and of datasets that are streamed, never all at once in memory."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Audio, Dataset, IterableDataset, load_dataset

from ..validation import UserError
from .clips import Clip, Shard

TABLES = (".parquet", ".arrow")
ROWS_AT_ONCE = 32
ROWS_PER_SHARD = 1000  # of an Arrow file, which has no groups that can be skipped


def table_shards(file: Path) -> Iterator[Shard]:
    """Shards of a table: each row group of a Parquet file, each thousand rows of an Arrow file.

    Args:
        file: with a column of files' bytes, of `{"bytes", "path"}`, or of `{"array", "sampling_rate"}`.

    Raises:
        ValueError: where it is not there, is damaged, or has no such column.
    """
    try:
        if file.suffix.lower() == ".parquet":
            yield from _parquet(file)
        else:
            yield from _arrow(file)
    except (pa.ArrowInvalid, FileNotFoundError) as error:
        raise UserError(f"expected a table of {file.suffix[1:]} at {file}, found none ({error}); mend it.") from error


def _parquet(file: Path) -> Iterator[Shard]:
    with pq.ParquetFile(file) as table:
        column = audio_column(table.schema_arrow, str(file))
        names = name_column(table.schema_arrow)
        sizes = [table.metadata.row_group(group).num_rows for group in range(table.num_row_groups)]
    first = 0
    for group, rows in enumerate(sizes):
        yield Shard(f"{file} {group} {rows}", partial(_read_group, file, group, first, column, names), rows)
        first += rows


def _read_group(file: Path, group: int, first: int, column: str, names: str | None) -> Iterator[Clip]:
    with pq.ParquetFile(file) as table:
        columns = [column, names] if names else [column]
        for batch in table.iter_batches(ROWS_AT_ONCE, row_groups=[group], columns=columns):
            for row in batch.to_pylist():
                yield _clip(row, column, names, f"{file.name}:{first}")
                first += 1


def _arrow(file: Path) -> Iterator[Shard]:
    dataset = Dataset.from_file(str(file))
    schema = dataset.features.arrow_schema
    column, names = audio_column(schema, str(file)), name_column(schema)
    for first in range(0, len(dataset), ROWS_PER_SHARD):
        rows = min(ROWS_PER_SHARD, len(dataset) - first)
        yield Shard(f"{file} {first} {rows}", partial(_read_rows, file, first, rows, column, names), rows)


def _read_rows(file: Path, first: int, rows: int, column: str, names: str | None) -> Iterator[Clip]:
    dataset = Dataset.from_file(str(file)).with_format("arrow")
    for start in range(first, first + rows, ROWS_AT_ONCE):
        batch = dataset[start : min(start + ROWS_AT_ONCE, first + rows)].to_pylist()
        for number, row in enumerate(batch, start):
            yield _clip(row, column, names, f"{file.name}:{number}")


def dataset_shards(name: str, split: str) -> Iterator[Shard]:
    """Shards of a dataset of the Hub, or of a folder that `datasets` loads: each of its files, streamed.

    Args:
        name: id or folder.
        split: of the dataset.

    Raises:
        ValueError: for a dataset without a column of sound.
    """
    dataset = load_dataset(name, split=split, streaming=True)
    features = dataset.features or {}
    column = next((key for key, feature in features.items() if isinstance(feature, Audio)), None)
    if column is None:
        raise UserError(
            f"expected a column of audio in {name}, split {split}, found {', '.join(features) or 'no known columns'}; "
            "give a dataset of sound."
        )
    dataset = dataset.cast_column(column, Audio(decode=False))
    names = next((key for key in NAMES if key in features), None)
    for number in range(dataset.num_shards):
        yield Shard(
            f"{name} {split} {number} of {dataset.num_shards}", partial(_stream, dataset, number, column, names), None
        )


def _stream(dataset: IterableDataset, number: int, column: str, names: str | None) -> Iterator[Clip]:
    for row, values in enumerate(dataset.shard(dataset.num_shards, number)):
        yield _clip(values, column, names, f"{number}:{row}")


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


def _clip(row: Mapping[str, Any], column: str, names: str | None, otherwise: str) -> Clip:
    sound = row[column]
    path = sound.get("path") if isinstance(sound, dict) else None
    return Clip(str((names and row[names]) or path or otherwise), sound)
