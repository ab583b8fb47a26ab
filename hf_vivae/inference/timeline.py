"""Labels of a long recording over time: windows, their scores, and segments."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ..annotations.segment import Segment
from ..audio import BadAudio, inspect, open_sound, resample
from ..validation import UserError
from .scorer import ClipScores, FeaturedClip, Scorer
from .shared_frames import shares_frames, window_features

BLOCK_SECONDS = 60  # a whole number, so that blocks begin at whole samples of both rates
CONTEXT_SECONDS = 1  # of sound on both sides of a block, for the resampling filter


@dataclass(frozen=True)
class Recording:
    """An audio file of any length, read in blocks.

    Args:
        path: of the file.
        seconds: its length.
        sampling_rate: in Hz.
        channels: their number.
    """

    path: Path
    seconds: float
    sampling_rate: int
    channels: int = 1

    @classmethod
    def open(cls, path: Path) -> "Recording":
        """Read the header of a file; it is decoded only where the header does not give the length.

        Raises:
            BadAudio: as `audio.inspect`.
        """
        info = inspect(path)
        return cls(path, info.duration, info.sampling_rate, info.channels)

    def blocks(self, rate: int) -> Iterator[np.ndarray]:
        """Yield the whole recording at a rate in Hz, mono float32 `(samples,)`, `BLOCK_SECONDS` at a time.

        Raises:
            BadAudio: for sound that does not decode to its end, is shorter or longer than its header states, or has
                NaN or infinite samples, after the blocks before the damage.
        """
        size, context = BLOCK_SECONDS * self.sampling_rate, CONTEXT_SECONDS * self.sampling_rate
        buffer, before, read = np.zeros(0, np.float32), 0, 0  # `before`: samples of the buffer before the block
        with open_sound(self.path) as sound:
            while True:
                samples = sound.read(before + size + context - len(buffer))
                finite = np.isfinite(samples)
                if not finite.all():
                    second = (read + finite.argmin()) / self.sampling_rate
                    found = f"NaN or infinite samples from second {second:.2f} on"
                    raise BadAudio(self.path.name, "finite samples", found)
                buffer, read = np.concatenate((buffer, samples)), read + len(samples)
                block = min(size, len(buffer) - before)
                if block <= 0:
                    return
                resampled = resample(buffer, self.sampling_rate, rate)
                first = rate * CONTEXT_SECONDS if before else 0
                yield resampled[first : first + rate * BLOCK_SECONDS] if block == size else resampled[first:]
                buffer, before = buffer[before + block - context if block == size else len(buffer) :], context


SMALLEST_HOP = 0.01  # seconds from one frame of the models' features to the next
QUIETEST_DB = -90.0  # of full scale: lower levels are silence in any recording


@dataclass(frozen=True)
class Windows:
    """Windows of a recording.

    Args:
        seconds: length of a window; the last ones of a recording are shorter.
        hop: seconds from the start of one to that of the next, which is the timeline's step.
        gate_db: steps that are quieter than the recording's loud ones (the 99th percentile) by more than this are
            silence, as are those below -90 dB of full scale. Energy replaces a voice activity detector, whose speech
            models miss screams and laughs.

    Raises:
        UserError: for a window that is not positive or infinite, a hop longer than it or below 0.01 s, or a gate that
            is not positive.
    """

    seconds: float = 1.0
    hop: float = 0.25
    gate_db: float = 40.0

    def __post_init__(self) -> None:
        if not 0 < self.seconds < math.inf:  # also for NaN
            raise UserError(f"expected --window in seconds, found {self.seconds:g}; 1 is usual.")
        if not SMALLEST_HOP <= self.hop <= self.seconds:
            raise UserError(
                f"expected --hop of at least {SMALLEST_HOP:g} and at most --window {self.seconds:g} s, found "
                f"{self.hop:g}; 0.25 is usual."
            )
        if not self.gate_db > 0:  # also for NaN
            raise UserError(f"expected --gate_db above 0, found {self.gate_db:g}; 40 is usual.")

    def check_length(self, longest: float) -> None:
        """Refuse windows of which a model would take the beginning alone.

        Args:
            longest: seconds that the model takes, see `Scorer.longest_input`.

        Raises:
            UserError: for longer windows.
        """
        if self.seconds > longest:
            raise UserError(
                f"expected --window of at most {longest:g} s, of which the model takes no more, found "
                f"{self.seconds:g}; give a shorter one."
            )

    @property
    def steps(self) -> int:
        """Return the number of steps that a window contains, the last one in part."""
        return math.ceil(self.seconds / self.hop)


@dataclass(frozen=True)
class Timeline:
    """Probabilities over time.

    Args:
        recording: that was scored.
        labels: of the checkpoint.
        hop: seconds of a step; the last one ends with the recording.
        probabilities: `(steps, labels)`, NaN where the recording is silent.
        levels: of each step in dB of full scale, `(steps,)`.
        checkpoint: folder or Hub id, as it was given.
        unknown: index of the label of rejected windows; None for a checkpoint that rejects none.
    """

    recording: Recording
    labels: Sequence[str]
    hop: float
    probabilities: np.ndarray
    levels: np.ndarray
    checkpoint: str | None = None
    unknown: int | None = None


class SilentRecording(UserError):
    """A recording that is silent from start to end; `timeline` has no probabilities."""

    def __init__(self, timeline: Timeline) -> None:
        super().__init__(
            f"{timeline.recording.path.name}: expected sound, found silence from start to end; check the recording."
        )
        self.timeline = timeline


def make_timeline(scorer: Scorer, recording: Recording, windows: Windows) -> Timeline:
    """Score a recording, which is read twice, first to find silence.

    A step's probabilities are the mean over all windows that contain it, which smooths them over a window's length.
    Windows that share frames of a spectrogram begin at the nearest of these: for the paper's models, up to 0.7 ms from
    the start of their step.

    Raises:
        BadAudio: for sound that does not decode.
        SilentRecording: for a recording of silence.
        UserError: where the model can score no window.
    """
    levels, loud = measure_levels(scorer, recording, windows)
    sums, counts = np.zeros((len(levels), len(scorer.labels))), np.zeros(len(levels))
    for step, scores in score_windows(scorer, recording, windows, loud):
        sums[step : step + windows.steps] += scores.probabilities
        counts[step : step + windows.steps] += 1
    with np.errstate(invalid="ignore"):
        probabilities = np.where(loud[:, None], sums / counts[:, None], np.nan)
    return Timeline(recording, scorer.labels, windows.hop, probabilities, levels, scorer.name, scorer.unknown)


def measure_levels(scorer: Scorer, recording: Recording, windows: Windows) -> tuple[np.ndarray, np.ndarray]:
    """Return the level of each step in dB of full scale, and whether it is louder than silence, both `(steps,)`.

    Args:
        scorer: a checkpoint, at whose rate it is read.
        recording: is read once.
        windows: their hop and gate.

    Raises:
        BadAudio: for sound that does not decode.
        SilentRecording: for a recording of silence.
    """
    pieces = _pieces(recording, scorer.sampling_rate, windows.hop, windows.hop)
    steps = (samples[part] for samples, parts in pieces for _, part in parts)
    power = np.array([np.mean(np.square(samples, dtype=np.float64)) for samples in steps])
    levels = 10 * np.log10(np.maximum(power, 1e-20))
    loud = audible_steps(levels, windows.gate_db)
    if not loud.any():
        silence = np.full((len(levels), len(scorer.labels)), np.nan)
        raise SilentRecording(
            Timeline(recording, scorer.labels, windows.hop, silence, levels, scorer.name, scorer.unknown)
        )
    return levels, loud


def score_windows(
    scorer: Scorer, recording: Recording, windows: Windows, loud: np.ndarray
) -> Iterator[tuple[int, ClipScores]]:
    """Yield step and scores of each window that has a loud step; the last ones may be too short for the model.

    Args:
        scorer: a checkpoint.
        recording: is read once.
        windows: of the recording.
        loud: whether each step is louder than silence, `(steps,)`, see `measure_levels`.

    Raises:
        BadAudio: for sound that does not decode.
        UserError: where the model can score no window.
    """
    rate, extractor = scorer.sampling_rate, scorer.extractor
    failure, scored = None, False
    shared = shares_frames(extractor, round(windows.seconds * rate))

    def audible_windows() -> Iterator[list[tuple[int, dict[str, Any] | FeaturedClip]]]:
        for samples, parts in _pieces(
            recording, rate, windows.hop, windows.seconds, extractor.hop_length if shared else 1
        ):
            parts = {step: part for step, part in parts if loud[step : step + windows.steps].any()}
            fields = {"path": recording.path.name, "sampling_rate": rate}
            clips = {step: fields | {"array": samples[part]} for step, part in parts.items()}
            if shared:
                # those at the end of the recording may be shorter, and are padded by themselves
                starts = {
                    step: part.start for step, part in parts.items() if part.stop - part.start >= extractor.num_samples
                }
                features = window_features(extractor, samples, list(starts.values()), scorer.map)
                clips |= {
                    step: FeaturedClip(clips[step], of_step) for step, of_step in zip(starts, features, strict=True)
                }
            yield list(clips.items())

    for step, scores in chain.from_iterable(scorer.score_chunks(audible_windows())):
        if isinstance(scores, ValueError):  # such as of the last windows, where they are too short
            failure = scores
            continue
        scored = True
        yield step, scores
    if failure and not scored:
        raise failure


def audible_steps(levels: np.ndarray, gate_db: float) -> np.ndarray:
    """Return which steps are not silence, `(steps,)`.

    Args:
        levels: of each step in dB of full scale, `(steps,)`.
        gate_db: see `Windows`.
    """
    return levels >= max(np.percentile(levels, 99) - gate_db, QUIETEST_DB)


def _pieces(
    recording: Recording, rate: int, hop: float, seconds: float, multiple: int = 1
) -> Iterator[tuple[np.ndarray, list[tuple[int, slice]]]]:
    """Yield samples of a recording block by block, with step and place of each piece of some seconds in them.

    The last pieces end with the recording. Each begins at a multiple of `multiple` samples, the nearest to its step.
    """
    length, step, first = round(seconds * rate), 0, 0  # `first`: position of the buffer in the recording
    buffer = np.zeros(0, np.float32)
    for block in recording.blocks(rate):
        buffer = np.concatenate((buffer, block))
        pieces = []
        while (start := round(step * hop * rate / multiple) * multiple - first) + length <= len(buffer):
            pieces.append((step, slice(start, start + length)))
            step += 1
        yield buffer, pieces
        buffer, first = buffer[start:], first + start
    pieces = []
    while (start := round(step * hop * rate / multiple) * multiple - first) < len(buffer):
        pieces.append((step, slice(start, len(buffer))))
        step += 1
    yield buffer, pieces


def find_segments(timeline: Timeline, min_seconds: float = 0.0, min_score: float = 0.0) -> list[Segment]:
    """Return the segments of steps with the same likeliest label, in order.

    Silence and steps that are most likely `unknown` end a segment, and make none.

    Args:
        timeline: of a recording.
        min_seconds: shorter segments are left out.
        min_score: segments of a lower mean probability are left out.
    """
    best = np.where(np.isnan(timeline.probabilities[:, 0]), -1, np.nan_to_num(timeline.probabilities).argmax(axis=1))
    edges = [0, *(np.flatnonzero(np.diff(best)) + 1), len(best)]
    segments = []
    for first, last in pairwise(edges):
        if (label := best[first]) >= 0 and label != timeline.unknown:
            end = min(float(last) * timeline.hop, timeline.recording.seconds)
            score = float(timeline.probabilities[first:last, label].mean())
            segment = Segment(float(first) * timeline.hop, end, timeline.labels[label], score)
            segments.append(segment)
    return keep_segments(segments, min_seconds, min_score)


def keep_segments(segments: Sequence[Segment], min_seconds: float, min_score: float) -> list[Segment]:
    """Return the segments of at least this length and mean probability; see `find_segments`."""
    return [
        segment for segment in segments if segment.end - segment.start >= min_seconds and segment.score >= min_score
    ]
