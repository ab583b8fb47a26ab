"""Two systems on the same clips: McNemar's test, paired differences, and what is refused."""

import math
import re

import numpy as np
import pytest
from fake_predictions import chosen, random_predictions, said
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar

from hf_vivae.evaluation.bootstrap import Estimate
from hf_vivae.evaluation.comparison import adjusted_p_values, compare, mcnemar_p_value

NAMES = ["a", "b", "c"]
SYSTEMS = ("vit-32-30", "mlp")


def refuses(sentence: str):
    return pytest.raises(ValueError, match=f"^{re.escape(sentence)}$")


# --- McNemar


@pytest.mark.parametrize(
    ("only_first", "only_second", "p_value"),
    [
        (0, 0, 1.0),
        (1, 8, 20 / 512),  # twice the chance of 0 or 1 heads in 9 tosses
        (5, 0, 2 / 32),
        (12, 12, 1.0),
        (30, 10, math.erfc(19 / math.sqrt(40) / math.sqrt(2))),  # (|30 - 10| - 1) ** 2 / 40, one degree of freedom
    ],
)
def test_p_values_worked_out_by_hand(only_first, only_second, p_value):
    assert mcnemar_p_value(only_first, only_second) == pytest.approx(p_value)


def test_the_exact_test_ends_at_25_discordant_clips():
    assert mcnemar_p_value(6, 18) == pytest.approx(stats.binomtest(6, 24, 0.5).pvalue)
    assert mcnemar_p_value(6, 19) == pytest.approx(stats.chi2.sf(12**2 / 25, 1))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**16), st.floats(0, 4))
def test_p_value_and_counts_are_those_of_statsmodels(seed, lean):
    first, second = random_predictions(seed), random_predictions(seed + 1, lean=lean)
    right = [run.predicted == run.labels for run in (first, second)]
    table = [[np.sum(right[0] & right[1]), np.sum(right[0] & ~right[1])]]
    table += [[np.sum(~right[0] & right[1]), np.sum(~right[0] & ~right[1])]]
    mixed = chosen(second, np.random.default_rng(seed).permutation(len(second)))
    found = compare([first], [mixed], SYSTEMS, NAMES, resamples=5)
    assert (found.only_first, found.only_second) == (table[0][1], table[1][0])
    exact = found.only_first + found.only_second < 25
    assert found.p_value == pytest.approx(mcnemar(np.array(table), exact=exact).pvalue)


# --- paired differences


def test_differences_are_the_first_minus_the_second_over_seeds():
    labels = [0, 0, 0, 1, 1, 2]
    first = [said(labels, [0, 0, 0, 1, 1, 2]), said(labels, [0, 0, 0, 1, 1, 0])]
    second = [said(labels, [0, 0, 0, 0, 0, 2]), said(labels, [0, 0, 0, 0, 0, 2])]
    found = compare(first, second, SYSTEMS, NAMES, resamples=50)
    assert found.accuracy.value == pytest.approx((6 + 5) / 12 - 4 / 6)
    assert found.uar.value == pytest.approx((1 + 2 / 3) / 2 - 2 / 3)
    assert (found.clips, found.only_first, found.only_second, found.p_value) == (6, None, None, None)


def test_a_system_does_not_differ_from_itself():
    run = random_predictions(1)
    found = compare([run], [chosen(run, np.arange(len(run))[::-1])], SYSTEMS, NAMES, resamples=100)
    same = Estimate(0, (0, 0), (0, 0))
    assert (found.accuracy, found.uar, found.only_first, found.p_value) == (same, same, 0, 1)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**16))
def test_the_order_of_the_systems_turns_signs_only(seed):
    first, second = ([random_predictions(seed + number) for number in numbers] for numbers in ((0, 1), (2, 3)))
    forth = compare(first, second, SYSTEMS, NAMES, resamples=60, seed=seed)
    back = compare(second, first, SYSTEMS[::-1], NAMES, resamples=60, seed=seed)
    for one, other in ((forth.accuracy, back.accuracy), (forth.uar, back.uar)):
        assert one.value == pytest.approx(-other.value)
        assert one.clips == pytest.approx([-bound for bound in reversed(other.clips)])
        assert one.speakers == pytest.approx([-bound for bound in reversed(other.speakers)])


def test_bounds_of_the_difference_are_those_of_paired_clips():
    """Right in the first only are 40 of 400 clips, in the second only 20: variance (60 - 20 ** 2 / 400) / 400 ** 2."""
    labels = np.zeros(400)
    first = said(labels, np.repeat([0, 0, 1, 1], [200, 40, 20, 140]))
    second = said(labels, np.repeat([0, 1, 0, 1], [200, 40, 20, 140]))
    accuracy = compare([first], [second], SYSTEMS, NAMES, resamples=4000).accuracy
    half = 1.96 * math.sqrt(60 - 20**2 / 400) / 400
    assert accuracy.clips == pytest.approx((0.05 - half, 0.05 + half), abs=0.004)


def test_seeds_may_have_tested_different_clips_if_both_systems_did():
    """A protocol that draws another split for each seed."""
    parts = [np.arange(40), np.arange(20, 60)]
    systems = [[chosen(random_predictions(seed + place), parts[place]) for place in (0, 1)] for seed in (1, 5)]
    assert compare(*systems, SYSTEMS, NAMES, resamples=10).clips == 60


# --- refusals


def test_other_clips_are_counted_and_named():
    run = random_predictions(1, clips=30)
    with refuses(
        "expected the same clips in vit-32-30 and mlp, found 5 clips (first: c0000.wav, c0001.wav, c0002.wav) only in "
        "vit-32-30 and 1 clip (first: c0029.wav) only in mlp: compare runs of one protocol, seed and corpus"
    ):
        compare([chosen(run, np.arange(29))], [chosen(run, np.arange(5, 30))], SYSTEMS, NAMES)


def test_a_part_of_the_clips_is_refused_too():
    run = random_predictions(1, clips=30)
    with refuses(
        "expected the same clips in seed 2 of vit-32-30 and seed 2 of mlp, found 0 clips only in seed 2 of vit-32-30 "
        "and 2 clips (first: c0028.wav, c0029.wav) only in seed 2 of mlp: compare runs of one protocol, seed and "
        "corpus"
    ):
        compare([run, chosen(run, np.arange(28))], [run, run], SYSTEMS, NAMES)


def test_other_labels_are_refused():
    first, second = said([0, 1, 2], [0, 1, 2]), said([0, 2, 1], [0, 1, 2])
    with refuses(
        "expected the same labels in vit-32-30 and mlp, found different ones for 2 clips (first: c0001.wav, "
        "c0002.wav): compare runs of one task and corpus"
    ):
        compare([first], [second], SYSTEMS, NAMES)


def test_unpaired_seeds_are_refused():
    run = random_predictions(1)
    with refuses("expected as many seeds of vit-32-30 as of mlp, found 3 and 1: compare the seeds that both have"):
        compare([run] * 3, [run], SYSTEMS, NAMES)


# --- many comparisons


def test_holm_by_hand():
    # Sorted: 0.01 three times, 0.03 twice, 0.04 once, and none below the one before.
    assert adjusted_p_values([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert adjusted_p_values([0.6, 0.9]) == pytest.approx([1, 1])
    assert adjusted_p_values([0.2]) == pytest.approx([0.2])
    assert adjusted_p_values([]) == []
