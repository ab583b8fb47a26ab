"""Bootstrap bounds: draws, weights of scores, and share of bounds that contain the true score."""

from collections.abc import Callable

import numpy as np
import pytest
from fake_predictions import make_predictions, random_predictions
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from sklearn.metrics import roc_auc_score

from hf_vivae.evaluation import bootstrap as resampling
from hf_vivae.evaluation.bootstrap import auc, bootstrap_bounds, expanded_level, weighted_scores
from hf_vivae.evaluation.scores import point_scores

pytestmark = pytest.mark.filterwarnings("error")

NAMES = ["a", "b", "c"]


def share(right: np.ndarray) -> Callable:
    """Accuracy of weighted clips."""
    return lambda weights: {"accuracy": right @ weights / weights.sum(axis=0)}


def watched(weights_seen: list[np.ndarray]) -> Callable:
    def statistic(weights):
        weights_seen.append(weights.copy())
        return {"zero": np.zeros(weights.shape[1])}

    return statistic


# --- scores of weighted clips


@settings(max_examples=60, deadline=None)
@given(
    labels=arrays(int, 12, elements=st.integers(0, 2)),
    logits=arrays(float, (12, 3), elements=st.integers(-2, 2)),
    weights=arrays(int, 12, elements=st.integers(0, 3)),
)
def test_a_weight_counts_as_so_many_copies_of_the_clip(labels, logits, weights):
    assume(weights.sum())
    run = make_predictions(labels, logits)
    copies = np.repeat(np.arange(12), weights)
    found = weighted_scores(run, np.arange(12), 12, NAMES)(weights[:, None].astype(float))
    expected = point_scores(labels[copies], logits[copies], NAMES)
    assert {name: None if np.isnan(score[0]) else score[0] for name, score in found.items()} == pytest.approx(expected)


@settings(max_examples=60, deadline=None)
@given(
    scores=arrays(float, 15, elements=st.integers(0, 4)),
    weights=arrays(float, (15, 3), elements=st.floats(0.01, 10)),
    positives=st.integers(1, 14),
    seed=st.integers(0, 99),
)
def test_weighted_area_is_scikit_learns_ties_included(scores, weights, positives, seed):
    rng = np.random.default_rng(seed)
    positive, places = rng.permutation(15) < positives, rng.permutation(15)
    expected = [roc_auc_score(positive, scores, sample_weight=column[places]) for column in weights.T]
    assert auc(positive, scores, places)(weights) == pytest.approx(expected)


def test_without_any_clip_every_score_is_undefined():
    run = random_predictions(0, clips=6)
    found = weighted_scores(run, np.arange(6), 6, NAMES)(np.zeros((6, 2)))
    assert all(np.isnan(score).all() for score in found.values())


# --- what is drawn


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from("ABCDEFGH"), min_size=8, max_size=40), st.integers(0, 99))
def test_speakers_are_drawn_whole_and_as_many_as_there_are(speakers, seed):
    speakers = np.array(speakers)
    names, first = np.unique(speakers, return_index=True)
    assume(len(names) >= 5)
    seen = []
    bootstrap_bounds(watched(seen), speakers, resamples=20, seed=seed)
    weights = np.concatenate(seen, axis=1)
    of_speakers = weights[first]
    assert weights.shape == (len(speakers), 20)
    assert (weights == of_speakers[np.searchsorted(names, speakers)]).all()
    assert (of_speakers.sum(axis=0) == len(names)).all()
    assert len(np.unique(of_speakers, axis=1).T) > 1, "resamples differ"


def test_number_of_draws_of_a_clip_is_binomially_distributed():
    seen = []
    bootstrap_bounds(watched(seen), np.arange(50), resamples=4000)
    counts = np.bincount(np.concatenate(seen, axis=1).astype(int).ravel(), minlength=10)[:5]
    assert counts / 200_000 == pytest.approx(stats.binom.pmf(range(5), 50, 1 / 50), abs=0.005)


def test_many_resamples_come_in_batches_of_bounded_size(monkeypatch):
    monkeypatch.setattr(resampling, "NUMBERS", 700)
    seen = []
    bounds = bootstrap_bounds(watched(seen), np.arange(100), resamples=50)
    assert [weights.shape for weights in seen] == [(100, 7)] * 7 + [(100, 1)]
    assert bounds == {"zero": (0, 0)}


# --- bounds


