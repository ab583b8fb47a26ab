"""Clips of datasets that are streamed: of the Hub, or of a folder that `datasets` loads."""

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from datasets import Audio, IterableDataset, load_dataset_builder
from huggingface_hub import constants

from ..corpus.download import NetworkError, check_reachable
from ..stored_audio import StoredAudio
from ..text import printable, readable
from ..validation import UserError
from .clips import Clip, Shard, digest, file_state
from .references import read_reference, relative_name
from .tables import NAMES, ROWS_PER_SHARD, row_clip


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

    def _read(self, number: int) -> Iterator[Clip]:
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

    def _file_clip(self, row: Mapping[str, Any], path: str, name: str) -> Clip:
        # what the dataset lists itself is where its user has it, whatever links lead to; metadata may name any file
        sound = path if path in self._listed else partial(read_reference, path, self._root) if path else None
        return Clip(readable(str((self._names and row[self._names]) or name)), sound)


def _reason(error: Exception) -> str:
    """The kind of an error of a library, and what it says, as one line."""
    return f"{type(error).__name__}: {printable(' '.join(str(error).split()))}"
