"""Agreement of timelines with a reference: the numbers of sed_eval and pyannote.metrics, and those made by hand."""

import pytest

from hf_vivae.annotations.segment import Segment
from hf_vivae.timelines.agreement import Counts, agreement_tables, count_cells, count_events, measure_agreement

# Random events, and the numbers of sed_eval 0.2.1 for them:
#   SegmentBasedMetrics(list("abc"), time_resolution=1.0).evaluate(reference, predicted, 60.0)
#   EventBasedMetrics(list("abc"), t_collar=0.2, percentage_of_length=0.5).evaluate(reference, predicted)
REFERENCE = [
    (2.682, 6.679, "a"), (3.532, 6.281, "c"), (8.197, 11.021, "a"), (15.719, 16.029, "b"), (17.872, 21.116, "a"),
    (21.085, 22.778, "a"), (24.017, 24.91, "b"), (30.558, 31.717, "b"), (35.88, 36.895, "a"), (37.218, 37.555, "b"),
    (38.912, 39.017, "a"), (44.275, 47.526, "b"), (46.433, 48.063, "b"), (47.855, 48.842, "b"), (47.971, 48.143, "c"),
    (53.58, 57.181, "b"),
]  # fmt: skip
PREDICTED = [
    (2.789, 5.88, "a"), (8.204, 10.226, "a"), (17.45, 19.118, "a"), (17.695, 21.411, "c"), (23.11, 25.673, "a"),
    (24.102, 25.883, "b"), (30.684, 31.474, "b"), (35.821, 36.971, "a"), (38.889, 39.114, "a"), (44.409, 47.007, "b"),
    (46.578, 47.919, "b"),
]  # fmt: skip
CELLS = {"a": Counts(14, 19, 17), "b": Counts(7, 16, 8), "c": Counts(0, 6, 5)}
CELLS_F1, CELLS_PRECISION, CELLS_RECALL = 0.5915492957746479, 0.7, 0.5121951219512195
EVENTS = {
    0.2: {"a": Counts(4, 6, 6), "b": Counts(3, 8, 4), "c": Counts(0, 2, 1)},
    0.05: {"a": Counts(1, 6, 6), "b": Counts(0, 8, 4), "c": Counts(0, 2, 1)},
}
EVENTS_F1 = {0.2: 0.5185185185185185, 0.05: 0.07407407407407407}


def segments(*rows: tuple[float, float, str]) -> list[Segment]:
    return [Segment(*row) for row in rows]


def test_seconds_are_counted_as_sed_eval_does():
    cells = count_cells(segments(*REFERENCE), segments(*PREDICTED))
    assert cells == CELLS
    total = sum(cells.values(), Counts())
    assert (total.f1, total.precision, total.recall) == pytest.approx((CELLS_F1, CELLS_PRECISION, CELLS_RECALL))


@pytest.mark.parametrize("collar", [0.2, 0.05])
def test_events_are_counted_as_sed_eval_does(collar):
    events = count_events(segments(*REFERENCE), segments(*PREDICTED), collar)
    assert events == EVENTS[collar]
    assert sum(events.values(), Counts()).f1 == pytest.approx(EVENTS_F1[collar])


def test_as_many_events_as_possible_are_paired():
    """The first of the reference has two partners, the second one has only the first of these."""
    reference, predicted = segments((1.0, 2, "a"), (1.3, 2, "a")), segments((1.15, 2, "a"), (0.9, 2, "a"))
    assert count_events(reference, predicted, 0.2) == {"a": Counts(2, 2, 2)}
    assert count_events(reference, predicted[:1], 0.2) == {"a": Counts(1, 2, 1)}


def test_ends_may_differ_by_half_of_the_reference():
    reference = segments((0, 2, "a"))
    matched = [count_events(reference, segments((0, end, "a")), 0.2)["a"].matched for end in (0.9, 1, 3, 3.1)]
    assert matched == [0, 1, 1, 0]
    # of the reference, not of the timeline
    assert count_events(segments((0, 0.2, "a")), segments((0, 2, "a")), 0.2)["a"].matched == 0


def test_rounding_of_times_decides_nothing():
    """In binary numbers 0.8 - 0.6 is above 0.2, and a time of 3.0000000004 s is that of 3 s."""
    assert count_events(segments((0.6, 3, "a")), segments((0.8, 3, "a")), 0.2)["a"].matched == 1
    assert count_cells(segments((0, 3.0000000004, "a")), segments((0.9999999996, 2, "a"))) == {"a": Counts(1, 3, 1)}


def test_error_rates_are_those_of_pyannote():
    """By hand: of 6 s of reference, 1 s is confused and 1 s missed; 2 s are labelled where there is none."""
    reference, predicted = segments((0, 4, "a"), (6, 8, "b")), segments((1, 3, "a"), (3, 6, "b"), (6, 8, "b"))
    agreement = measure_agreement("x.wav", 10.0, reference, predicted, 0.0)
    assert agreement.errors == pytest.approx(
        {"total": 6, "correct": 4, "confusion": 1, "missed detection": 1, "false alarm": 2}
    )
    assert agreement.detection == pytest.approx({"total": 6, "miss": 1, "false alarm": 2})
    # 0.25 s on both sides of 0, 4, 6 and 8 s are left out
    agreement = measure_agreement("x.wav", 10.0, reference, predicted, 0.5)
    assert agreement.errors == pytest.approx(
        {"total": 5, "correct": 3.5, "confusion": 0.75, "missed detection": 0.75, "false alarm": 1.5}
    )


def test_tables_have_sums_over_recordings_and_nothing_for_what_does_not_exist():
    same = segments((0, 4, "a"), (5, 7, "b"))
    agreements = [
        measure_agreement("a\x1b.wav", 10.0, same, same, 0.2),
        measure_agreement("b.wav", 5.0, same[:1], segments((0, 4, "b")), 0.0),
        measure_agreement("c.wav", 5.0, [], [], 0.2),
    ]
    recordings, labels = agreement_tables(agreements, 0.2)
    rows = {row[0]: dict(zip(recordings.columns, row, strict=True)) for row in recordings.rows}
    assert list(rows) == ["a\\x1b.wav", "b.wav", "c.wav", "all"]
    assert [rows["c.wav"][name] for name in ("segment F1", "event F1", "error rate")] == [None, None, None]
    assert [rows["a\\x1b.wav"][name] for name in ("segment F1", "event F1", "error rate")] == [1, 1, 0]
    pooled = rows["all"]
    assert (pooled["seconds"], pooled["reference"], pooled["predicted"]) == (20, 3, 3)
    assert (pooled["event F1"], pooled["segment F1"]) == pytest.approx((2 / 3, 6 / 10))
    # 4 s are confused, of 4 s without a collar and of 6 s that lose half a collar at each of 4 times
    assert pooled["error rate"] == pooled["confusion"] == pytest.approx(4 / (4 + 6 - 4 * 0.1))
    assert pooled["detection error rate"] == 0
    assert [row[0] for row in labels.rows] == ["a", "b", "all"]
    assert labels.rows[1][1:] == pytest.approx((1, 2, 4 / 8, 2 / 3, 1 / 2, 1))
