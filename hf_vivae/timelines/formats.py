"""Formats of a timeline's files."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

import numpy as np

from ..annotations.segment import Segment
from ..inference.timeline import Timeline
from ..inference.timeline_figure import timeline_figure
from ..reporting.tables import csv_cell
from ..validation import printable, readable


def write_timeline(file: Path, timeline: Timeline, segments: Sequence[Segment]) -> None:
    """Write a timeline in the format of the file's suffix: one of `FORMATS`, or .png."""
    if file.suffix == ".png":
        timeline_figure(timeline, segments).savefig(file)
    else:
        file.write_text(FORMATS[file.suffix](timeline, segments), encoding="utf-8")


def _csv(timeline: Timeline, segments: Sequence[Segment]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("start", "end", "label", "score"))
    writer.writerows(
        (f"{segment.start:.3f}", f"{segment.end:.3f}", csv_cell(segment.label), f"{segment.score:.4f}")
        for segment in segments
    )
    return text.getvalue()


def _audacity(timeline: Timeline, segments: Sequence[Segment]) -> str:
    """Return lines of start, end and text between tabs, for File > Import > Labels."""
    return "".join(
        f"{segment.start:.6f}\t{segment.end:.6f}\t{printable(segment.label)} {segment.score:.2f}\n"
        for segment in segments
    )


def _webvtt(timeline: Timeline, segments: Sequence[Segment]) -> str:
    cues = (
        f"\n{_clock(segment.start)} --> {_clock(segment.end)}\n"
        f"{escape(printable(segment.label), quote=False)} {segment.score:.0%}\n"
        for segment in segments
    )
    return "WEBVTT\n" + "".join(cues)


def _clock(seconds: float) -> str:
    minutes, milliseconds = divmod(round(1000 * seconds), 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{milliseconds // 1000:02}.{milliseconds % 1000:03}"


def _json(timeline: Timeline, segments: Sequence[Segment]) -> str:
    rows = np.round(timeline.probabilities, 4).tolist()
    content = {
        "file": readable(timeline.recording.path.name),
        "seconds": timeline.recording.seconds,
        "step": timeline.hop,
        "labels": list(timeline.labels),
        "segments": [
            {name: getattr(segment, name) for name in ("start", "end", "label", "score")} for segment in segments
        ],
        "probabilities": [None if np.isnan(row[0]) else row for row in rows],  # None: silence
    }
    return json.dumps(content, allow_nan=False) + "\n"


# by suffix; that of Audacity's labels is .txt
FORMATS: dict[str, Callable[[Timeline, Sequence[Segment]], str]] = {
    ".csv": _csv,
    ".json": _json,
    ".txt": _audacity,
    ".vtt": _webvtt,
}
