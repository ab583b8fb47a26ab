"""Clips of a dataset in Parquet shards, local or of the Hub, of which only the rows that are asked for are read."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..audio import BadAudio, inspect
from ..splits.protocols import SPLIT_NAMES
from ..validation import UserError, printable
from .hub_dataset import (
    Columns,
    choose_columns,
    column_texts,
    dataset_title,
    file_names,
    is_ours,
    marked_corpus,
    order_labels,
)
from .hub_splits import load_builder, read_card
from .schema import Corpus

if TYPE_CHECKING:
    from datasets import Features

READERS = 8  # threads that read columns of shards; on the Hub, they wait most of the time
FEWEST_GROUPS = 4  # row groups in memory: clips of one are neighbours, often of one label or speaker
LARGEST_GROUP = 2**29  # bytes of the sounds of a row group, which is in memory as a whole
NUMBERED = re.compile(r"-(\d{5})-of-(\d{5})\.parquet$")  # as `datasets` and push.py name shards


class ShardError(UserError):
    """A shard, or a clip in it, that cannot be read.

    torch raises an error of a data loader's worker again, with the traceback of the worker as its message; the
    sentence is the end of that.
    """

    def __str__(self) -> str:
        return self.args[0].rpartition(f"{type(self).__name__}: ")[2].strip()


@dataclass(frozen=True)
class Shard:
    """A Parquet file of a dataset.

    Args:
        name: relative to the dataset.
        address: path or, on the Hub, address with the commit.
        part: train, validation or test.
        state: size in bytes, and time of the last change in ns; 0 on the Hub, where a commit does not change.
        groups: number of rows of each row group.
    """

    name: str
    address: str
    part: str
    state: tuple[int, int]
    groups: tuple[int, ...]


@contextmanager
def open_shard(name: str, address: str) -> Iterator[tuple[pq.ParquetFile, tuple[int, int]]]:
    """Open a shard, and return it with its state; see `Shard`.

    Raises:
        ShardError: for a file that is absent or damaged, or that can no longer be read within the block.
    """
    from huggingface_hub.errors import HTTPError

    try:
        with _open_file(address) as file, pq.ParquetFile(file) as table:
            state = os.stat(address) if "://" not in address else None
            yield table, (file.size, 0) if state is None else (state.st_size, state.st_mtime_ns)
    except (pa.ArrowException, OSError, HTTPError) as error:
        reason = f"{type(error).__name__}: {printable(' '.join(str(error).split())[:200])}".rstrip(".")
        raise ShardError(
            f"expected the whole shard {name} of the dataset, found none that can be read ({reason}); put it back, "
            "and repeat the command."
        ) from error


def _open_file(address: str) -> AbstractContextManager[Any]:
    if "://" not in address:
        return pa.OSFile(os.fsencode(address))
    import fsspec

    system, path = fsspec.core.url_to_fs(address)
    return system.open(path, "rb", cache_type="none")  # others read 5 MB ahead of each column


class ShardedRows:
    """Sounds of all shards by row; the row groups that were read last stay in memory.

    Args:
        shards: in the order of their rows.
        column: of the sounds.
        clips: number of clips that the row groups in memory have together on average; of larger row groups, there are
            `FEWEST_GROUPS`.
    """

    def __init__(self, shards: Sequence[Shard], column: str, clips: int) -> None:
        sizes = [size for shard in shards for size in shard.groups]
        self.starts = np.cumsum([0, *sizes])  # first row of each row group, and the end: (groups + 1,)
        self.window = max(FEWEST_GROUPS, clips * len(sizes) // int(self.starts[-1]))  # row groups in memory
        self._shards, self._column = shards, column
        self._groups = [(shard, number) for shard in shards for number in range(len(shard.groups))]
        self._kept: OrderedDict[int, pa.ChunkedArray] = OrderedDict()

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, row: int) -> str:
        """Return the name of a row in errors: shard and number of the row in it."""
        row = int(row)  # of a batch, a tensor
        group = int(self.groups_of(row))
        shard, number = self._groups[group]
        return f"{shard.name}:{row - self.starts[group - number]}"

    def groups_of(self, rows: Any) -> np.ndarray:
        """Return the index of the row group of each row."""
        return np.searchsorted(self.starts, rows, side="right") - 1

    def read(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """Return the sound of each row as `{"bytes", "path"}`.

        Raises:
            ShardError: see `open_shard`; for a shard that has changed since it was counted, and for a row without the
                bytes of its sound.
        """
        groups = self.groups_of(rows)
        sounds: dict[int, dict[str, Any]] = {}
        # those in memory first, before others take their place
        for group in sorted(np.unique(groups).tolist(), key=lambda group: group not in self._kept):
            sound = self._kept.pop(group) if group in self._kept else self._read_group(group)
            self._kept[group] = sound
            for row in np.asarray(rows)[groups == group].tolist():
                sounds[row] = sound[row - int(self.starts[group])].as_py() or {}
                if sounds[row].get("bytes") is None:
                    raise ShardError(
                        f"{self[row]}: expected the bytes of a clip in the column {self._column}, found "
                        f"{'a path' if sounds[row].get('path') else 'none'}; write the dataset with the bytes of the "
                        "files, as `Dataset.push_to_hub` does."
                    )
            while len(self._kept) > self.window:
                self._kept.popitem(last=False)
        return [sounds[row] for row in rows]

    def _read_group(self, group: int) -> pa.ChunkedArray:
        shard, number = self._groups[group]
        with open_shard(shard.name, shard.address) as (table, state):
            if state != shard.state:
                raise ShardError(
                    f"expected the shard {shard.name} as it was before the training, {shard.state[0]} bytes, found it "
                    f"changed, {state[0]} bytes; put it back, and repeat the command."
                )
            # without threads, which a worker that was forked does not have
            return table.read_row_group(number, columns=[self._column], use_threads=False).column(0)


@dataclass(frozen=True)
class ShardedCorpus:
    """Labels and speakers of all clips of a dataset, whose sounds stay in its shards.

    Args:
        corpus: its dataset has the column `emotion` alone.
        digest: of the shards' names, sizes and rows, and of labels and speakers.
        rows: sounds by row.
        parts: rows of train, validation and test; of validation there may be none.
        labels: label index of each row, `(rows,)`.
        label_names: name of each label.
        speakers: index of the speaker of each row, `(rows,)`.
        speaker_names: name of each speaker; "" stands for those that are not known.
        files: value of the column `file` of each row that is not in train, if there is such a column.
    """

    corpus: Corpus
    digest: str
    rows: ShardedRows
    parts: Mapping[str, range]
    labels: np.ndarray
    label_names: list[str]
    speakers: np.ndarray
    speaker_names: list[str]
    files: Mapping[int, str]

    def describe(self, rows: Sequence[int]) -> dict[int, dict[str, Any]]:
        """Return file, digest, speaker, intensity, duration and `label` of clips by row, whose sounds are read once.

        Raises:
            ShardError: see `ShardedRows.read`; and for a clip whose header cannot be read.
        """
        from datasets import Dataset

        described, paths = {}, []
        for row in rows:
            (sound,) = self.rows.read([row])
            with clip_errors(self.rows[row]):
                duration = inspect(sound, self.rows[row]).duration
            paths.append((sound.get("path"), False))
            described[row] = {
                "speaker": self.speaker_names[self.speakers[row]] or None,
                "intensity": None,
                "duration": duration,
                "digest": hashlib.sha256(sound["bytes"]).hexdigest()[:16],
                "label": int(self.labels[row]),
            }
        named = Dataset.from_dict({"file": [self.files[row] for row in rows]} if self.files else {})
        splits = [part for row in rows for part, of_part in self.parts.items() if row in of_part]
        names = file_names(named, paths, splits)
        return {row: {"file": name, **described[row]} for row, name in zip(rows, names, strict=True)}


@contextmanager
def clip_errors(name: str) -> Iterator[None]:
    """Raise `ShardError` in place of `BadAudio`, which torch cannot raise again outside of a data loader's worker."""
    try:
        yield
    except BadAudio as error:
        raise ShardError(
            f"{name}: expected {error.expected}, found {error.found}; correct that row of the dataset, or leave out "
            "--streaming and add --on_bad_audio skip."
        ) from error


