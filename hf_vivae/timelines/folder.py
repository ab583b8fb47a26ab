"""Timelines of many recordings in one folder: files of annotations, and tables of all segments and of all recordings."""

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from ..annotations.segment import Segment
from ..files import DiskError, atomic_file
from ..inference.output import DURATION, ERROR, KEPT, write_output
from ..inference.shards import Parts, ProcessShard, Row, work_through
from ..inference.sources import Shard, UnreadClip, digest, file_state
from ..inference.timeline import Timeline
from ..reporting.tables import csv_cell
from ..validation import readable
from .formats import write_timeline
from .recordings import RecordingFile

RECORD = "_timeline.json"
PARTS = ".parts"
SILENT, UNKNOWN = "silent", "unknown"  # columns of seconds
SEGMENT = [("start", pa.float64()), ("end", pa.float64()), ("label", pa.string()), ("score", pa.float64())]
SCHEMA = pa.schema(
    [
        ("file", pa.string()),
        (DURATION, pa.float64()),
        (SILENT, pa.float64()),
        (UNKNOWN, pa.float64()),
        ("segments", pa.list_(pa.struct(SEGMENT))),
        (ERROR, pa.string()),
    ]
)


class TimelineParts(Parts):
    """Parts of a folder of timelines, one for each recording, with a name that does not depend on the others.

    Recordings can thus be added to an input or leave it. A recording is done where its files are there, too.

    Args:
        folder: is made.
        settings: as for `Parts`.
        recordings: of the shards.
        formats: of the files of each recording.
    """

    def __init__(
        self, folder: Path, settings: dict[str, Any], recordings: Sequence[RecordingFile], formats: Sequence[str]
    ) -> None:
        super().__init__(folder, RECORD, settings, SCHEMA, "timelines")
        self._recordings, self._formats = recordings, formats

    def path(self, number: int) -> Path:
        """Return the file of a shard, by its index."""
        return self.folder / PARTS / f"part-{digest(str(self._recordings[number].path))[:32]}.parquet"

    def files(self, recording: RecordingFile) -> list[Path]:
        """Return the files of a recording, one for each format."""
        return [self.folder / f"{recording.stem}{suffix}" for suffix in self._formats]

    def is_done(self, number: int, key: str, version: str) -> bool:
        """Return whether a recording is done and has not changed, and its files are there; see `Parts.is_done`."""
        if not super().is_done(number, key, version):
            return False
        failed = self.read(number)[ERROR].null_count == 0
        return failed or all(file.is_file() for file in self.files(self._recordings[number]))

    def remove_beyond(self, count: int) -> int:
        """Remove parts of recordings that are no longer in the input, and return their number."""
        current = {self.path(number) for number in range(count)}
        removed = [file for file in (self.folder / PARTS).glob("part-*.parquet") if file not in current]
        for file in removed:
            file.unlink()
        return len(removed)
