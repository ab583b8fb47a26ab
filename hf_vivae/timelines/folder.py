"""Timelines of many recordings in one folder: files of each recording, and tables of all segments and recordings."""

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from ..annotations.read import read_annotations
from ..annotations.segment import Segment
from ..files import DiskError, atomic_file, read_table
from ..inference.output import DURATION, ERROR, KEPT, write_output
from ..inference.shards import Parts, ProcessShard, Row, work_through
from ..inference.sources import Shard, UnreadClip, digest, file_state
from ..inference.timeline import Timeline
from ..reporting.tables import csv_cell
from ..validation import readable
from .formats import write_timeline
from .recordings import RECORD, RecordingFile

PARTS = ".parts"
UNKNOWN = "unknown"
SEGMENT = {"start": pa.float64(), "end": pa.float64(), "label": pa.string(), "score": pa.float64()}
SCHEMA = pa.schema(
    {
        "file": pa.string(),
        DURATION: pa.float64(),
        "silent": pa.float64(),  # seconds, as the next
        UNKNOWN: pa.float64(),
        "segments": pa.list_(pa.struct(SEGMENT)),
        ERROR: pa.string(),
    }
)


class TimelineParts(Parts):
    """Parts of a folder of timelines, one for each recording, whose name does not depend on the other recordings.

    So recordings can be added to the input or leave it. A recording is done where its files are there, too.

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

    def is_done(self, number: int, key: str, version: str) -> bool:
        """Return whether a recording is done and unchanged, and has its files; see `Parts.is_done`."""
        if not super().is_done(number, key, version):
            return False
        failed = self.read(number)[ERROR].null_count == 0
        return failed or all(file.is_file() for file in self._recordings[number].files(self.folder, self._formats))

    def remove_beyond(self, count: int) -> int:
        """Remove parts of recordings that are no longer in the input, and return their number."""
        current = {self.path(number) for number in range(count)}
        removed = [file for file in (self.folder / PARTS).glob("part-*.parquet") if file not in current]
        for file in removed:
            file.unlink()
        return len(removed)


def write_timelines(
    annotate: Callable[[Path], tuple[Timeline, list[Segment]]],
    recordings: Sequence[RecordingFile],
    folder: Path,
    *,
    formats: Sequence[str],
    labels: Sequence[str],
    rejects: bool,
    settings: dict[str, Any],
    share: ProcessShard,
    bar: tqdm,
    references: Mapping[Path, Sequence[Segment]] | None = None,
) -> tuple[int, int] | None:
    """Annotate recordings into a folder: files of each recording, `segments.csv` and `summary.csv`.

    Recordings of an earlier start are not annotated again, unless they have changed, could not be read or lack a file.
    Of several processes, each annotates its share, and the last to finish writes the tables. Recordings that cannot be
    used are listed in `_errors.csv`.

    Args:
        annotate: returns timeline and segments of an audio file, or raises `ValueError` or `OSError`.
        recordings: the same in the same order for each process.
        folder: new, or of an earlier start.
        formats: of the files of each recording, see `formats.FORMATS`.
        labels: that segments can have.
        rejects: whether the checkpoint can reject sounds as `unknown`.
        settings: on which the timelines depend; those of an earlier start with others are refused.
        share: of this process.
        bar: counts recordings.
        references: segments that pictures show next to those of a timeline, by recording; another reference makes
            these recordings be annotated again.

    Returns:
        Numbers of recordings with a timeline and without; None where other processes have not finished.

    Raises:
        UserError: for a folder with other files or timelines, and where another process is at work on it.
        DiskError: where the disk is full.
    """
    shown = references if references and ".png" in formats else {}

    def shards() -> Iterator[Shard]:
        for recording in recordings:
            clip = UnreadClip(readable(str(recording.path)), recording)
            version = file_state(recording.path)
            if recording.path in shown:
                version = f"{version} {digest(repr(shown[recording.path]))}"
            yield Shard(digest(str(recording.path)), version, [clip].__iter__, 1)

    def compute(clips: Iterable[UnreadClip]) -> Iterator[Row]:
        for clip in clips:
            row: dict[str, Any] | ValueError
            try:
                timeline, segments = annotate(clip.sound.path)
                for file in clip.sound.files(folder, formats):
                    with atomic_file(file, KEPT) as part:
                        write_timeline(part, timeline, segments, shown.get(clip.sound.path))
                row = _row(timeline, segments)
            except DiskError:
                raise
            except ValueError as error:
                row = error
            except OSError as error:
                row = ValueError(f"{type(error).__name__}: {error}")
                row.__cause__ = error
            bar.update()
            yield clip.file, row

    def join(tables: Iterable[pa.Table]) -> tuple[int, int]:
        return write_output(folder, SCHEMA, _write_tables(folder, labels, rejects, tables))[:2]

    return work_through(
        shards(), folder, lambda place: TimelineParts(place, settings, recordings, formats), compute, join, share, bar
    )


def read_timelines(folder: Path, recordings: Sequence[Path]) -> dict[Path, tuple[float, Sequence[Segment]]]:
    """Return seconds and segments of the recordings that were annotated into a folder, from its tables.

    Args:
        folder: written by `write_timelines`.
        recordings: audio files; those that could not be used are left out.
    """
    names = {readable(str(path)): path for path in recordings}
    segments = {annotation.recording: annotation.segments for annotation in read_annotations(folder / "segments.csv")}
    seconds = {row["file"]: float(row["seconds"]) for row in read_table(folder / "summary.csv")}
    return {
        path: (seconds[cell], segments.get(name, ()))
        for name, path in names.items()
        if (cell := csv_cell(name)) in seconds
    }


def _row(timeline: Timeline, segments: Sequence[Segment]) -> dict[str, Any]:
    edges = np.arange(len(timeline.levels) + 1) * timeline.hop
    edges[-1] = timeline.recording.seconds
    seconds, silent = np.diff(edges), np.isnan(timeline.probabilities[:, 0])
    best = np.nan_to_num(timeline.probabilities).argmax(axis=1)
    return {
        DURATION: timeline.recording.seconds,
        "silent": float(seconds[silent].sum()),
        UNKNOWN: None if timeline.unknown is None else float(seconds[(best == timeline.unknown) & ~silent].sum()),
        "segments": [{name: getattr(segment, name) for name in SEGMENT} for segment in segments],
    }


def _write_tables(
    folder: Path, labels: Sequence[str], rejects: bool, tables: Iterable[pa.Table]
) -> Iterator[pa.Table]:
    """Write the segments and the summary of recordings while their tables pass."""
    rejected = [f"seconds_{UNKNOWN}"] if rejects else []
    with (
        atomic_file(folder / "segments.csv", KEPT) as segments_part,
        atomic_file(folder / "summary.csv", KEPT) as summary_part,
        open(segments_part, "w", newline="", encoding="utf-8") as segments_file,
        open(summary_part, "w", newline="", encoding="utf-8") as summary_file,
    ):
        segments, summary = (csv.writer(file, lineterminator="\n") for file in (segments_file, summary_file))
        segments.writerow(("file", *SEGMENT))
        summary.writerow(("file", "seconds", "seconds_silent", *rejected, *(f"seconds_{label}" for label in labels)))
        for table in tables:
            for row in table.to_pylist():
                if row[ERROR] is not None:
                    continue
                file, totals = csv_cell(row["file"]), dict.fromkeys(labels, 0.0)
                for segment in row["segments"]:
                    start, end, label, score = (segment[name] for name in SEGMENT)
                    segments.writerow((file, f"{start:.3f}", f"{end:.3f}", csv_cell(label), f"{score:.4f}"))
                    totals[label] += end - start
                seconds = (row[DURATION], row["silent"], *(row[UNKNOWN] for _ in rejected), *totals.values())
                summary.writerow((file, *(f"{value:.3f}" for value in seconds)))
            yield table
