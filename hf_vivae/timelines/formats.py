"""Formats of a timeline's files."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..annotations.segment import Annotation, Segment
from ..annotations.write import WRITERS, write_annotation
from ..inference.timeline import Timeline
from ..inference.timeline_figure import timeline_figure
from ..validation import readable

FORMATS = (*WRITERS, ".json")  # by suffix; that of Audacity's labels is .txt


def write_timeline(file: Path, timeline: Timeline, segments: Sequence[Segment]) -> None:
    """Write a timeline in the format of the file's suffix: one of `FORMATS`, or .png."""
    if file.suffix == ".png":
        timeline_figure(timeline).savefig(file)
    elif file.suffix == ".json":
        file.write_text(_json(timeline, segments), encoding="utf-8")
    else:
        recording = timeline.recording
        write_annotation(file, Annotation(recording.path.name, tuple(segments), recording.seconds))


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
