"""Emotions along a long recording: windows, segments, and their file formats and figure."""

import csv
import io
import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from itertools import chain, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..audio import A_FILE, A_FORMAT, CURE, BadAudio, inspect, open_sound, resample
from ..files import check_new, whole_file, write_text
from ..reporting.plots import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION, YELLOW, blank_figure, literal
from ..reporting.tables import csv_cell
from ..validation import UserError, printable, readable
from .scorer import Scorer

if TYPE_CHECKING:
    from matplotlib.figure import Figure


BLOCK_SECONDS = 60  # a whole number, so that blocks begin at whole samples of both rates
CONTEXT_SECONDS = 1  # of sound on both sides of a block, which the resampling filter reaches into


@dataclass(frozen=True)
class Recording:
    """A file that is read piece by piece.

    Args:
        path: of the file.
        seconds: its length.
        sampling_rate: in Hz.
    """

    path: Path
    seconds: float
    sampling_rate: int

    @classmethod
    def open(cls, path: Path) -> "Recording":
        """Read the header of a file; it is decoded only where that does not say the length.

        Raises:
            BadAudio: as `audio.inspect`.
        """
        with _cures(path):
            info = inspect(path)
        return cls(path, info.duration, info.sampling_rate)

    def blocks(self, rate: int) -> Iterator[np.ndarray]:
        """The whole recording at a rate in Hz, mono float32 `(samples,)`, `BLOCK_SECONDS` at a time.

        Raises:
            BadAudio: for sound that does not decode to its end, is shorter or longer than its header says, or holds
                NaN or infinite samples; blocks before the damage have come by then.
        """
        size, context = BLOCK_SECONDS * self.sampling_rate, CONTEXT_SECONDS * self.sampling_rate
        buffer, before, read = np.zeros(0, np.float32), 0, 0  # the buffer's first samples come before the block
        with _cures(self.path), open_sound(self.path) as sound:
            while True:
                samples = sound.read(before + size + context - len(buffer))
                finite = np.isfinite(samples)
                if not finite.all():
                    at = (read + finite.argmin()) / self.sampling_rate
                    found = f"NaN or infinite samples from second {at:.2f} on"
                    raise BadAudio(self.path.name, "finite samples", found)
                buffer, read = np.concatenate((buffer, samples)), read + len(samples)
                block = min(size, len(buffer) - before)
                if block <= 0:
                    return
                resampled = resample(buffer, self.sampling_rate, rate)
                first = rate * CONTEXT_SECONDS if before else 0
                yield resampled[first : first + rate * BLOCK_SECONDS] if block == size else resampled[first:]
                buffer, before = buffer[before + block - context if block == size else len(buffer) :], context


@contextmanager
def _cures(path: Path) -> Iterator[None]:
    """Give errors the cure of a recording, which nobody leaves out of a corpus."""
    try:
        yield
    except BadAudio as error:
        cures = {
            A_FILE: "check the path",
            A_FORMAT: f"where it is a film or of another format: ffmpeg -i {path.name} sound.wav",
        }
        cure = cures.get(error.expected, "replace the file") if error.cure == CURE else error.cure
        raise BadAudio(error.name, error.expected, error.found, cure) from error


SMALLEST_HOP = 0.01  # seconds from one frame of the models' features to the next
QUIETEST_DB = -90.0  # below full scale: what is under it is silence in any recording


@dataclass(frozen=True)
class Windows:
    """How a recording is cut.

    Args:
        seconds: length of a window; the last ones of a recording are shorter.
        hop: seconds from the start of one to that of the next, which is the timeline's step.
        gate_db: steps that are quieter than the recording's loud ones (the 99th percentile) by more than this are
            silence, as are those below -90 dB of full scale; energy rather than a voice activity detector, whose
            speech models pass over screams and laughs.

    Raises:
        ValueError: for an infinite window, a hop beyond it or under 0.01 s, or a gate that is not positive.
    """

    seconds: float = 1.0
    hop: float = 0.25
    gate_db: float = 40.0

    def __post_init__(self) -> None:
        if math.isinf(self.seconds):
            raise UserError(f"expected --window in seconds, found {self.seconds:g}; 1 is usual.")
        if not SMALLEST_HOP <= self.hop <= self.seconds:
            raise UserError(
                f"expected --hop of at least {SMALLEST_HOP:g} and at most --window {self.seconds:g} s, found "
                f"{self.hop:g}; 0.25 is usual."
            )
        if not self.gate_db > 0:  # NaN is not
            raise UserError(f"expected --gate_db above 0, found {self.gate_db:g}; 40 is usual.")


@dataclass(frozen=True)
class Segment:
    """A stretch of a recording in which one label leads: start and end in seconds, and its mean probability."""

    start: float
    end: float
    label: str
    score: float


