"""Agreement of a timeline with a reference annotation: F1 of seconds and of events, and error rates.

The F1 are defined as in Mesaros, Heittola and Virtanen, Metrics for Polyphonic Sound Event Detection, Applied Sciences
6(6), 2016, and its program sed_eval, whose last release (2021) is too old to depend on. The error rates are those of
pyannote.metrics (Bredin, Interspeech 2017).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from ..annotations.segment import Segment
from ..files import OUTPUT_REMEDY, atomic_file
from ..reporting.tables import Row, Table, make_table
from ..validation import printable, readable

RESOLUTION = 1.0  # seconds of a cell of the segment-based F1, as in sed_eval
END_SHARE = 0.5  # of a reference segment's length, by which its end may differ, as in sed_eval
PRECISION = 1e-6  # seconds; smaller differences are rounding of formats, as in pyannote.core


@dataclass(frozen=True)
class Counts:
    """Numbers of cells or events.

    Args:
        matched: in both.
        reference: in the reference.
        predicted: in the timeline.
    """

    matched: int = 0
    reference: int = 0
    predicted: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.matched + other.matched, self.reference + other.reference, self.predicted + other.predicted)

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and recall; None where both the reference and the timeline are empty."""
        return 2 * self.matched / total if (total := self.reference + self.predicted) else None

    @property
    def precision(self) -> float | None:
        """Share of the predicted ones that are matched; None without any."""
        return self.matched / self.predicted if self.predicted else None

    @property
    def recall(self) -> float | None:
        """Share of those of the reference that are matched; None without any."""
        return self.matched / self.reference if self.reference else None


@dataclass(frozen=True)
class Agreement:
    """Agreement of the timeline of one recording with its reference.

    Args:
        name: of the recording.
        seconds: its length.
        cells: counts of the segment-based F1 by label.
        events: counts of the event-based F1 by label.
        errors: seconds by component of pyannote's identification error rate: "total" (of the reference), "confusion",
            "missed detection" and "false alarm".
        detection: seconds by component of pyannote's detection error rate: "total", "miss" and "false alarm".
    """

    name: str
    seconds: float
    cells: Mapping[str, Counts]
    events: Mapping[str, Counts]
    errors: Mapping[str, float]
    detection: Mapping[str, float]


def measure_agreement(
    name: str, seconds: float, reference: Sequence[Segment], predicted: Sequence[Segment], collar: float
) -> Agreement:
    """Compare the segments of one recording with those of its reference.

    Args:
        name: of the recording.
        seconds: its length.
        reference: segments that are right; they may overlap.
        predicted: segments of the timeline.
        collar: in seconds; see `count_events`, and the argument of the same name of pyannote's
            `IdentificationErrorRate`: a stretch of this length around each start and end of the reference has no part
            in the error rates.
    """
    from pyannote.core import Annotation, Timeline
    from pyannote.core import Segment as Interval
    from pyannote.metrics.detection import DetectionErrorRate
    from pyannote.metrics.identification import IdentificationErrorRate

    annotations = []
    for segments in (reference, predicted):
        annotations.append(annotation := Annotation())
        for track, segment in enumerate(segments):
            annotation[Interval(segment.start, segment.end), track] = segment.label
    whole = Timeline([Interval(0, seconds)])
    return Agreement(
        name,
        seconds,
        count_cells(reference, predicted),
        count_events(reference, predicted, collar),
        IdentificationErrorRate(collar=collar).compute_components(*annotations, uem=whole),
        DetectionErrorRate(collar=collar).compute_components(*annotations, uem=whole),
    )


def count_cells(reference: Sequence[Segment], predicted: Sequence[Segment]) -> dict[str, Counts]:
    """Return the counts of the segment-based F1: a label is in each second that one of its segments touches."""
    cells = [_cells(segments) for segments in (reference, predicted)]
    return {
        label: Counts(*(len(numbers) for numbers in (true & labelled, true, labelled)))
        for label in sorted(cells[0].keys() | cells[1].keys())
        for true, labelled in [[of.get(label, set()) for of in cells]]
    }


def _cells(segments: Sequence[Segment]) -> dict[str, set[int]]:
    cells: dict[str, set[int]] = {}
    for segment in segments:
        first = math.floor((segment.start + PRECISION) / RESOLUTION)
        end = math.ceil((segment.end - PRECISION) / RESOLUTION)
        cells.setdefault(segment.label, set()).update(range(first, end))
    return cells


