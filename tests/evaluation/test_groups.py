"""Scores by speaker, intensity and duration, and each group against the rest."""

from itertools import pairwise

import numpy as np
import pytest
from fake_predictions import chosen, random_predictions, said
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import accuracy_score

from hf_vivae.evaluation.runs import Predictions
from hf_vivae.evaluation.scores import by_duration, by_intensity, by_speaker, wilson_interval

NAMES = ["a", "b", "c"]


def described(run: Predictions, **columns) -> Predictions:
    return Predictions(**(vars(run) | {name: np.asarray(column) for name, column in columns.items()}))


def test_groups_worked_out_by_hand():
    run = said(
        [0, 0, 1, 0, 0, 1, 1, 2],
        [0, 1, 1, 1, 1, 1, 1, 0],
        intensities=["peak"] * 3 + ["low"] * 5,
        speakers=list("ABABABAB"),
    )
    low, peak = by_intensity([run], NAMES)
    assert (low.name, low.clips, low.accuracy, low.absent) == ("low", 5, 2 / 5, ())
    assert (peak.name, peak.clips, peak.accuracy, peak.absent) == ("peak", 3, 2 / 3, ("c",))
    assert (low.uar, peak.uar) == pytest.approx(((0 + 1 + 0) / 3, (1 / 2 + 1) / 2))
    assert (low.low, low.high) == wilson_interval(2, 5)
    assert low.against_rest.value == pytest.approx(2 / 5 - 2 / 3)
    assert peak.against_rest.value == pytest.approx(2 / 3 - 2 / 5)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**16))
def test_groups_of_seeds_are_pooled(seed):
    runs = [random_predictions(seed + number, clips=40) for number in range(3)]
    found = by_speaker(runs, NAMES)
    speakers = runs[0].speakers
    assert [group.name for group in found] == sorted(set(speakers.tolist()))
    for group in found:
        inside = [chosen(run, speakers == group.name) for run in runs]
        outside = [chosen(run, speakers != group.name) for run in runs]
        scores = [[accuracy_score(run.labels, run.predicted) for run in part] for part in (inside, outside)]
        assert group.accuracy == pytest.approx(np.mean(scores[0]))
        assert group.against_rest.value == pytest.approx(np.mean(scores[0]) - np.mean(scores[1]))
        assert group.uar == pytest.approx(np.mean([_recall(run) for run in inside]))
        assert group.clips == len(inside[0])
        assert (group.low, group.high) == wilson_interval(round(group.accuracy * group.clips), group.clips)


def _recall(run: Predictions) -> float:
    labels = np.unique(run.labels)
    return np.mean([np.mean(run.predicted[run.labels == label] == label) for label in labels])


def test_seeds_that_agree_do_not_narrow_the_interval():
    run = random_predictions(1)
    one, three = by_speaker([run], NAMES), by_speaker([run] * 3, NAMES)
    assert one == three


def test_vivaes_intensities_come_by_strength_and_others_by_name():
    run = random_predictions(1)
    for words, order in (
        (["peak", "moderate", "low", "strong"], ["low", "moderate", "strong", "peak"]),
        (["peak", "low"], ["low", "peak"]),
        (["soft", "peak", "loud", "low"], ["loud", "low", "peak", "soft"]),
    ):
        labelled = described(run, intensities=np.resize(words, len(run)))
        assert [group.name for group in by_intensity([labelled], NAMES)] == order


@pytest.mark.parametrize("by", [by_speaker, by_intensity, by_duration])
@pytest.mark.parametrize("known", [0, 1])
def test_there_are_no_groups_where_a_clip_has_none(by, known):
    run = random_predictions(1)
    words = np.where(np.arange(len(run)) < known, "low", "")
    durations = np.where(np.arange(len(run)) < known, 1.0, np.nan)
    assert by([described(run, speakers=words, intensities=words, durations=durations)], NAMES) == []


def test_a_single_group_has_no_rest():
    run = random_predictions(1)
    (group,) = by_intensity([described(run, intensities=["low"] * len(run))], NAMES)
    assert (group.against_rest.value, group.against_rest.clips, group.against_rest.speakers) == (None, None, None)
    assert group.clips == len(run)


# --- durations


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0.1, 3), min_size=1, max_size=50), st.integers(1, 6))
def test_durations_part_the_clips_in_order(durations, parts):
    run = described(random_predictions(1, clips=len(durations)), durations=durations)
    found = by_duration([run], NAMES, parts)
    rounded = np.round(durations, 2)
    ranges = [tuple(map(float, group.name.removesuffix(" s").split(" to "))) for group in found]
    assert len(found) <= parts
    assert [group.clips for group in found] == [np.sum((rounded >= low) & (rounded <= high)) for low, high in ranges]
    assert sum(group.clips for group in found) == len(durations)
    assert all(upper < lower for (_, upper), (lower, _) in pairwise(ranges))


def test_durations_are_parted_in_quarters_with_their_range_as_name():
    run = described(random_predictions(1, clips=40), durations=np.linspace(0.401, 2.001, 40)[::-1])
    found = by_duration([run] * 2, NAMES)
    assert [group.clips for group in found] == [10, 10, 10, 10]
    assert found[0].name == "0.40 to 0.77 s"
    assert found[-1].name == "1.63 to 2.00 s"


def test_a_clip_that_several_seeds_tested_counts_once_for_the_quarters():
    run = described(random_predictions(1, clips=40), durations=np.linspace(0.4, 2, 40))
    found = by_duration([run, chosen(run, np.arange(8))], NAMES)
    assert [group.clips for group in found] == [10, 10, 10, 10]


def test_equal_durations_stay_together():
    run = described(random_predictions(1, clips=40), durations=np.repeat([0.5, 1.0, 1.5], [30, 5, 5]))
    assert [(group.name, group.clips) for group in by_duration([run], NAMES)] == [
        ("0.50 to 0.50 s", 30),
        ("1.00 to 1.50 s", 10),
    ]


# --- against the rest


def test_a_hard_group_is_below_the_rest_over_clips_and_speakers():
    """Peak is right in 30 % of 300 clips, the rest in 60 % of 900; of the clips alone the difference is normal."""
    right = np.concatenate([np.arange(300) % 10 < 3, np.arange(900) % 10 < 6])
    run = said(
        np.zeros(1200),
        1 - right,
        intensities=["peak"] * 300 + ["low"] * 900,
        speakers=np.char.mod("S%02d", np.arange(1200) // 7 % 11),
    )
    low, peak = (group.against_rest for group in by_intensity([run], NAMES))
    half = norm.ppf(0.975) * np.sqrt(0.3 * 0.7 / 300 + 0.6 * 0.4 / 900)
    assert peak.value == pytest.approx(-0.3)
    assert peak.clips == pytest.approx((-0.3 - half, -0.3 + half), abs=0.01)
    assert peak.speakers[1] < 0 < low.speakers[0]
    assert low.clips == pytest.approx((-peak.clips[1], -peak.clips[0]))


def test_a_speaker_has_no_bounds_over_speakers():
    found = by_speaker([random_predictions(1, speakers=11)], NAMES)
    assert all(group.against_rest.speakers is None for group in found)
    assert any(group.against_rest.clips is not None for group in found)