@dataclass(frozen=True)
class Timeline:
    """Probabilities over time.

    Args:
        recording: what was heard.
        labels: of the checkpoint.
        hop: seconds of a step; the last is as long as what is left.
        probabilities: `(steps, labels)`, NaN where the recording is silent.
        levels: of each step in dB of full scale, `(steps,)`.
    """

    recording: Recording
    labels: Sequence[str]
    hop: float
    probabilities: np.ndarray
    levels: np.ndarray


def make_timeline(scorer: Scorer, recording: Recording, windows: Windows) -> Timeline:
    """Score a recording; it is read twice, first to tell what is silence.

    A step's probabilities are the mean over all windows that it lies in, which smooths them over a window's length.

    Raises:
        BadAudio: for sound that does not decode.
        ValueError: for a recording that is silence throughout, and where the model can score no window.
    """
    rate = scorer.sampling_rate
    levels = np.concatenate(list(_levels(recording, rate, windows.hop)))
    loud = levels >= max(np.percentile(levels, 99) - windows.gate_db, QUIETEST_DB)
    if not loud.any():
        raise UserError(
            f"{recording.path.name}: expected sound, found silence from start to end; check the recording."
        )
    sums, counts = np.zeros((len(levels), len(scorer.labels))), np.zeros(len(levels))
    for step, scores in _score(scorer, recording, windows, loud):
        covered = slice(step, step + math.ceil(windows.seconds / windows.hop))
        sums[covered] += scores
        counts[covered] += 1
    with np.errstate(invalid="ignore"):
        probabilities = np.where(loud[:, None], sums / counts[:, None], np.nan)
    return Timeline(recording, scorer.labels, windows.hop, probabilities, levels)


def _levels(recording: Recording, rate: int, hop: float) -> Iterator[np.ndarray]:
    """Levels of steps in dB of full scale, block by block."""
    for samples in _pieces(recording, rate, hop, hop):
        power = np.array([np.mean(np.square(piece, dtype=np.float64)) for _, piece in samples])
        yield 10 * np.log10(np.maximum(power, 1e-20))


def _score(
    scorer: Scorer, recording: Recording, windows: Windows, loud: np.ndarray
) -> Iterator[tuple[int, np.ndarray]]:
    """Steps at which windows start, and their probabilities `(labels,)`; windows of silence are passed over.

    So are the last ones where they are too short for the model. Where all are, the reason is raised.
    """
    length = math.ceil(windows.seconds / windows.hop)
    refusal, scored = None, False
    for pieces in _pieces(recording, scorer.sampling_rate, windows.hop, windows.seconds):
        heard = [(step, samples) for step, samples in pieces if loud[step : step + length].any()]
        about = {"path": recording.path.name, "sampling_rate": scorer.sampling_rate}
        clips = [about | {"array": samples} for _, samples in heard]
        for (step, _), scores in zip(heard, scorer.score(clips), strict=True):
            if isinstance(scores, ValueError):
                refusal = scores
                continue
            scored = True
            yield step, scores
    if refusal and not scored:
        raise refusal


def _pieces(recording: Recording, rate: int, hop: float, seconds: float) -> Iterator[list[tuple[int, np.ndarray]]]:
    """Number and samples of each piece that starts at a step, block by block; the last ones end with the recording."""
    length, step, first = round(seconds * rate), 0, 0  # `first`: place of the buffer in the recording
    buffer = np.zeros(0, np.float32)
    for block in recording.blocks(rate):
        buffer = np.concatenate((buffer, block))
        pieces = []
        while (start := round(step * hop * rate) - first) + length <= len(buffer):
            pieces.append((step, buffer[start : start + length]))
            step += 1
        yield pieces
        buffer, first = buffer[start:], first + start
    rest = []
    while (start := round(step * hop * rate) - first) < len(buffer):
        rest.append((step, buffer[start:]))
        step += 1
    yield rest


def find_segments(timeline: Timeline, min_seconds: float = 0.0, min_score: float = 0.0) -> list[Segment]:
    """Stretches of steps with the same likeliest label, in their order; silence ends them.

    Args:
        timeline: of a recording.
        min_seconds: shorter ones are left out.
        min_score: those of a lower mean probability are left out.
    """
    best = np.where(np.isnan(timeline.probabilities[:, 0]), -1, np.nan_to_num(timeline.probabilities).argmax(axis=1))
    edges = [0, *(np.flatnonzero(np.diff(best)) + 1), len(best)]
    found = []
    for first, last in pairwise(edges):
        if (label := best[first]) >= 0:
            end = min(float(last) * timeline.hop, timeline.recording.seconds)
            score = float(timeline.probabilities[first:last, label].mean())
            found.append(Segment(float(first) * timeline.hop, end, timeline.labels[label], score))
    return [one for one in found if one.end - one.start >= min_seconds and one.score >= min_score]


