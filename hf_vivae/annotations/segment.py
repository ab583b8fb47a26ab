"""Labelled segments of a recording, as all formats of annotations give them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Segment:
    """A labelled part of a recording.

    Args:
        start: in seconds from the start of the recording.
        end: in seconds, above `start`.
        label: of the segment.
        score: of the label, such as the mean probability of a model; None where a person labelled it.
        speaker: who is heard, where the annotation names them.
    """

    start: float
    end: float
    label: str
    score: float | None = None
    speaker: str | None = None


@dataclass(frozen=True)
class Annotation:
    """The segments of one recording.

    Args:
        recording: name of the audio file, or its stem where the format does not name the file.
        segments: in the order of their starts.
        seconds: length of the recording; None where the format does not state it.
    """

    recording: str
    segments: tuple[Segment, ...]
    seconds: float | None = None
