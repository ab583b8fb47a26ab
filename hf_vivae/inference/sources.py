"""Files, folders, tables, archives and datasets to clips."""

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
from datasets import Audio, IterableDataset, load_dataset_builder
from huggingface_hub import constants

from ..audio import BadAudio, open_sound
from ..corpus.folder import may_be_clip
from ..corpus.listing import real_folders
from ..corpus.schema import walk_files
from ..network import NetworkError, check_reachable
from ..validation import UserError, printable, readable
from .pipeline import StoredAudio


@dataclass(frozen=True)
class UnreadClip:
    """A clip as it is stored.

    Args:
        file: what its user calls it: a path, the name in a table, or the number of a row.
        sound: in a form that `Scorer.score` takes.
        named: the file on this machine that a row names instead of holding its bytes, or the archive that it is in.
    """

    file: str
    sound: Any
    named: str | None = None


@dataclass(frozen=True)
class Shard:
    """Clips that are read, scored and written together.

    Args:
        key: digest of the names of its clips, or of its place in a table; tells it from other shards.
        version: digest of what says whether these clips have changed; files that are `named` count besides.
        read: gives its clips, again at each call.
        clips: how many there are; None where only reading them tells.
    """

    key: str
    version: str
    read: Callable[[], Iterable[UnreadClip]]
    clips: int | None


def digest(*texts: str) -> str:
    """SHA-256 of texts, of which any may hold what is no UTF-8."""
    return hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest()


def file_state(path: str | Path) -> str:
    """Size and time of the last change of a file; nothing where it cannot be looked at, which its reader reports."""
    try:
        state = os.stat(path)
    except (OSError, ValueError):  # the latter for names that no file can have
        return ""
    return f"{state.st_size} {state.st_mtime_ns}"


FILES_PER_SHARD = 1000
STANDARD_INPUT = "-"


def find_shards(inputs: Sequence[str], sent: bytes = b"") -> Iterator[Shard]:
    """Shards of files, folders, patterns such as `clips/*.wav`, tables, and `-` for standard input, in a fixed order.

    Folders are walked through to their last subfolder; hidden files, tables and those of `corpus.folder.NOT_CLIPS` are
    passed over. Tables are files of Parquet or Arrow with a column of sound, by name or pattern.

    Args:
        inputs: names as a command line gives them.
        sent: what standard input has held.

    Raises:
        ValueError: for what is not there, for folders and patterns without clips, and for tables without sound.
    """
    places = (place for name in inputs for place in ([name] if name == STANDARD_INPUT else _expand(name)))
    for is_clip, some in groupby(places, lambda place: isinstance(place, Path) and not _is_table(place)):
        if is_clip:
            yield from _file_shards(some)
            continue
        for place in some:
            yield from [_standard_input(sent)] if place == STANDARD_INPUT else table_shards(place)


def _is_table(path: Path) -> bool:
    return path.suffix.lower() in TABLES


def _file_shards(paths: Iterator[Path]) -> Iterator[Shard]:
    while some := list(islice(paths, FILES_PER_SHARD)):
        clips = [UnreadClip(readable(str(path)), path) for path in some]
        yield Shard(digest(*map(str, some)), digest(*map(file_state, some)), partial(iter, clips), len(clips))


def _expand(name: str) -> Iterator[Path]:
    path = Path(name)
    if path.is_dir():
        found = (file for file in walk_files(path) if may_be_clip(file) and not _is_table(file))
    elif path.exists():
        found = iter([path])
    else:
        found = (Path(match) for match in sorted(glob.glob(name, recursive=True)) if Path(match).is_file())
    first = next(found, None)
    if first is None:
        raise UserError(
            f"expected {'clips in the folder' if path.is_dir() else 'a file, a folder or a pattern of files at'} "
            f"{name}, found none; correct the name (datasets are given with --dataset)."
        )
    yield first
    yield from found


def _standard_input(sent: bytes) -> Shard:
    return Shard(STANDARD_INPUT, hashlib.sha256(sent).hexdigest(), lambda: [UnreadClip("<stdin>", sent)], 1)


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


def _read_group(file: Path, group: int, first: int, column: str, names: str | None) -> Iterator[UnreadClip]:
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


