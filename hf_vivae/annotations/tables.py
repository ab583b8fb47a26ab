"""Annotations with a segment in each line: CSV, TSV, labels of Audacity, selection tables of Raven, and RTTM."""

import csv
import io
import re
from collections import defaultdict
from pathlib import Path
from urllib.parse import unquote

from ..reporting.tables import csv_cell
from ..validation import UserError, did_you_mean, short_repr
from .parsing import check_times, parse_number, read_text
from .segment import Annotation, Segment

RAVEN = ("Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)")
OFFSET = "File Offset (s)"
AUDACITY_SCORE = re.compile(r"(?P<label>.+) (?P<score>[01]\.\d\d)")


def read_table(file: Path, tier: str | None, speaker_tier: str | None) -> list[Annotation]:
    """Return the annotations of a CSV or TSV table with the columns start, end and label; times are in seconds.

    The columns file, score and speaker are optional. A table without the column file is that of the recording of its
    stem.

    Args:
        file: of the suffix .csv or .tsv.
        tier: name of the column of labels, by default `label`.
        speaker_tier: name of the column of speakers, by default `speaker`.

    Raises:
        UserError: for a column that is missing, and for a row without a label or with other times.
    """
    delimiter = "," if file.suffix.lower() == ".csv" else "\t"
    columns, rows = _rows(file, delimiter, csv.QUOTE_MINIMAL, ("start", "end"), tier, speaker_tier)
    segments: dict[str, list[Segment]] = defaultdict(list)
    for place, cells in rows:
        cells = {name: _plain(cell) for name, cell in cells.items()}
        recording = cells.get("file", file.stem)
        if not recording:
            raise UserError(f"{file}: expected the name of a recording as file of {place}, found none; add it.")
        start, end = (parse_number(cells[name], file, f"{name} of {place}") for name in ("start", "end"))
        segments[recording].append(_segment_of_row(file, place, start, end, cells, tier, speaker_tier))
    if not segments and "file" not in columns:
        segments[file.stem] = []
    return _annotations(segments)


def read_lines(file: Path, tier: str | None, speaker_tier: str | None) -> list[Annotation]:
    """Return the annotations of a .txt file: a selection table of Raven, by its header, or labels of Audacity.

    Raises:
        UserError: as `read_table`.
    """
    if read_text(file).startswith("Selection\t"):
        return _read_raven(file, tier, speaker_tier)
    return _read_audacity(file, tier, speaker_tier)


def _read_raven(file: Path, tier: str | None, speaker_tier: str | None) -> list[Annotation]:
    selection, view, _, *times = RAVEN[:5]
    _, rows = _rows(file, "\t", csv.QUOTE_NONE, (selection, *times), tier, speaker_tier)
    stem = re.sub(r"(\.Table\.\d+)?\.selections$", "", file.stem)
    segments: dict[str, list[Segment]] = defaultdict(list)
    views: dict[str, str] = {}
    for place, cells in rows:
        # Raven writes a selection once for each view, such as waveform and spectrogram
        if views.setdefault(cells[selection], cells.get(view, "")) != cells.get(view, ""):
            continue
        start, end = (parse_number(cells[name], file, f"{name} of {place}") for name in times)
        if cells.get(OFFSET):  # times of a table of several files run on from file to file
            offset = parse_number(cells[OFFSET], file, f"{OFFSET} of {place}")
            start, end = offset, offset + end - start
        recording = cells.get("Begin File") or stem
        segments[recording].append(_segment_of_row(file, place, start, end, cells, tier, speaker_tier))
    return _annotations(segments or {stem: []})


def _read_audacity(file: Path, tier: str | None, speaker_tier: str | None) -> list[Annotation]:
    if tier is not None or speaker_tier is not None:
        raise UserError(f"{file}: expected a file with tiers or columns, found labels of Audacity; name no tier.")
    segments = []
    for number, line in enumerate(read_text(file).split("\n"), 1):
        if not line.strip() or line.startswith("\\"):  # the latter has the frequencies of the label of the line before
            continue
        place = f"line {number}"
        fields = line.split("\t", 2)
        if len(fields) != 3:
            raise UserError(
                f"{file}: expected start, end and label between tabs, as Audacity exports them, found "
                f"{short_repr(line, 40)} in {place}; correct it."
            )
        scored = AUDACITY_SCORE.fullmatch(fields[2].strip())
        segments.append(
            _segment(
                file,
                place,
                parse_number(fields[0], file, f"start of {place}"),
                parse_number(fields[1], file, f"end of {place}"),
                scored["label"] if scored else fields[2],
                float(scored["score"]) if scored else None,
                None,
            )
        )
    return _annotations({file.stem: segments})


