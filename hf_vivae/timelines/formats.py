"""Formats of a timeline's files: those of annotation tools, and the ones with probabilities."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..annotations.segment import Annotation, Segment
from ..annotations.write import WRITERS, annotation_suffix, write_annotation
from ..inference.timeline import Timeline
from ..inference.timeline_figure import timeline_figure
from ..validation import readable
from .page import write_page

WITH_PROBABILITIES = (".json", ".png", ".html")
FORMATS = (*WRITERS, *WITH_PROBABILITIES)  # suffixes; .txt is that of Audacity's labels


def format_of(file: Path) -> str | None:
    """Return the format of `FORMATS` with which the name of a file ends, or None for another name."""
    return annotation_suffix(file) or (file.suffix if file.suffix in WITH_PROBABILITIES else None)


def write_timeline(
    file: Path, timeline: Timeline, segments: Sequence[Segment], reference: Sequence[Segment] | None = None
) -> None:
    """Write a timeline in the format of the file's name, see `format_of`; a picture also shows the reference."""
    match format_of(file):
        case ".json":
            file.write_text(_json(timeline, segments), encoding="utf-8")
        case ".png":
            timeline_figure(timeline, segments, reference).savefig(file)
        case ".html":
            write_page(file, timeline, segments)
        case _:
            name = readable(timeline.recording.path.name)
            write_annotation(file, Annotation(name, tuple(segments), timeline.recording.seconds))


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
