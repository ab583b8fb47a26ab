"""Thresholds of a timeline that agree best with annotated recordings: `hf-vivae timeline --fit`."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product

import numpy as np

from ..annotations.segment import Segment
from ..checkpoints.timeline_settings import TimelineSettings
from ..inference.timeline import Timeline, audible_steps, find_segments, keep_segments
from ..validation import UserError
from .agreement import Counts, count_events

# values that are tried, the default first: of equally good ones the first is taken
GRID: dict[str, tuple[float, ...]] = {
    "gate_db": (40.0, 30.0, 50.0, 20.0, 60.0),
    "min_score": (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    "min_seconds": (0.0, 0.25, 0.5, 0.75, 1.0),
}


@dataclass(frozen=True)
class Fit:
    """Thresholds with the highest event-based F1.

    Args:
        settings: the thresholds.
        fitted: counts of events with `settings`, of all recordings; its F1 is too high an estimate for others.
        left_out: of each recording with the thresholds that the others gave; None for a single recording.
    """

    settings: TimelineSettings
    fitted: Counts
    left_out: Counts | None


def fit_thresholds(
    timelines: Sequence[Timeline],
    references: Sequence[Sequence[Segment]],
    collar: float,
    grid: Mapping[str, Sequence[float]] = GRID,
) -> Fit:
    """Return the thresholds of a grid with the highest event-based F1 of all recordings together.

    Args:
        timelines: made with the highest gate of the grid, or a higher one: probabilities of a step do not depend on
            the gate, since each window with an audible step is scored.
        references: segments of each recording.
        collar: see `agreement.count_events`.
        grid: values of each field of `TimelineSettings`.

    Raises:
        UserError: where no thresholds of the grid match a segment.
    """
    trials = [TimelineSettings(*values) for values in product(*(grid[name] for name in asdict(TimelineSettings())))]
    counts = np.zeros((len(trials), len(timelines), 3), int)  # matched, reference, predicted
    for column, (timeline, reference) in enumerate(zip(timelines, references, strict=True)):
        segments = {gate: find_segments(_gate(timeline, gate)) for gate in grid["gate_db"]}
        for row, trial in enumerate(trials):
            kept = keep_segments(segments[trial.gate_db], trial.min_seconds, trial.min_score)
            events = sum(count_events(reference, kept, collar).values(), Counts())
            counts[row, column] = events.matched, events.reference, events.predicted

    def best(of_trials: np.ndarray) -> int:
        """Return the first row with the highest F1 of counts `(trials, 3)`."""
        return int(np.argmax(2 * of_trials[:, 0] / np.maximum(of_trials[:, 1:].sum(axis=1), 1)))

    sums = counts.sum(axis=1)
    if not sums[:, 0].any():
        raise UserError(
            "expected thresholds with which a segment agrees with the reference, found none for a --collar of "
            f"{collar:g} s; check labels and times of the reference, or give a longer collar."
        )
    chosen = best(sums)
    others = [best(sums - counts[:, column]) for column in range(len(timelines))]
    return Fit(
        trials[chosen],
        Counts(*map(int, sums[chosen])),
        Counts(*map(int, counts[others, range(len(timelines))].sum(axis=0))) if len(timelines) > 1 else None,
    )


def _gate(timeline: Timeline, gate_db: float) -> Timeline:
    """Return a timeline with the silence of another gate, which is not above that with which it was made."""
    audible = audible_steps(timeline.levels, gate_db)
    return replace(timeline, probabilities=np.where(audible[:, None], timeline.probabilities, np.nan))
