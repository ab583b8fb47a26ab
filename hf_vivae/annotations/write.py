"""Annotations written for the tools that people look at and correct them in."""

import csv
import io
import re
from collections.abc import Callable
from html import escape
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote

from ..reporting.tables import csv_cell
from ..validation import UserError, printable, readable
from .match import recording_stem
from .parsing import LABELS, SCORES, check_library
from .segment import Annotation, Segment
from .tables import RAVEN

BAND = ("0.0", "8000.0")  # Hz; Raven draws a selection as a rectangle, but the labels are of times alone


def annotation_suffix(file: Path) -> str | None:
    """Return the key of `WRITERS` that a file's name ends with, in any case of letters; None for another name."""
    suffixes = sorted(WRITERS, key=len, reverse=True)
    return next((suffix for suffix in suffixes if file.name.lower().endswith(suffix.lower())), None)


def write_annotation(file: Path, annotation: Annotation) -> None:
    """Write the segments of a recording in the format of the file's name.

    Args:
        file: with a suffix of `WRITERS`.
        annotation: whose labels may be of any script; control characters are written as `printable` shows them.

    Raises:
        UserError: for another suffix, a library that is not installed, and segments that the format cannot hold.
    """
    WRITERS[check_format(file)](file, annotation)


def check_format(file: Path) -> str:
    """Return the suffix of a file to write, and refuse it before anything is computed.

    Raises:
        UserError: for a suffix that is not in `WRITERS`, and for a library that is not installed.
    """
    suffix = annotation_suffix(file)
    if suffix is None:
        raise UserError(f"expected a file as {', '.join(WRITERS)}, found {file.name}; give one of them.")
    if suffix in LIBRARIES:
        check_library(LIBRARIES[suffix], file)
    return suffix


def _write_textgrid(file: Path, annotation: Annotation) -> None:
    from praatio import textgrid

    seconds = max(annotation.seconds or 0, *(segment.end for segment in annotation.segments), 1e-3)
    grid = textgrid.Textgrid(0, seconds)
    for name, _, entries in _tiers(annotation):
        grid.addTier(textgrid.IntervalTier(name, entries, 0, seconds))
    grid.save(str(file), "long_textgrid", includeBlankSpaces=True)


def _write_eaf(file: Path, annotation: Annotation) -> None:
    import pympi

    eaf = pympi.Eaf(author="hf_vivae")
    eaf.remove_tier("default")
    media = quote(readable(annotation.recording))
    # ELAN looks for the recording next to the file; it takes the format from the recording itself
    eaf.add_linked_file(media, f"./{media}", mimetype="audio/x-wav" if media.lower().endswith(".wav") else "audio/*")
    for name, speaker, entries in _tiers(annotation):
        eaf.add_tier(name, part=speaker)
        for start, end, text in entries:
            eaf.add_annotation(name, *_whole_milliseconds(annotation, start, end), text)
    # to_file would rename a file of this name
    file.write_bytes(pympi.Elan.to_string(eaf, encoding="UTF-8"))


def _tiers(annotation: Annotation) -> list[tuple[str, str | None, list[tuple[float, float, str]]]]:
    """Return name, speaker and intervals of the tiers: labels and, where there are any, scores for each speaker.

    Times are whole microseconds, since sums of steps differ in their last digits where segments meet.

    Raises:
        UserError: for segments of one speaker that overlap.
    """
    speakers = list(dict.fromkeys(segment.speaker for segment in annotation.segments)) or [None]
    tiers = []
    for speaker in speakers:
        segments = [
            (round(segment.start, 6), round(segment.end, 6), printable(segment.label), segment.score)
            for segment in sorted(annotation.segments, key=lambda segment: segment.start)
            if segment.speaker == speaker
        ]
        for (_, end, *_), (start, *_) in pairwise(segments):
            if start < end:
                raise UserError(
                    f"{annotation.recording}: expected segments that do not overlap, or speakers of those that do, "
                    f"found one from {start:g} s where another ends at {end:g} s; write a table, such as .csv."
                )
        name = None if speaker is None else printable(speaker)
        suffix = "" if name is None else f"@{name}"
        tiers.append((LABELS + suffix, name, [(start, end, label) for start, end, label, _ in segments]))
        scores = [(start, end, f"{score:.4f}") for start, end, _, score in segments if score is not None]
        if scores:
            tiers.append((SCORES + suffix, name, scores))
    return tiers


def _write_rttm(file: Path, annotation: Annotation) -> None:
    from pyannote import core

    content = core.Annotation(uri=_field(recording_stem(annotation.recording)))
    for track, segment in enumerate(annotation.segments):
        start, end = _whole_milliseconds(annotation, segment.start, segment.end)
        content[core.Segment(start / 1000, end / 1000), track] = _field(segment.label)
    with file.open("w", encoding="utf-8", newline="\n") as lines:
        content.write_rttm(lines)