def _read_rows(file: Path, first: int, rows: int, column: str, names: str | None) -> Iterator[UnreadClip]:
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


def row_clip(row: Mapping[str, Any], column: str, names: str | None, otherwise: str, root: str) -> UnreadClip:
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
    return UnreadClip(readable(str((names and row[names]) or path or otherwise)), sound, named)


ZIP = "zip://"  # as datasets writes the address of a file in an archive: zip://a/b.wav::/data/clips.zip


def read_reference(path: str, root: str) -> str | dict[str, Any]:
    """The sound of a file that a row names: its path, or its bytes where it lies on the Hub or in an archive.

    Args:
        path: of the row: absolute, relative to `root`, or of a file within a ZIP archive there.
        root: folder of the table or the dataset, or `hf://datasets/<id>@<commit>`.

    Raises:
        ValueError: for files that, once links are followed, lie elsewhere; blobs beside a snapshot of the Hub's cache
            are its own.
    """
    inner, _, outer = path.rpartition("::")
    if "://" in root:
        is_below = outer.startswith(f"{root}/") and ".." not in outer.split("/")
    else:
        file = Path(root, outer).resolve()
        is_below, outer = any(file.is_relative_to(home) for home in real_folders(Path(root))), str(file)
    if not is_below or (inner and (not inner.startswith(ZIP) or "::" in inner)):  # a chain may lead anywhere
        raise UserError(
            f"{Path(path).name}: expected a file below {root}, found {path}; give a table that holds the bytes of its "
            "files, or lies in a folder above them."
        )
    if "://" not in root and not inner:
        return outer
    with fsspec.open(f"{inner}::{outer}" if inner else outer, "rb") as stream:
        return {"bytes": read_whole(stream, Path(path).name), "path": Path(path).name}


def named_file(path: str, root: str) -> str | None:
    """The file that a row names, or the archive that it is in; None on the Hub, where a commit does not change.

    Args:
        path: as for `read_reference`.
        root: as for `read_reference`.
    """
    return None if "://" in root else os.path.join(root, path.rpartition("::")[2])


def relative_name(path: str, root: str) -> str:
    """A path that a dataset lists, without the dataset's own; a file within an archive as if it were a folder."""
    inner, _, outer = path.rpartition("::")
    return "/".join(filter(None, (outer.removeprefix(f"{root}/"), inner.removeprefix(ZIP))))


LONGEST_CLIP = 60.0  # seconds; what lasts longer is a recording
LARGEST_FILE = 2**28  # bytes of what is read whole: standard input, and files of the Hub and of archives