def read_rttm(file: Path, tier: str | None, speaker_tier: str | None) -> list[Annotation]:
    """Return the annotations of an RTTM file, with the label in the field of the speaker's name.

    Lines that begin with ;; are comments; SPKR-INFO has no times. Spaces and % in names are %20 and %25. The format is
    that of NIST's evaluation plan RT-09, appendix A.

    Raises:
        UserError: for other lines, and as `read_table`.
    """
    if tier is not None or speaker_tier is not None:
        raise UserError(f"{file}: expected a file with tiers or columns, found RTTM; name no tier.")
    segments: dict[str, list[Segment]] = defaultdict(list)
    for number, line in enumerate(read_text(file).split("\n"), 1):
        fields = line.split()
        if not fields or fields[0].startswith(";;") or fields[0] == "SPKR-INFO":
            continue
        place = f"line {number}"
        if fields[0] != "SPEAKER" or len(fields) not in (9, 10):  # the tenth came with RT-09
            raise UserError(
                f"{file}: expected a line SPEAKER of 9 or 10 fields, found {short_repr(line, 40)} in {place}; correct "
                "or remove it."
            )
        start = parse_number(fields[3], file, f"start of {place}")
        seconds = parse_number(fields[4], file, f"duration of {place}")
        label = "" if fields[7] == "<NA>" else unquote(fields[7])
        # 3 decimals of start and duration have a sum without more of them
        segments[unquote(fields[1])].append(_segment(file, place, start, round(start + seconds, 9), label, None, None))
    return _annotations(segments)


def _rows(
    file: Path, delimiter: str, quoting: int, times: tuple[str, ...], tier: str | None, speaker_tier: str | None
) -> tuple[list[str], list[tuple[str, dict[str, str]]]]:
    """Return the columns of a table, and of each row its place, for messages, and its cells."""
    lines = csv.reader(io.StringIO(read_text(file), newline=""), delimiter=delimiter, quoting=quoting, strict=True)
    try:
        rows = [(f"row {number}", row) for number, row in enumerate(lines, 1) if row]  # the header is row 1
    except csv.Error as error:
        raise UserError(f"{file}: expected a table, found another file ({error}); write it again.") from error
    columns = rows[0][1]
    label = tier or "label"
    for name in (*times, label, *([speaker_tier] if speaker_tier else [])):
        if columns.count(name) != 1:
            raise UserError(
                f"{file}: expected one column {name}, found {short_repr(columns)}{did_you_mean(name, columns)}; "
                f"add it{', or name another with --tier' if name == label else ''}."
            )
    for place, row in rows:
        if len(row) != len(columns):
            raise UserError(
                f"{file}: expected {len(columns)} fields, as in the header, found {len(row)} in {place}; correct it."
            )
    return columns, [(place, dict(zip(columns, row, strict=True))) for place, row in rows[1:]]


def _segment_of_row(
    file: Path,
    place: str,
    start: float,
    end: float,
    cells: dict[str, str],
    tier: str | None,
    speaker_tier: str | None,
) -> Segment:
    score = parse_number(cells["score"], file, f"score of {place}") if cells.get("score") else None
    speaker = cells.get(speaker_tier or "speaker") or None
    return _segment(file, place, start, end, cells[tier or "label"], score, speaker)


def _plain(cell: str) -> str:
    """Return a cell without the apostrophe of `csv_cell`."""
    return cell[1:] if cell.startswith("'") and csv_cell(cell[1:]) == cell else cell


def _segment(
    file: Path, place: str, start: float, end: float, label: str, score: float | None, speaker: str | None
) -> Segment:
    check_times(start, end, file, place)
    if not label.strip():
        raise UserError(f"{file}: expected a label in {place}, found none; add it.")
    return Segment(start, end, label.strip(), score, speaker)


def _annotations(segments: dict[str, list[Segment]]) -> list[Annotation]:
    return [
        Annotation(name, tuple(sorted(parts, key=lambda segment: (segment.start, segment.end))))
        for name, parts in segments.items()
    ]
