"""Thresholds that are fitted on annotated recordings: the best of the grid, and nothing else changes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from checkpoints_of import write_checkpoint

from hf_vivae.annotations.segment import Segment
from hf_vivae.checkpoints.timeline_settings import TimelineSettings
from hf_vivae.inference.scorer import Scorer
from hf_vivae.inference.timeline import Recording, Timeline, Windows, find_segments, make_timeline
from hf_vivae.timelines.agreement import Counts, count_events
from hf_vivae.timelines.thresholds import GRID, _gate, fit_thresholds

HOP = 0.25


def timeline_of(runs: list[tuple[float, str, float, float]]) -> Timeline:
    """Return the timeline of runs of seconds, label, probability and level in dB."""
    rows, levels = [], []
    for seconds, label, score, level in runs:
        steps = round(seconds / HOP)
        rows += steps * [[score if label == name else (1 - score) / 2 for name in "abc"]]
        levels += steps * [level]
    return Timeline(Recording(Path("x.wav"), len(rows) * HOP, 16000), "abc", HOP, np.array(rows), np.array(levels))


# right: those of a probability of 0.8, louder than -35 dB and of at least 0.5 s
RIGHT = [
    timeline_of([(1, "a", 0.8, -10), (1, "b", 0.45, -10), (1, "c", 0.8, -30), (2, "b", 0.8, -45), (1, "a", 0.8, -10)]),
    timeline_of([(0.25, "a", 0.8, -10), (1, "b", 0.8, -10), (1, "a", 0.8, -46), (0.5, "c", 0.42, -10)]),
]
REFERENCES = [
    [Segment(0, 1, "a"), Segment(2, 3, "c"), Segment(5, 6, "a")],
    [Segment(0.25, 1.25, "b")],
]


def test_the_best_thresholds_of_the_grid_are_found():
    fit = fit_thresholds(RIGHT, REFERENCES, 0.1)
    assert fit.settings == TimelineSettings(gate_db=30.0, min_score=0.5, min_seconds=0.5)
    assert fit.fitted == Counts(4, 4, 4)
    loud = [np.where(one.levels[:, None] >= -40, one.probabilities, np.nan) for one in RIGHT]
    audible = [replace(one, probabilities=probabilities) for one, probabilities in zip(RIGHT, loud, strict=True)]
    segments = [find_segments(one, fit.settings.min_seconds, fit.settings.min_score) for one in audible]
    assert [[(one.start, one.end, one.label) for one in of] for of in segments] == [
        [(one.start, one.end, one.label) for one in of] for of in REFERENCES
    ]


def test_the_estimate_for_other_recordings_leaves_each_out():
    """Each recording is scored with the thresholds of the other one."""
    fit = fit_thresholds(RIGHT, REFERENCES, 0.1)
    alone = [fit_thresholds([RIGHT[i]], [REFERENCES[i]], 0.1) for i in (0, 1)]
    assert alone[0].left_out is None
    counts = [
        fit_thresholds(
            [RIGHT[i]], [REFERENCES[i]], 0.1,
            {name: (getattr(alone[1 - i].settings, name),) for name in GRID},
        ).fitted
        for i in (0, 1)
    ]  # fmt: skip
    assert fit.left_out == counts[0] + counts[1]
    assert fit.left_out.f1 < fit.fitted.f1


def test_probabilities_do_not_depend_on_the_gate(tmp_path):
    """So the recordings are scored once, for the highest gate of the grid."""
    sound = np.random.default_rng(0).normal(0, 0.1, 4 * 16000) * np.repeat([1, 0.003, 1, 0.02, 1, 0.003, 0.1, 1], 8000)
    soundfile.write(tmp_path / "x.wav", sound, 16000, subtype="FLOAT")
    recording = Recording.open(tmp_path / "x.wav")
    scorer = Scorer(str(write_checkpoint(tmp_path / "checkpoint", "mlp")))
    highest = make_timeline(scorer, recording, Windows(gate_db=max(GRID["gate_db"])))
    for gate in GRID["gate_db"]:
        expected = make_timeline(scorer, recording, Windows(gate_db=gate))
        gated = _gate(highest, gate)
        np.testing.assert_allclose(gated.probabilities, expected.probabilities, atol=1e-6)
        times = [[(one.start, one.end, one.label) for one in find_segments(of)] for of in (gated, expected)]
        assert times[0] == times[1]
    assert np.isnan(_gate(highest, 20.0).probabilities).any()


def test_of_equally_good_thresholds_the_defaults_are_taken():
    timeline = timeline_of([(1, "a", 0.9, -10), (1, "b", 0.9, -10)])
    fit = fit_thresholds([timeline], [find_segments(timeline)], 0.2)
    assert fit.settings == TimelineSettings()
    assert {name: values[0] for name, values in GRID.items()}.items() <= vars(TimelineSettings()).items()


def test_nothing_is_fitted_where_nothing_agrees():
    with pytest.raises(ValueError, match=r"^expected thresholds with which a segment agrees .* --collar of 0\.2 s;"):
        fit_thresholds(RIGHT, [[Segment(0, 9, "b")], []], 0.2)
    assert count_events([Segment(0, 9, "b")], find_segments(RIGHT[0]), 0.2)["b"].matched == 0