def _whole_milliseconds(annotation: Annotation, start: float, end: float) -> tuple[int, int]:
    """Return the times of a segment in ms; pyannote.core would leave out one that has no length then."""
    times = _milliseconds(start), _milliseconds(end)
    if times[0] == times[1]:
        raise UserError(
            f"{annotation.recording}: expected segments of 1 ms at least, found one from {start:g} to {end:g} s; "
            "write a table, such as .csv."
        )
    return times


def _field(text: str) -> str:
    """Return text without white space, whose % are escaped as well, so that it can be read back."""
    return re.sub(r"[%\s]|^<(?=NA>$)", lambda match: quote(match[0]), printable(text))


def _write_srt(file: Path, annotation: Annotation) -> None:
    import pysubs2

    subtitles = pysubs2.SSAFile()
    for segment in annotation.segments:
        start, end = _milliseconds(segment.start), _milliseconds(segment.end)
        subtitles.append(pysubs2.SSAEvent(start=start, end=end, text=_cue(segment)))
    # tags are kept, since braces of a label are none
    file.write_text(subtitles.to_string("srt", keep_ssa_tags=True), encoding="utf-8")


def _write_webvtt(file: Path, annotation: Annotation) -> None:
    cues = (
        f"\n{_clock(segment.start)} --> {_clock(segment.end)}\n{escape(_cue(segment), quote=False)}\n"
        for segment in annotation.segments
    )
    file.write_text("WEBVTT\n" + "".join(cues), encoding="utf-8")


def _cue(segment: Segment) -> str:
    score = "" if segment.score is None else f" {segment.score:.0%}"
    return printable(segment.label) + score


def _clock(seconds: float) -> str:
    minutes, milliseconds = divmod(_milliseconds(seconds), 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{milliseconds // 1000:02}.{milliseconds % 1000:03}"


def _milliseconds(seconds: float) -> int:
    return round(1000 * seconds)


def _write_audacity(file: Path, annotation: Annotation) -> None:
    """Write lines of start, end and text between tabs, for File > Import > Labels."""
    lines = (
        f"{segment.start:.6f}\t{segment.end:.6f}\t{printable(segment.label)}"
        + ("" if segment.score is None else f" {segment.score:.2f}")
        for segment in annotation.segments
    )
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _write_csv(file: Path, annotation: Annotation) -> None:
    _write_table(file, annotation, ",", {}, str)


def _write_tsv(file: Path, annotation: Annotation) -> None:
    _write_table(file, annotation, "\t", {"file": csv_cell(printable(annotation.recording))}, printable)


def _write_table(
    file: Path, annotation: Annotation, delimiter: str, first: dict[str, str], shown: Callable[[str], str]
) -> None:
    speakers = any(segment.speaker for segment in annotation.segments)
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    writer.writerow((*first, "start", "end", "label", "score", *(["speaker"] if speakers else [])))
    writer.writerows(
        (
            *first.values(),
            f"{segment.start:.3f}",
            f"{segment.end:.3f}",
            csv_cell(shown(segment.label)),
            "" if segment.score is None else f"{segment.score:.4f}",
            *([csv_cell(shown(segment.speaker or ""))] if speakers else []),
        )
        for segment in annotation.segments
    )
    file.write_text(text.getvalue(), encoding="utf-8")


def _write_raven(file: Path, annotation: Annotation) -> None:
    lines = [[*RAVEN, "Begin File", "label", "score", "speaker"]]  # Raven takes further columns for annotations
    for number, segment in enumerate(annotation.segments, 1):
        times = (f"{segment.start:.6f}", f"{segment.end:.6f}")
        score = "" if segment.score is None else f"{segment.score:.4f}"
        texts = (printable(annotation.recording), printable(segment.label), score, printable(segment.speaker or ""))
        lines.append([str(number), "Spectrogram 1", "1", *times, *BAND, *texts])
    file.write_text("".join("\t".join(line) + "\n" for line in lines), encoding="utf-8")


WRITERS: dict[str, Callable[[Path, Annotation], None]] = {
    ".csv": _write_csv,
    ".TextGrid": _write_textgrid,
    ".eaf": _write_eaf,
    ".rttm": _write_rttm,
    ".srt": _write_srt,
    ".vtt": _write_webvtt,
    ".tsv": _write_tsv,
    ".txt": _write_audacity,
    ".selections.txt": _write_raven,
}
LIBRARIES = {".TextGrid": "praatio", ".eaf": "pympi", ".rttm": "pyannote", ".srt": "pysubs2"}
