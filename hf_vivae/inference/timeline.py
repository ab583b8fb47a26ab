"""What is heard when in a long recording: overlapping windows scored as clips, averaged, cut into segments."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..validation import UserError
from .recordings import Recording
from .scorer import Scorer

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