def run_timeline(
    checkpoint: str,
    recording: Path,
    outputs: list[Path],
    window: float,
    hop: float,
    gate_db: float,
    min_seconds: float,
    min_score: float,
    revision: str | None,
    device: str | None,
    bf16: bool,
) -> int:
    """Say what is heard when; the exit code."""
    for file in outputs:
        if file.suffix not in (*FORMATS, ".png"):
            known = ", ".join((*FORMATS, ".png"))
            raise UserError(f"expected --output with a suffix of {known}, found {file.name}; give one of them.")
        check_new(file)
    windows = Windows(window, hop, gate_db)
    heard = Recording.open(recording)
    timeline = make_timeline(Scorer(checkpoint, revision, device, bf16=bf16), heard, windows)
    segments = find_segments(timeline, min_seconds, min_score)
    for file in outputs:
        with whole_file(file) as part:
            if file.suffix == ".png":
                timeline_figure(timeline).savefig(part)
            else:
                write_timeline(part, timeline, segments)
        print(file)
    if not outputs:
        for one in segments:
            print(f"{one.start:9.2f} {one.end:9.2f}  {printable(one.label)}  {one.score:.0%}")
    return 0


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

COLUMNS = 2000  # of the spectrogram at most, whatever the recording's length
BANDS = 64
FFT = 1024
RANGE_DB = 80
# those of Okabe and Ito; grey is for all labels beyond
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION, YELLOW)
OTHERS = "#999999"


def timeline_figure(timeline: Timeline, width: float = 12) -> "Figure":
    """A timeline; where there are more than seven labels, those that are heard least are one.

    Args:
        timeline: of a recording, which is read once more.
        width: in inches.
    """
    figure = blank_figure(width, max(5, width / 2))
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1, 1))
    seconds, name = timeline.recording.seconds, literal(timeline.recording.path.name)
    rate = 16000
    image = spectrogram(timeline.recording, rate)
    above.imshow(
        image, origin="lower", aspect="auto", extent=(0, seconds, 0, rate / 2000), cmap="magma",
        vmin=image.max() - RANGE_DB, vmax=image.max(),
    )  # fmt: skip
    above.set(ylabel="frequency (kHz)", title=f"{name}: what is heard when")
    starts = np.arange(len(timeline.levels) + 1) * timeline.hop
    starts[-1] = seconds
    heights = np.nan_to_num(timeline.probabilities)
    heights = np.repeat(heights, 2, axis=0)  # steps, not slopes
    edges = np.repeat(starts, 2)[1:-1]
    order = np.argsort(-heights.sum(axis=0))
    shown, rest = order[: len(COLOURS)], order[len(COLOURS) :]
    stacked, names = [*heights[:, shown].T], [literal(timeline.labels[place]) for place in shown]
    if len(rest):
        stacked, names = [*stacked, heights[:, rest].sum(axis=1)], [*names, f"{len(rest)} others"]
    below.stackplot(edges, stacked, labels=names, colors=(*COLOURS[: len(shown)], OTHERS), linewidth=0)
    below.set(xlabel="time (s)", ylabel="probability", ylim=(0, 1), xlim=(0, seconds))
    handles, names = below.get_legend_handles_labels()
    column = 0.9 + 0.09 * max(map(len, names))  # inches of the longest name with its colour and the gap beside it
    columns = min(len(names), max(1, int(width / column)))
    figure.legend(handles, names, loc="outside lower center", ncols=columns, frameon=False)
    return figure


def spectrogram(recording: Recording, rate: int) -> np.ndarray:
    """Power in dB, `(bands, columns)`: bands of equal width up to half the rate; of each column its loudest frames."""
    hop = max(1, round(recording.seconds * rate / COLUMNS / 4))
    window = np.hanning(FFT).astype(np.float32)
    columns, rest, margin = [], np.zeros(FFT // 2, np.float32), np.zeros(FFT // 2, np.float32)
    for block in chain(recording.blocks(rate), [margin]):
        rest = np.concatenate((rest, block))
        if len(rest) < FFT:
            continue
        frames = np.lib.stride_tricks.sliding_window_view(rest, FFT)[::hop]
        power = np.abs(np.fft.rfft(frames * window, axis=1))[:, : FFT // 2] ** 2
        columns.append(power.reshape(len(power), BANDS, -1).mean(axis=2))
        rest = rest[len(frames) * hop :]
    power = np.concatenate(columns)
    edges = np.linspace(0, len(power), min(COLUMNS, len(power)) + 1).astype(int)[:-1]
    return 10 * np.log10(np.maximum(np.maximum.reduceat(power, edges), 1e-12)).T
