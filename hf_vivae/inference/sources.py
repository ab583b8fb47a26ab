"""Sources of clips for `hf-vivae predict`: files, folders, tables, archives and datasets, in shards."""

import glob
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import groupby, islice
from pathlib import Path
from typing import Any, BinaryIO

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from ..audio import split_fragment
from ..corpus.folder import may_be_clip
from ..corpus.listing import real_folders
from ..files import walk_files
from ..validation import UserError, readable


@dataclass(frozen=True)
class UnreadClip:
    """A clip before it is read.

    Args:
        file: its name in the output: a path, the name in a table, or the number of a row.
        sound: in a form that `Scorer.score` takes.
        named: local file that a row names instead of holding its bytes, or the archive of that file.
    """

    file: str
    sound: Any
    named: str | None = None


@dataclass(frozen=True)
class Shard:
    """Clips that are read, scored and written together.

    Args:
        key: digest of the names of its clips, or of its position in a table, different from that of other shards.
        version: digest that changes with these clips, apart from files that are `named`.
        read: returns its clips, again at each call.
        clips: their number; None where it is known only after reading.
    """

    key: str
    version: str
    read: Callable[[], Iterable[UnreadClip]]
    clips: int | None


def digest(*texts: str) -> str:
    """Return the SHA-256 of texts, in which names may have surrogates for bytes that are not UTF-8."""
    return hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest()


def file_state(path: str | Path) -> str:
    """Return size and time of the last change of a file; empty where there is no access, which its reader reports."""
    try:
        state = os.stat(path)
    except (OSError, ValueError):  # the latter for names that no file can have
        return ""
    return f"{state.st_size} {state.st_mtime_ns}"


FILES_PER_SHARD = 1000
STANDARD_INPUT = "-"


def find_shards(
    inputs: Sequence[str], standard_input: bytes = b"", files_per_shard: int | None = None
) -> Iterator[Shard]:
    """Yield shards of files, folders, patterns such as `clips/*.wav`, tables, and `-` for standard input, in order.

    Folders are searched with all subfolders, without hidden files, tables and those of `corpus.folder.NOT_CLIPS`.
    Tables are files of Parquet or Arrow with a column of sound, by name or pattern.

    Args:
        inputs: names as on a command line.
        standard_input: content of standard input.
        files_per_shard: by default `FILES_PER_SHARD`; 1 for recordings, each of which may take long.

    Raises:
        UserError: for names without a file, for folders and patterns without clips, and for tables without sound.
    """
    paths = (path for name in inputs for path in ([name] if name == STANDARD_INPUT else find_files(name)))
    for is_clip, group in groupby(paths, lambda path: isinstance(path, Path) and not _is_table(path)):
        while is_clip and (files := list(islice(group, files_per_shard or FILES_PER_SHARD))):
            clips = [UnreadClip(readable(str(path)), path) for path in files]
            yield Shard(digest(*map(str, files)), digest(*map(file_state, files)), partial(iter, clips), len(clips))
        for path in group:
            if path == STANDARD_INPUT:
                clips = [UnreadClip("<stdin>", standard_input)]
                yield Shard(STANDARD_INPUT, hashlib.sha256(standard_input).hexdigest(), partial(iter, clips), 1)
            else:
                yield from table_shards(path)


def _is_table(path: Path) -> bool:
    return path.suffix.lower() in TABLES


def find_files(
    name: str, kind: str = "clips", remedy: str = "correct the name (datasets are given with --dataset)"
) -> Iterator[Path]:
    """Yield the files that a name of the command line stands for, in order: one file, a folder's, or a pattern's.

    Args:
        name: of a file, which is yielded without being opened, of a folder, or a pattern.
        kind: of sound that is searched, for the message.
        remedy: for the message.

    Raises:
        UserError: for a name without files.
    """
    path = Path(name)
    if path.is_dir():
        files = (file for file in walk_files(path) if may_be_clip(file) and not _is_table(file))
    elif path.exists():
        files = iter([path])
    else:
        files = (Path(match) for match in sorted(glob.glob(name, recursive=True)) if Path(match).is_file())
    first = next(files, None)
    if first is None:
        raise UserError(
            f"expected {kind + ' in the folder' if path.is_dir() else 'a file, a folder or a pattern of files at'} "
            f"{name}, found none; {remedy}."
        )
    yield first
    yield from files


TABLES = (".parquet", ".arrow")
ROWS_AT_ONCE = 32
ROWS_PER_SHARD = 1000  # of an Arrow file, which has no groups that can be skipped
TAIL = 2**16  # bytes at the end of an Arrow file, which has no footer


