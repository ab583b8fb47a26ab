"""A dataset that is streamed while its rows are scored: from the Hub, or from a folder that `datasets` loads."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from datasets import Audio, IterableDataset, load_dataset_builder
from huggingface_hub import constants

from ..network import NetworkError, check_reachable
from ..validation import UserError, printable, readable
from .sources import NAMES, ROWS_PER_SHARD, ZIP, Shard, UnreadClip, digest, file_state, read_reference, row_clip


class StreamedDataset:
    """A split of a dataset, streamed while its rows are scored.

    Args:
        name: id of the Hub, or folder.
        split: of the dataset.

    Raises:
        UserError: for a dataset or a split that is missing or cannot be loaded, and for one without a column of sound.
    """

    def __init__(self, name: str, split: str) -> None:
        self._name, self._split = name, split
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
                builder.config.decode_num_threads = 0  # these would decode files of the Hub before the column is cast
            dataset = builder.as_streaming_dataset(split=split)
        except Exception as error:  # readers of ZIP, TAR, YAML and Parquet raise errors of their own
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
        # an address on the Hub contains its commit, and other remote files have a tag of their content
        facts = [(*part, *map(file_state, part), str(part.origin_metadata)) for part in parts]
        self._version = digest(str(builder.hash), *(fact for part in facts for fact in part))

    def shards(self) -> Iterator[Shard]:
        """Yield a shard for each file with rows; where files are clips, for each thousand of them."""
        if not self._lists_files:
            for number in range(self._dataset.num_shards):
                key = digest(self._name, self._split, str(number))
                yield Shard(key, self._version, partial(self._read, number), None)
            return
        rows = self._rows(self._dataset)
        while shard := list(islice(rows, ROWS_PER_SHARD)):
            clips, names, paths, states = [], [], [], []
            for row in shard:
                path = (row[self._column] or {}).get("path") or ""
                inner, _, outer = path.rpartition("::")
                # relative to the dataset, with archives as folders
                name = "/".join(filter(None, (outer.removeprefix(f"{self._root}/"), inner.removeprefix(ZIP))))
                # files that the dataset lists are its user's, wherever links lead to; metadata may name any file
                sound = path if path in self._listed else partial(read_reference, path, self._root) if path else None
                clips.append(UnreadClip(readable(str((self._names and row[self._names]) or name)), sound))
                names.append(name)
                paths.append(path)
                states.append(file_state(outer))  # of the archive, for a file in one
            key = digest(self._name, self._split, *names)
            yield Shard(key, digest(*paths, *states), partial(iter, clips), len(clips))

    def _read(self, number: int) -> Iterator[UnreadClip]:
        for row, values in enumerate(self._rows(self._dataset.shard(self._dataset.num_shards, number))):
            yield row_clip(values, self._column, self._names, f"{number}:{row}", self._root)

    def _rows(self, dataset: IterableDataset) -> Iterator[Mapping[str, Any]]:
        try:
            yield from dataset
        except Exception as error:  # see above
            raise UserError(
                f"expected rows of the dataset {self._name}, split {self._split}, found one that cannot be read "
                f"({_reason(error)}); replace damaged files, and repeat the command."
            ) from error


def _reason(error: Exception) -> str:
    """Return type and message of a library's error as one line."""
    return f"{type(error).__name__}: {printable(' '.join(str(error).split()))}"


@dataclass
class StoredAudio(Audio):
    """Feature of stored files without decoding; `Audio` needs torchcodec even where it only passes a path on."""

    decode: bool = False

    def encode_example(self, value: str | dict[str, Any]) -> dict[str, Any]:
        return {"bytes": None, "path": value} if isinstance(value, str) else value
