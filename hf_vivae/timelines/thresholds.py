"""Thresholds of a timeline that agree best with annotated recordings: `hf-vivae timeline --fit`."""

import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
from tqdm import tqdm
from transformers import PreTrainedConfig

from ..annotations.segment import Segment
from ..checkpoints.resolve import is_folder
from ..checkpoints.timeline_settings import (
    CLOSED,
    TimelineSettings,
    check_thresholds,
    fitted_recordings,
    store_timeline_settings,
)
from ..files import check_place
from ..inference.scorer import Scorer
from ..inference.shards import ProcessShard
from ..inference.timeline import (
    Recording,
    SilentRecording,
    Timeline,
    Windows,
    audible_steps,
    find_segments,
    keep_segments,
    make_timeline,
)
from ..validation import UserError
from .agreement import Counts, count_events
from .recordings import find_recordings
from .references import Reference

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
    trials = [TimelineSettings(*values) for values in product(*(grid[name] for name in GRID))]
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


def run_fit(
    checkpoint: str,
    inputs: Sequence[str],
    reference: Reference,
    *,
    window: float | None = None,
    hop: float | None = None,
    gate_db: float | None = None,
    min_seconds: float | None = None,
    min_score: float | None = None,
    revision: str | None = None,
    device: str | None = None,
    bf16: bool = False,
) -> int:
    """Fit the thresholds of a checkpoint on recordings with a reference, store and print them; return the exit code.

    A threshold that is given as a flag is kept.
    """
    check_thresholds(gate_db=gate_db, min_score=min_score, min_seconds=min_seconds)
    folder = Path(checkpoint)
    if not is_folder(checkpoint):
        raise UserError(
            f"expected the folder of a checkpoint with --fit, which writes into its config.json, found {checkpoint}; "
            "download it with `hf download REPOSITORY --local-dir FOLDER`, and give the folder."
        )
    if ProcessShard.of_this_process().processes > 1:
        raise UserError("expected one process with --fit, found several; start the command without a launcher.")
    flags = {"gate_db": gate_db, "min_score": min_score, "min_seconds": min_seconds}
    grid = GRID | {name: (value,) for name, value in flags.items() if value is not None}
    windows = Windows(
        TimelineSettings.window if window is None else window, TimelineSettings.hop if hop is None else hop,
        max(grid["gate_db"]),
    )  # fmt: skip
    paths = [recording.path for recording in find_recordings(inputs)]
    check_place(folder / "config.json", remedy=CLOSED)
    scorer = Scorer(checkpoint, revision, device, bf16=bf16)
    # models that take less than the default keep it
    windows.check_length(max(scorer.longest_input, Windows.seconds))
    references = reference.read(paths, scorer.labels[: scorer.unknown])  # no segment is `unknown`, the last
    timelines = []
    for path in tqdm(paths, unit="recording", disable=None):
        try:
            timelines.append(make_timeline(scorer, Recording.open(path), windows))
        except SilentRecording as silence:
            timelines.append(silence.timeline)
    fit = fit_thresholds(timelines, [references[path] for path in paths], reference.collar, grid)
    seconds = sum(timeline.recording.seconds for timeline in timelines)
    settings = replace(fit.settings, window=windows.seconds, hop=windows.hop)
    store_timeline_settings(
        folder,
        settings,
        {
            "recordings": len(paths),
            "seconds": round(seconds, 3),
            "event_f1": fit.fitted.f1,
            "event_f1_left_out": fit.left_out and fit.left_out.f1,
            "collar": reference.collar,
            "sha256": [_sha256(path) for path in paths],
        },
    )
    for name, value in asdict(settings).items():
        print(f"--{name} {value:g}")
    print(f"event F1 {fit.fitted.f1:.3f} of these {len(paths)} recordings ({seconds:.1f} s), for which it is highest")
    if fit.left_out:
        print(f"event F1 {fit.left_out.f1 or 0:.3f} of each recording with thresholds fitted on the others")
    print(
        f"{folder / 'config.json'} has them now; scores of clips stay as they are, but output folders that were begun "
        "with the checkpoint before are not continued."
    )
    return 0


def warn_of_fit(config: PreTrainedConfig, recordings: Sequence[Path]) -> None:
    """Print how many of the recordings that were scored are among those of the fit, if there are any."""
    fitted = fitted_recordings(config)
    if fitted and (same := sum(_sha256(path) in fitted for path in recordings)):
        print(
            f"The thresholds of the checkpoint were fitted on {same} of these {len(recordings)} recordings: scores of "
            "others will be lower.",
            file=sys.stderr,
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _gate(timeline: Timeline, gate_db: float) -> Timeline:
    """Return a timeline with the silence of another gate, which is not above that with which it was made."""
    audible = audible_steps(timeline.levels, gate_db)
    return replace(timeline, probabilities=np.where(audible[:, None], timeline.probabilities, np.nan))