def table_shards(file: Path) -> Iterator[Shard]:
    """Yield shards of a table: each row group of a Parquet file, each thousand rows of an Arrow file.

    Args:
        file: with a column of files' bytes, of `{"bytes", "path"}`, or of `{"array", "sampling_rate"}`.

    Raises:
        UserError: for a file that is missing or damaged, and for a table without such a column.
    """
    with _open_table(file) as table:
        if isinstance(table, pq.ParquetFile):
            schema = table.schema_arrow
            sizes = [table.metadata.row_group(number).num_rows for number in range(table.num_row_groups)]
        else:
            schema, count = table.schema, len(table)
            sizes = [min(ROWS_PER_SHARD, count - start) for start in range(0, count, ROWS_PER_SHARD)]
        column = audio_column(schema, str(file))
        texts = {field.name for field in schema if pa.types.is_string(field.type)}
        names = next((name for name in NAMES if name in texts), None)
        with open(file, "rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(size - 8, 0))
            end = 8 + int.from_bytes(stream.read(4), "little") if _is_parquet(file) else TAIL
            stream.seek(max(size - end, 0))
            version = digest(hashlib.sha256(stream.read()).hexdigest(), file_state(file))
    first = 0
    for number, rows in enumerate(sizes):
        read = partial(_read_rows, file, number, first, rows, column, names)
        yield Shard(digest(str(file), str(number if _is_parquet(file) else first)), version, read, rows)
        first += rows


def _is_parquet(file: Path) -> bool:
    return file.suffix.lower() == ".parquet"


@contextmanager
def _open_table(file: Path) -> Iterator[pq.ParquetFile | pa.Table]:
    try:
        name = os.fsencode(file)  # unlike pq, these take names that are not UTF-8
        if _is_parquet(file):
            with pq.ParquetFile(pa.OSFile(name)) as table:
                yield table
        else:
            yield pa.ipc.open_stream(pa.memory_map(name)).read_all()
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"expected a table of {file.suffix[1:]} at {file}, found none ({error}); give a whole one."
        ) from error


def _read_rows(file: Path, group: int, first: int, rows: int, column: str, names: str | None) -> Iterator[UnreadClip]:
    columns = [column, names] if names else [column]
    with _open_table(file) as table:
        if isinstance(table, pq.ParquetFile):
            batches = table.iter_batches(ROWS_AT_ONCE, row_groups=[group], columns=columns)
        else:
            batches = table.select(columns).slice(first, rows).to_batches(max_chunksize=ROWS_AT_ONCE)
        for number, row in enumerate((row for batch in batches for row in batch.to_pylist()), first):
            yield row_clip(row, column, names, f"{file.name}:{number}", str(file.parent))


NAMES = ("file", "file_name", "path", "id")


def audio_column(schema: pa.Schema, where: str) -> str:
    """Return the name of the column of sound: `audio` if it has sound, else the first that has.

    Raises:
        UserError: for a table without such a column.
    """
    columns = []
    for field in schema:
        names = {part.name for part in field.type} if pa.types.is_struct(field.type) else set()
        is_binary = pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type)
        if is_binary or names >= {"bytes", "path"} or names >= {"array", "sampling_rate"}:
            columns.append(field.name)
    if not columns:
        raise UserError(
            f"expected a column of audio files' bytes in {where}, found {', '.join(schema.names)}; write the clips "
            "into one, as datasets.Audio does."
        )
    return "audio" if "audio" in columns else columns[0]


def row_clip(row: Mapping[str, Any], column: str, names: str | None, default_name: str, root: str) -> UnreadClip:
    """Return the clip of a row.

    Args:
        row: values by column.
        column: of sound.
        names: column of the clips' names, if there is one.
        default_name: name of a clip without one.
        root: folder of the files that a row may name, see `read_reference`.
    """
    sound, named = row[column], None
    path = sound.get("path") if isinstance(sound, dict) else None
    if path is not None and all(sound.get(key) is None for key in ("bytes", "array")):
        sound = partial(read_reference, path, root)
        if "://" not in root:  # on the Hub, a commit does not change
            named = str(split_fragment(os.path.join(root, path.rpartition("::")[2]))[0])
    return UnreadClip(readable(str((names and row[names]) or path or default_name)), sound, named)


ZIP = "zip://"  # `datasets` writes the address of a file in an archive as zip://a/b.wav::/data/clips.zip


def read_reference(path: str, root: str) -> str | dict[str, Any]:
    """Return the sound of a file that a row names: its path, or its bytes where it is on the Hub or in an archive.

    Args:
        path: of the row: absolute, relative to `root`, or of a file within a ZIP archive there.
        root: folder of the table or the dataset, or `hf://datasets/<id>@<commit>`.

    Raises:
        UserError: for files outside of `root` once links are followed; the blobs of a snapshot in the Hub's cache
            count as inside.
    """
    inner, _, outer = path.rpartition("::")
    if "://" in root:
        is_below = outer.startswith(f"{root}/") and ".." not in outer.split("/")
    else:
        place = os.path.join(root, outer)
        whole = split_fragment(place)[0]  # a link may be followed to any file
        file, fragment = whole.resolve(), place.removeprefix(str(whole)) if str(whole) != place else ""
        is_below, outer = any(file.is_relative_to(home) for home in real_folders(Path(root))), f"{file}{fragment}"
    if not is_below or (inner and (not inner.startswith(ZIP) or "::" in inner)):  # a longer chain may lead anywhere
        raise UserError(
            f"{Path(path).name}: expected a file below {root}, found {path}; give a table that holds the bytes of its "
            "files, or lies in a folder above them."
        )
    if "://" not in root and not inner:
        return outer
    with fsspec.open(f"{inner}::{outer}" if inner else outer, "rb") as stream:
        return {"bytes": read_whole(stream, Path(path).name), "path": Path(path).name}


LARGEST_FILE = 2**28  # bytes that are read at once: of standard input, and of files on the Hub and in archives


def read_whole(stream: BinaryIO, name: str) -> bytes:
    """Return all bytes of a stream of unknown length.

    Args:
        stream: at its start.
        name: in errors.

    Raises:
        UserError: for more than `LARGEST_FILE`.
    """
    content = stream.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE:
        raise UserError(
            f"{name}: expected a clip of up to {LARGEST_FILE // 2**20} MiB, found more; save it as a file."
        )
    return content