def count_events(reference: Sequence[Segment], predicted: Sequence[Segment], collar: float) -> dict[str, Counts]:
    """Return the counts of the event-based F1: pairs of segments with the same label and nearly the same times.

    Each segment is in one pair at most, and there are as many pairs as possible.

    Args:
        reference: segments that are right.
        predicted: segments of the timeline.
        collar: seconds by which the starts of a pair may differ; their ends may by this or half of the length of the
            reference's segment, whichever is longer.
    """
    counts = {}
    for label in sorted({segment.label for segment in (*reference, *predicted)}):
        true, labelled = (
            np.array([(segment.start, segment.end) for segment in segments if segment.label == label]).reshape(-1, 2)
            for segments in (reference, predicted)
        )
        starts, ends = np.moveaxis(np.abs(true[:, None] - labelled[None]), -1, 0)
        longest = np.maximum(collar, END_SHARE * (true[:, 1] - true[:, 0]))[:, None]
        near = (starts <= collar + PRECISION) & (ends <= longest + PRECISION)
        matched = np.count_nonzero(maximum_bipartite_matching(csr_array(near)) >= 0) if near.any() else 0
        counts[label] = Counts(int(matched), len(true), len(labelled))
    return counts


def report_agreement(
    timelines: Mapping[Path, tuple[float, Sequence[Segment]]],
    references: Mapping[Path, Sequence[Segment]],
    collar: float,
    folder: Path | None = None,
) -> None:
    """Print the tables of `agreement_tables`, and write them as CSV into a folder, if there is one.

    Args:
        timelines: seconds and segments by recording.
        references: segments of at least the same recordings.
        collar: in seconds, see `measure_agreement`.
        folder: for `agreement.csv` and `agreement_labels.csv`.

    Raises:
        DiskError: where the disk is full.
    """
    agreements = [
        measure_agreement(readable(str(path)), seconds, references[path], segments, collar)
        for path, (seconds, segments) in timelines.items()
    ]
    for table in agreement_tables(agreements, collar):
        print(f"\n{table.to_markdown()}", end="")
        if folder:
            with atomic_file(folder / f"{table.name}.csv", OUTPUT_REMEDY) as part:
                part.write_text(table.to_csv(), encoding="utf-8")


def agreement_tables(agreements: Sequence[Agreement], collar: float) -> tuple[Table, Table]:
    """Return a table with a row for each recording, and one with a row for each label; the last rows are of all.

    Args:
        agreements: of the recordings.
        collar: with which they were measured, in seconds.
    """
    recordings = [_row_of_recordings(agreement.name, [agreement]) for agreement in agreements]
    labels = sorted({label for agreement in agreements for label in agreement.events})
    return (
        make_table(
            "agreement",
            f"Agreement with the reference. Segment F1: cells of {RESOLUTION:g} s. Event F1: starts within {collar:g} "
            f"s, ends within {collar:g} s or {END_SHARE:.0%} of the reference's length. Error rates: shares of the "
            f"reference's seconds, without stretches of {collar:g} s around its starts and ends; confusion, missed "
            "and false alarm add up to the error rate. Empty cells: nothing to score.",
            {"recording": None, "seconds": ".1f", "reference": "d", "predicted": "d"} | dict.fromkeys(RATES, ".3f"),
            [*recordings, _row_of_recordings("all", agreements)],
        ),
        make_table(
            "agreement_labels",
            "Agreement with the reference by label, of all recordings.",
            {"label": None, "reference": "d", "predicted": "d"} | dict.fromkeys(F1_OF_LABELS, ".3f"),
            [_row_of_labels(label, [label], agreements) for label in labels]
            + [_row_of_labels("all", labels, agreements)],
        ),
    )


RATES = ("segment F1", "event F1", "error rate", "confusion", "missed", "false alarm", "detection error rate")
F1_OF_LABELS = ("segment F1", "event F1", "event precision", "event recall")


def _row_of_recordings(name: str, agreements: Sequence[Agreement]) -> Row:
    cells, events = (
        sum((counts for agreement in agreements for counts in getattr(agreement, kind).values()), Counts())
        for kind in ("cells", "events")
    )
    errors, detection = (
        {key: sum(getattr(agreement, kind)[key] for agreement in agreements) for key in getattr(agreements[0], kind)}
        for kind in ("errors", "detection")
    )
    parts = (errors["confusion"], errors["missed detection"], errors["false alarm"])
    # pyannote's rate without a reference is 0 or 1; a share of nothing does not exist
    rates = [part / errors["total"] if errors["total"] else None for part in (sum(parts), *parts)]
    missed = detection["miss"] + detection["false alarm"]
    rates.append(missed / detection["total"] if detection["total"] else None)
    return {
        "recording": printable(name),
        "seconds": sum(agreement.seconds for agreement in agreements),
        "reference": events.reference,
        "predicted": events.predicted,
        **dict(zip(RATES, (cells.f1, events.f1, *rates), strict=True)),
    }


def _row_of_labels(name: str, labels: Sequence[str], agreements: Sequence[Agreement]) -> Row:
    cells, events = (
        sum((getattr(agreement, kind).get(label, Counts()) for agreement in agreements for label in labels), Counts())
        for kind in ("cells", "events")
    )
    scores = (cells.f1, events.f1, events.precision, events.recall)
    return {
        "label": printable(name),
        "reference": events.reference,
        "predicted": events.predicted,
        **dict(zip(F1_OF_LABELS, scores, strict=True)),
    }
