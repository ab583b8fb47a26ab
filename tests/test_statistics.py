"""Intervals and spreads."""

import math

import pytest

from hf_vivae.evaluation.statistics import mean_and_sd, wilson_interval


def test_interval_is_wilsons():
    z, share, clips = 1.959964, 103 / 217, 217
    middle = (share + z**2 / (2 * clips)) / (1 + z**2 / clips)
    half = z / (1 + z**2 / clips) * math.sqrt(share * (1 - share) / clips + z**2 / (4 * clips**2))
    assert wilson_interval(103, 217) == pytest.approx((middle - half, middle + half), abs=1e-6)


def test_interval_of_the_reports_best_accuracy():
    """47.5 % of 217 clips: about 41 to 54 %."""
    low, high = wilson_interval(103, 217)
    assert (round(low, 3), round(high, 3)) == (0.409, 0.541)


def test_interval_stays_within_0_and_1():
    assert wilson_interval(0, 10)[0] == 0
    assert wilson_interval(10, 10)[1] == 1


def test_a_higher_level_is_wider():
    narrow, wide = wilson_interval(5, 10, level=0.5), wilson_interval(5, 10, level=0.99)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_no_interval_without_clips():
    with pytest.raises(ValueError, match=r"^n must be"):
        wilson_interval(0, 0)


def test_mean_and_sd():
    assert mean_and_sd([0.2, 0.4, 0.6]) == pytest.approx((0.4, 0.2))
    assert mean_and_sd([0.2]) == (0.2, None)
    assert mean_and_sd([]) == (None, None)