def read_shards(
    name: str | None,
    config: str | None = None,
    revision: str | None = None,
    audio_column: str | None = None,
    label_column: str | None = None,
    speaker_column: str | None = None,
    clips: int = 1000,
) -> ShardedCorpus:
    """Read the columns of labels and speakers of a dataset in Parquet shards, and none of its sounds.

    Args:
        name: folder or Hub id (owner/name).
        config: as for `read_hub_dataset`, as the four arguments after it.
        revision: branch, tag or commit of a Hub id.
        audio_column: column of the clips, with their bytes.
        label_column: column of the labels.
        speaker_column: column of the speakers.
        clips: see `ShardedRows`.

    Raises:
        ShardError: for a shard that cannot be read.
        UserError: see `load_builder` and `read_hub_dataset`; for a dataset in other files than Parquet, without a
            split to train or to test, without one of its shards, or with larger row groups than `LARGEST_GROUP`.
    """
    from datasets import ClassLabel, Dataset, Features

    if not name:
        raise UserError(
            "expected a Hub id or folder with --data hub --streaming, found none; give it with --dataset_name."
        )
    builder = load_builder(name, config, revision)
    files = _find_shards(name, builder.name, builder.config.data_files or {})
    with open_shard(*files[0][1:]) as (table, _):
        types = builder.info.features or Features.from_arrow_schema(table.schema_arrow)
    ours = is_ours(types)
    columns = choose_columns(name, types, ours, audio_column, label_column, speaker_column)
    with ThreadPoolExecutor(READERS) as pool:
        counted = [*pool.map(lambda file: _count_rows(name, types, columns, *file), files)]
    shards = [shard for shard, _ in counted]
    rows = ShardedRows(shards, columns.audio, clips)
    texts, codes = _merge([texts["label"] for _, texts in counted])
    if "" in texts:
        raise UserError(
            f"expected a label in the column {columns.label} of {name} for each of {len(rows)} clips, found none for "
            f"{rows[int(np.argmin(codes))]}; take out the clips without a label, or name another "
            "--label_column."
        )
    if len(texts) < 2:
        raise UserError(
            f"expected clips of at least two labels in the column {columns.label} of {name}, found "
            f"{', '.join(texts)}; name another with --label_column."
        )
    label_names = order_labels(types[columns.label], {*texts}, keep_all=ours)
    labels = np.array([label_names.index(text) for text in texts], dtype=np.int32)[codes]
    speakers, speaker_codes = _merge([texts["speaker"] for _, texts in counted])
    start, parts, files_by_row = 0, {}, {}
    for part in SPLIT_NAMES:
        of_part = [(shard, texts["file"]) for shard, texts in counted if shard.part == part]
        count = sum(sum(shard.groups) for shard, _ in of_part)
        parts[part], start = range(start, start + count), start + count
        files_by_row |= zip(parts[part], (file for _, files in of_part for file in files), strict=False)
    content = [
        [(shard.part, shard.name, shard.state[0], shard.groups) for shard in shards],
        [hashlib.sha256(values.astype(np.int64).tobytes()).hexdigest() for values in (labels, speaker_codes)],
        label_names, speakers,
    ]  # fmt: skip
    card = read_card(name, revision)
    license = card and card.license
    emotions = Features({"emotion": ClassLabel(names=label_names)})
    corpus = Corpus(
        (marked_corpus(card) if ours else None) or dataset_title(name),
        Dataset(pa.Table.from_pydict({"emotion": labels}, schema=emotions.arrow_schema)),
        license=license if isinstance(license, str) else None,
    )
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
    return ShardedCorpus(corpus, digest, rows, parts, labels, label_names, speaker_codes, speakers, files_by_row)


