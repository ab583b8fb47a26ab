"""Features of clips that stay in Parquet shards: read, decoded and computed for each batch while a model trains."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from transformers.feature_extraction_utils import FeatureExtractionMixin
from transformers.utils import logging

from .. import audio
from ..corpus.hub_shards import ShardedRows, clip_errors
from .extraction import extract_features, max_input_seconds

logger = logging.get_logger(__name__)


class StreamedClips(torch.utils.data.Dataset):
    """Features of rows of a sharded dataset, with `labels` and the index of each `clip`, as `build_features` has them.

    Args:
        sounds: of all rows.
        rows: those of this dataset.
        labels: label index of each row of `sounds`.
        extractor: of the model.
        max_seconds: length to which clips are cut, see `extract_features`.
    """

    def __init__(
        self,
        sounds: ShardedRows,
        rows: Sequence[int],
        labels: Sequence[int],
        extractor: FeatureExtractionMixin,
        max_seconds: float,
    ) -> None:
        self._sounds, self._rows, self._labels = sounds, np.asarray(rows), labels
        self._extractor, self._max_seconds = extractor, max_seconds

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, position: int) -> dict[str, torch.Tensor]:
        return self.__getitems__([position])[0]

    def __getitems__(self, positions: Sequence[int]) -> list[dict[str, torch.Tensor]]:
        """Return the clips of a batch, for which torch's data loader calls this method.

        Raises:
            ShardError: see `waveforms`.
        """
        rows = self._rows[list(positions)].tolist()
        features = extract_features(self._extractor, self.waveforms(rows), self._max_seconds)
        return [
            {
                **{name: torch.from_numpy(np.ascontiguousarray(values[index])) for name, values in features.items()},
                "labels": torch.tensor(int(self._labels[row])),
                "clip": torch.tensor(row),
            }
            for index, row in enumerate(rows)
        ]

    def waveforms(self, rows: Sequence[int]) -> list[np.ndarray]:
        """Return the samples `(samples,)` of each row at the extractor's rate.

        Raises:
            ShardError: see `ShardedRows.read`; and for a clip whose sound cannot be used.
        """
        clips = []
        longest = min(self._max_seconds, max_input_seconds(self._extractor))
        for row, sound in zip(rows, self._sounds.read(rows), strict=True):
            with clip_errors(name := self._sounds[row]):
                clips.append(audio.load(sound, self._extractor.sampling_rate, name)[0])
            if len(clips[-1]) > longest * self._extractor.sampling_rate:
                logger.warning_once("The model takes %g s of a clip at most, and streamed clips are longer.", longest)
        return clips

    def select(self, rows: Sequence[int]) -> "StreamedClips":
        """Return the same features of other rows."""
        return StreamedClips(self._sounds, rows, self._labels, self._extractor, self._max_seconds)


class StreamedArrays:
    """Arrays of streamed clips in place of a cached dataset, with what `AugmentedDataset` uses of its interface.

    Args:
        clips: of all rows.
        column: `waveform`, or the name of the features.
    """

    def __init__(self, clips: StreamedClips, column: str) -> None:
        self._clips, self._column = clips, column

    def with_format(self, kind: str, columns: Sequence[str]) -> "StreamedArrays":
        """Return this object, whose values are arrays of one column."""
        return self

    def __getitem__(self, row: int) -> dict[str, np.ndarray]:
        if self._column == "waveform":
            return {self._column: self._clips.waveforms([row])[0]}
        return {self._column: self._clips[row][self._column].numpy()}


def shuffle_shards(sounds: ShardedRows, rows: Sequence[int], seed: int, epoch: int) -> Iterator[int]:
    """Yield the positions of all rows once: row groups are shuffled, then the clips of those that are in memory.

    Args:
        sounds: whose row groups contain the rows.
        rows: sorted.
        seed: of the run.
        epoch: its number; the same one has the same order, for any number of processes and after a resume.
    """
    draw = np.random.default_rng((seed, epoch))
    bounds = np.searchsorted(rows, sounds.starts)
    groups = draw.permutation(np.flatnonzero(np.diff(bounds)))  # without those of other parts
    for first in range(0, len(groups), sounds.window):
        window = [np.arange(bounds[group], bounds[group + 1]) for group in groups[first : first + sounds.window]]
        yield from draw.permutation(np.concatenate(window)).tolist()