def read_whole(stream: BinaryIO, name: str) -> bytes:
    """All bytes of a stream, whose end nobody knows.

    Args:
        stream: as it was opened.
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


def check_length(sound: Any) -> None:
    """Refuse a recording before hours of sound are decoded into memory.

    Args:
        sound: in any form that the pipeline of `load_classifier` takes; arrays are in memory already and pass.

    Raises:
        UserError: for what lasts longer than `LONGEST_CLIP` by its header or, where that does not say, once so much
            has been decoded. What cannot be read passes: whoever decodes it says so.
    """
    if isinstance(sound, dict) and "audio" in sound:
        sound = sound["audio"]
    if isinstance(sound, dict):
        if any(sound.get(name) is not None for name in ("array", "raw")):
            return
        sound = sound.get("path") if sound.get("bytes") is None else sound["bytes"]
    if not isinstance(sound, (str, Path, bytes)):
        return
    try:
        with open_sound(sound) as opened:
            name, rate, samples = opened.name, opened.sampling_rate, opened.announced or 0
            if opened.announced is None:
                while samples <= LONGEST_CLIP * rate and (piece := len(opened.read(rate))):
                    samples += piece
            found = "more" if opened.announced is None else f"{samples / rate:.0f} s"
    except BadAudio:
        return
    if samples > LONGEST_CLIP * rate:
        raise UserError(
            f"{name}: expected a clip of up to {LONGEST_CLIP:g} s, found {found}; use hf-vivae timeline, which takes "
            "recordings of any length."
        )


class StreamedDataset:
    """A split of a dataset whose rows are read as they are scored.

    Args:
        name: id of the Hub, or folder.
        split: of the dataset.

    Raises:
        ValueError: for a dataset or a split that is not there or cannot be loaded, and for one without a column of
            sound.
    """

    def __init__(self, name: str, split: str) -> None:
        self._place = name, split
        try:
            if not Path(name).is_dir() and not constants.is_offline_mode():
                check_reachable(constants.ENDPOINT)
        except NetworkError as error:
            raise UserError(
                f"expected the dataset {name}, found {error.found}; give a folder, or try again."
            ) from error
        try:
            builder = load_dataset_builder(name)
            if hasattr(builder.config, "decode_num_threads"):
                builder.config.decode_num_threads = 0  # they would decode files of the Hub before the column is cast
            dataset = builder.as_streaming_dataset(split=split)
        except Exception as error:  # the library lets pass whatever those raise that read ZIP, TAR, YAML or Parquet
            raise UserError(
                f"expected a dataset with the split {split} at {name}, found none that loads ({_reason(error)}); "
                "correct --dataset or --split."
            ) from error
        features = dataset.features or {}
        self._column = next((key for key, feature in features.items() if isinstance(feature, Audio)), None)
        if self._column is None:
            raise UserError(
                f"expected a column of audio in {name}, split {split}, found "
                f"{', '.join(features) or 'no known columns'}; give a dataset of sound."
            )
        self._names = next((key for key in NAMES if key in features), None)
        columns = [self._column, self._names] if self._names else [self._column]
        self._dataset: IterableDataset = dataset.select_columns(columns).cast_column(self._column, StoredAudio())
        is_local = builder.repo_id is None
        self._root = str(Path(builder.base_path).expanduser().resolve()) if is_local else builder.base_path
        self._lists_files = builder.name == "audiofolder"
        parts = (builder.config.data_files or {}).values()
        self._listed = {file for part in parts for file in part} if is_local else set()
        # an address on the Hub has its commit, and what else is remote has a tag of its content
        facts = [(*part, *map(file_state, part), str(part.origin_metadata)) for part in parts]
        self._version = digest(str(builder.hash), *(fact for part in facts for fact in part))

    def shards(self) -> Iterator[Shard]:
        """Shards of each file that holds rows; where files are clips, of each thousand of them."""
        if self._lists_files:
            yield from self._file_shards()
            return
        for number in range(self._dataset.num_shards):
            yield Shard(digest(*self._place, str(number)), self._version, partial(self._read, number), None)

    def _read(self, number: int) -> Iterator[UnreadClip]:
        for row, values in enumerate(self._rows(self._dataset.shard(self._dataset.num_shards, number))):
            yield row_clip(values, self._column, self._names, f"{number}:{row}", self._root)

    def _rows(self, dataset: IterableDataset) -> Iterator[Mapping[str, Any]]:
        rows = iter(dataset)
        while True:
            try:
                row = next(rows)
            except StopIteration:
                return
            except Exception as error:  # see above
                name, split = self._place
                raise UserError(
                    f"expected rows of the dataset {name}, split {split}, found one that cannot be read "
                    f"({_reason(error)}); replace what is damaged, and repeat the command."
                ) from error
            yield row

    def _file_shards(self) -> Iterator[Shard]:
        rows = self._rows(self._dataset)
        while some := list(islice(rows, ROWS_PER_SHARD)):
            paths = [(row[self._column] or {}).get("path") or "" for row in some]
            names = [relative_name(path, self._root) for path in paths]
            states = (file_state(path.rpartition("::")[2]) for path in paths)  # of the archive that a file is in
            clips = list(map(self._file_clip, some, paths, names))
            yield Shard(digest(*self._place, *names), digest(*paths, *states), partial(iter, clips), len(clips))

    def _file_clip(self, row: Mapping[str, Any], path: str, name: str) -> UnreadClip:
        # what the dataset lists itself is where its user has it, whatever links lead to; metadata may name any file
        sound = path if path in self._listed else partial(read_reference, path, self._root) if path else None
        return UnreadClip(readable(str((self._names and row[self._names]) or name)), sound)


def _reason(error: Exception) -> str:
    """The kind of an error of a library, and what it says, as one line."""
    return f"{type(error).__name__}: {printable(' '.join(str(error).split()))}"