def _find_shards(name: str, kind: str, files: Mapping[str, Sequence[str]]) -> list[tuple[str, str, str]]:
    """Return part, name and address of each shard, those of train first.

    Args:
        name: of the dataset.
        kind: name of the builder of `datasets`.
        files: addresses of each split.
    """
    if kind != "parquet":
        raise UserError(
            f"expected Parquet shards in {name} with --streaming, found files that `datasets` reads as {kind}; write "
            "them with `push.py --dataset`, or leave out --streaming."
        )
    shards = []
    for part, usual in SPLIT_NAMES.items():
        present = [split for split in files if str(split).lower() in usual]
        if len(present) > 1 or (not present and part != "validation"):
            raise UserError(
                f"expected one split called {' or '.join(usual)} in {name} with --streaming, found "
                f"{' and '.join(present) or 'only ' + ', '.join(map(str, files))}; leave out --streaming, and choose "
                "a --protocol."
            )
        addresses = [str(address) for split in present for address in files[split]]
        numbers = [match for address in addresses if (match := NUMBERED.search(address))]
        absent = {*range(int(numbers[0][2]))} - {int(match[1]) for match in numbers} if numbers else ()
        if absent:
            raise UserError(
                f"expected {int(numbers[0][2])} shards of {present[0]} in {name}, found none with the number "
                f"{min(absent)}; put it back, or download the dataset again."
            )
        shards += [(part, PurePosixPath(address.replace("\\", "/")).name, address) for address in addresses]
    return shards