def test_percentiles_of_few_clusters_are_further_out():
    # Student's quantile for 10 degrees of freedom, 2.2281, times the root of 11 / 10
    assert expanded_level(11) == pytest.approx(stats.norm.cdf(-2.2281389 * 1.0488088))
    assert expanded_level(11) == pytest.approx(0.00972, abs=1e-5)
    assert expanded_level(10**7) == pytest.approx(0.025, abs=1e-6)


def test_bounds_over_clips_are_those_of_the_binomial_distribution():
    right = np.arange(1085) < 434
    low, high = bootstrap_bounds(share(right), np.arange(1085), resamples=20_000)["accuracy"]
    level = expanded_level(1085)
    expected = stats.binom.ppf([level, 1 - level], 1085, 0.4) / 1085
    assert (low, high) == pytest.approx(tuple(expected), abs=1.5 / 1085)


def test_bounds_over_speakers_are_scipys_of_their_means():
    accuracies = np.array([0.2, 0.3, 0.35, 0.4, 0.45, 0.5, 0.9])
    right = np.concatenate([np.arange(20) < round(20 * accuracy) for accuracy in accuracies])
    speakers = np.repeat([f"S{index}" for index in range(7)], 20)
    level = expanded_level(7)
    expected = stats.bootstrap(
        (accuracies,), np.mean, n_resamples=20_000, confidence_level=1 - 2 * level, method="percentile", rng=1
    ).confidence_interval
    bounds = bootstrap_bounds(share(right), speakers, resamples=20_000)["accuracy"]
    assert bounds == pytest.approx(tuple(expected), abs=0.012)


def test_the_same_seed_gives_the_same_bounds_and_another_others():
    right = np.arange(40) < 25
    bounds = [bootstrap_bounds(share(right), np.arange(40), resamples=100, seed=seed) for seed in (1, 1, 2, 3)]
    assert bounds[0] == bounds[1]
    assert len({str(found) for found in bounds}) > 1


def test_fewer_than_five_clusters_have_no_bounds():
    right = np.arange(20) < 12
    assert bootstrap_bounds(share(right), np.arange(20) % 4) == {}
    assert set(bootstrap_bounds(share(right), np.arange(20) % 5)) == {"accuracy"}


@pytest.mark.parametrize(("clips", "bounded"), [(2, False), (8, True)])
def test_a_score_that_many_resamples_leave_undefined_has_no_bounds(clips, bounded):
    """A resample lacks a label that 2 clips have in 13.5 % of the draws, and one that 8 have in 0.03 %."""
    positive = np.arange(200) < clips
    area = auc(positive, np.arange(200) % 7, np.arange(200))
    bounds = bootstrap_bounds(lambda weights: {"auc": area(weights)}, np.arange(200), resamples=1000)
    assert (bounds["auc"] is not None) == bounded


# --- coverage


REPEATS = 2000
# clips of VIVAE's speakers, a quarter of them
CLIPS = np.array([93, 101, 101, 108, 111, 111, 103, 108, 108, 87, 54]) // 4


def held(alike: float, over: str) -> float:
    """Return how often the bounds of accuracy contain the true one, 40 %, in simulated tests with 11 speakers.

    Each speaker has a chance of their own to be right, by a beta distribution; `alike` is the sum of its parameters.
    """
    rng = np.random.default_rng(5)
    speakers = np.repeat(np.arange(11), CLIPS)
    drawn = speakers if over == "speakers" else np.arange(len(speakers))
    times = 0
    for repeat in range(REPEATS):
        right = rng.random(len(speakers)) < rng.beta(0.4 * alike, 0.6 * alike, 11)[speakers]
        low, high = bootstrap_bounds(share(right), drawn, resamples=400, seed=repeat)["accuracy"]
        times += low <= 0.4 <= high
    return times / REPEATS


@pytest.mark.parametrize(("alike", "over"), [(10, "speakers"), (1e9, "speakers"), (1e9, "clips")])
def test_bounds_contain_the_true_score_at_their_level(alike, over):
    """Over speakers whether these differ (a standard deviation of 15 points) or not; over clips where they do not.

    The tolerance is 1.5 points for the bootstrap of so few, and two binomial standard deviations for 2000 tests.
    """
    assert held(alike, over) == pytest.approx(0.95, abs=0.015 + 2 * 0.005)


def test_plain_percentiles_of_11_speakers_hold_too_little(monkeypatch):
    monkeypatch.setattr(resampling, "expanded_level", lambda clusters: 0.025)
    assert held(10, "speakers") < 0.915


def test_bounds_over_clips_hold_far_too_little_where_speakers_differ():
    assert held(10, "clips") < 0.75
