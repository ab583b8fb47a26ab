"""A timeline as one HTML page, which plays the recording and exports the segments that were corrected by hand."""

import base64
import hashlib
import io
import json
from collections.abc import Sequence
from html import escape
from itertools import chain
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import soundfile

from ..annotations.segment import Segment
from ..inference.timeline import Recording, Timeline
from ..inference.timeline_figure import COLOURS
from ..reporting.plots import GREY
from ..validation import UserError, printable

LONGEST = 3 * 3600  # seconds; browsers keep the whole page in memory
RATE = 24_000  # Hz of the sound
# On libsndfile's scale: 64 kbit/s. The rate is constant, since browsers only estimate positions in others; and with
# fewer bits a frame has no room for LAME's tag, without which players add the 46 ms of the encoder's delay.
COMPRESSION = 0.6
HOP, FFT, ROWS = 480, 960, 160  # of the spectrogram, in samples: 50 columns a second, rows of 50 Hz up to 8 kHz
PAGE_COLUMNS = 60 * RATE // HOP  # of a picture of a minute
OVERVIEW_COLUMNS = 2000  # of the picture of the whole recording, at most
RANGE_DB = 70
PIECE = 3 * 2**18  # bytes; of multiples of 3, base64 can be written one after another


def check_page_length(recording: Recording) -> None:
    """Refuse a recording that is too long for a page.

    Raises:
        UserError: for more than three hours.
    """
    if recording.seconds > LONGEST:
        raise UserError(
            f"{recording.path.name}: expected up to {LONGEST / 3600:g} hours for a page, found "
            f"{recording.seconds / 3600:.1f}; write another format, such as .TextGrid, or split the recording."
        )


def write_page(file: Path, timeline: Timeline, segments: Sequence[Segment]) -> None:
    """Write a page that opens from the disk and loads nothing: the recording as MP3, its spectrogram and its labels.

    Args:
        file: to write.
        timeline: of a recording, which is read again.
        segments: of the timeline, in order and without overlaps.

    Raises:
        BadAudio: for sound that does not decode.
        UserError: see `check_page_length`.
    """
    check_page_length(timeline.recording)
    sound, levels = _read_again(timeline.recording)
    folder = Path(__file__).parent
    names = ("page.html", "page.css", "page_drawing.js", "page.js")
    page, style, *scripts = ((folder / name).read_text("utf-8") for name in names)
    script = "".join(scripts)
    data = json.dumps(_content(timeline, segments, levels), allow_nan=False).replace("<", "\\u003c")  # no </script>
    name = printable(timeline.recording.path.name)
    values = {
        "title": escape(name),
        "about": escape(f"Labels of {printable(timeline.checkpoint)}" if timeline.checkpoint else "Labels over time"),
        "policy": f"default-src 'none'; script-src {_digest(script)}; style-src {_digest(style)}; img-src data:; "
        "media-src blob:; base-uri 'none'; form-action 'none'",
        "style": style,
        "script": script,
        "data": data,
    }
    head, tail = (Template(part).substitute(values) for part in page.split("$sound"))
    with file.open("w", encoding="utf-8", newline="\n") as output:  # the digests are of lines that end so
        output.write(head)
        for start in range(0, len(sound), PIECE):
            output.write(base64.b64encode(sound[start : start + PIECE]).decode())
        output.write(tail)


def _read_again(recording: Recording) -> tuple[memoryview, np.ndarray]:
    """Return a recording as MP3, and its spectrogram in dB above -100, `(columns, ROWS)` uint8.

    Both are made block by block, and take about 60 MB for an hour.
    """
    encoded = io.BytesIO()
    window = np.hanning(FFT).astype(np.float32)
    columns, buffer = [], np.zeros((FFT - HOP) // 2, np.float32)  # so that each column is in the middle of its window
    with soundfile.SoundFile(
        encoded, "w", RATE, 1, format="MP3", subtype="MPEG_LAYER_III", compression_level=COMPRESSION,
        bitrate_mode="CONSTANT",
    ) as mp3:  # fmt: skip
        for block in chain(recording.blocks(RATE), [None]):
            if block is not None:
                mp3.write(block.clip(-1, 1))
            buffer = np.concatenate((buffer, np.zeros(FFT - 1, np.float32) if block is None else block))
            if len(buffer) >= FFT:
                frames = np.lib.stride_tricks.sliding_window_view(buffer, FFT)[::HOP]
                power = np.abs(np.fft.rfft(frames * window, axis=1))[:, : 2 * ROWS] ** 2
                power = power.reshape(len(power), ROWS, 2).mean(axis=2)
                columns.append((10 * np.log10(np.maximum(power, 1e-10)) + 100).astype(np.uint8))
                buffer = buffer[len(frames) * HOP :]
    return encoded.getbuffer(), np.concatenate(columns)


def _content(timeline: Timeline, segments: Sequence[Segment], levels: np.ndarray) -> dict[str, Any]:
    """Return what the script draws; the likeliest labels have colours of their own, as in `timeline_figure`."""
    labels = [printable(label) for label in timeline.labels]
    heights = np.nan_to_num(timeline.probabilities)
    order = np.argsort(-heights.sum(axis=0))
    shown, others = order[: len(COLOURS)], order[len(COLOURS) :]
    series = [(labels[index], colour) for index, colour in zip(shown, COLOURS, strict=False)]
    heights = heights[:, shown]
    if len(others):
        series.append((f"{len(others)} others", GREY))
        heights = np.column_stack((heights, np.nan_to_num(timeline.probabilities)[:, others].sum(axis=1)))
    silent = np.isnan(timeline.probabilities[:, 0])
    thousandths = np.round(1000 * heights).astype(int).tolist()
    seconds = timeline.recording.seconds
    columns = levels[: max(1, round(seconds * RATE / HOP))]
    top = np.percentile(columns.max(axis=1), 99.5)  # a single click does not darken the whole recording
    grey = ((np.arange(256) - (top - RANGE_DB)) * (255 / RANGE_DB)).clip(0, 255).astype(np.uint8)[columns]
    edges = np.linspace(0, len(grey), min(OVERVIEW_COLUMNS, len(grey)) + 1).astype(int)[:-1]
    return {
        "stem": printable(timeline.recording.path.stem),
        "seconds": seconds,
        "step": timeline.hop,
        "labels": labels,
        "series": series,
        "grey": GREY,
        "probabilities": [None if quiet else row for quiet, row in zip(silent, thousandths, strict=True)],
        "segments": [
            {
                "start": segment.start, "end": segment.end, "label": printable(segment.label), "score": segment.score,
            }
            for segment in segments
        ],
        "spectrogram": {
            "overview": _picture(np.maximum.reduceat(grey, edges)),
            "pages": [_picture(grey[start : start + PAGE_COLUMNS]) for start in range(0, len(grey), PAGE_COLUMNS)],
            "page_seconds": PAGE_COLUMNS * HOP / RATE,
        },
    }  # fmt: skip


def _picture(columns: np.ndarray) -> str:
    """Return the address of a picture of `(columns, ROWS)`, low frequencies below."""
    from PIL import Image

    encoded = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(columns.T[::-1])).save(encoded, "JPEG", quality=60)
    return f"data:image/jpeg;base64,{base64.b64encode(encoded.getvalue()).decode()}"


def _digest(text: str) -> str:
    """Return the source expression of a Content-Security-Policy that permits this inline text alone."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