def _count_rows(
    dataset: str, types: Features, columns: Columns, part: str, name: str, address: str
) -> tuple[Shard, dict[str, Any]]:
    """Return a shard, and its texts and their codes by label and speaker; of other parts than train also by `file`."""
    from datasets import Dataset, Features

    wanted = {"label": columns.label, "speaker": columns.speaker}
    if part != "train" and "file" in types:
        wanted["file"] = "file"
    with open_shard(name, address) as (table, state):
        present = {column: types[column] for column in {columns.audio, *wanted.values()} if column is not None}
        if missing := sorted(present.keys() - {*table.schema_arrow.names}):
            raise UserError(
                f"expected the same columns in all shards of {dataset}, found no {', '.join(missing)} in {name}; "
                "write them with the same columns."
            )
        groups = [table.metadata.row_group(number) for number in range(table.num_row_groups)]
        for number, group in enumerate(groups):
            sizes = (group.column(index) for index in range(group.num_columns))
            sounds = [size for size in sizes if size.path_in_schema.split(".")[0] == columns.audio]
            if sum(size.total_uncompressed_size for size in sounds) > LARGEST_GROUP:
                raise UserError(
                    f"expected row groups of up to {LARGEST_GROUP // 2**20} MiB of sound with --streaming, found a "
                    f"larger one, number {number} of {name}; write the dataset with `push.py --dataset`, or leave out "
                    "--streaming."
                )
        del present[columns.audio]
        features = Features(present)
        read = Dataset(
            table.read(columns=[*features], use_threads=False).select([*features]).cast(features.arrow_schema)
        )
    shard = Shard(name, address, part, state, tuple(group.num_rows for group in groups))
    texts = {kind: column_texts(read, column) if column else [None] * len(read) for kind, column in wanted.items()}
    codes = {
        kind: np.unique([text or "" for text in texts[kind]], return_inverse=True) for kind in ("label", "speaker")
    }
    return shard, {"file": texts.get("file", ()), **codes}


def _merge(columns: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[list[str], np.ndarray]:
    """Return the different texts of all shards, sorted, and the index of each row's text; "" stands for none."""
    texts = sorted({str(text) for of_shard, _ in columns for text in of_shard})
    places = [np.array([texts.index(text) for text in of_shard], dtype=np.int32)[codes] for of_shard, codes in columns]
    return texts, np.concatenate(places)
