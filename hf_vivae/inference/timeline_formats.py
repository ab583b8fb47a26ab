"""Timelines as files: segments as CSV, Audacity's labels and WebVTT, and with all probabilities as JSON."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

import numpy as np

from ..runs import write_text
from ..text import csv_cell, printable, readable
from ..validation import UserError
from .timeline import Segment, Timeline


def write_timeline(file: Path, timeline: Timeline, segments: Sequence[Segment]) -> None:
    """Write a timeline in the format of the file's suffix, one of `FORMATS`.

    Raises:
        ValueError: for another suffix.
    """
    if file.suffix not in FORMATS:
        raise UserError(
            f"expected --output with a suffix of {', '.join(FORMATS)}, found {file.name}; give one of them."
        )
    write_text(file, FORMATS[file.suffix](timeline, segments))


def _csv(timeline: Timeline, segments: Sequence[Segment]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("start", "end", "label", "score"))
    writer.writerows(
        (f"{one.start:.3f}", f"{one.end:.3f}", csv_cell(one.label), f"{one.score:.4f}") for one in segments
    )
    return text.getvalue()


def _audacity(timeline: Timeline, segments: Sequence[Segment]) -> str:
    """Lines of start, end and text between tabs, as File > Import > Labels reads them."""
    return "".join(f"{one.start:.6f}\t{one.end:.6f}\t{printable(one.label)} {one.score:.2f}\n" for one in segments)


def _webvtt(timeline: Timeline, segments: Sequence[Segment]) -> str:
    cues = (
        f"\n{_clock(one.start)} --> {_clock(one.end)}\n{escape(printable(one.label), quote=False)} {one.score:.0%}\n"
        for one in segments
    )
    return "WEBVTT\n" + "".join(cues)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(1000 * seconds), 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}.{rest % 1000:03}"


def _json(timeline: Timeline, segments: Sequence[Segment]) -> str:
    rows = np.round(timeline.probabilities, 4).tolist()
    content = {
        "file": readable(timeline.recording.path.name),
        "seconds": timeline.recording.seconds,
        "step": timeline.hop,
        "labels": list(timeline.labels),
        "segments": [vars(one) for one in segments],
        "probabilities": [None if np.isnan(row[0]) else row for row in rows],  # None: silence
    }
    return json.dumps(content, allow_nan=False) + "\n"


# by suffix; Audacity names its own .txt
FORMATS: dict[str, Callable[[Timeline, Sequence[Segment]], str]] = {
    ".csv": _csv,
    ".json": _json,
    ".txt": _audacity,
    ".vtt": _webvtt,
}
