"""Scores of systems, their intervals and spreads, and what a majority guess scores."""

import math
import statistics
import warnings

import numpy as np
import pytest
from fake_predictions import chosen, random_predictions, said
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.dummy import DummyClassifier
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from hf_vivae.evaluation import bootstrap as resampling
from hf_vivae.evaluation.scores import (
    majority_scores,
    mean_and_sd,
    per_fold_scores,
    point_scores,
    score_estimates,
    wilson_interval,
)
from hf_vivae.metrics import ClassificationScores

pytestmark = pytest.mark.filterwarnings("error")

NAMES = ["a", "b", "c"]


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


def test_no_interval_without_clips():
    with pytest.raises(ValueError, match=r"^n must be"):
        wilson_interval(0, 0)


def test_scores_are_those_of_training_to_the_last_bit():
    metric = ClassificationScores([*"abcdef"])
    for seed in range(20):
        run = random_predictions(seed, labels=6)
        expected = metric.compute(predictions=run.logits, references=run.labels)
        scores = point_scores(run.labels, run.logits, metric.label_names)
        assert {name: scores[name] for name in ("accuracy", "uar", "macro_f1", "macro_auc")} == {
            name: expected[name] for name in ("accuracy", "uar", "macro_f1", "macro_auc")
        }


def test_mean_and_sd():
    assert mean_and_sd([0.2, 0.4, 0.6]) == pytest.approx((0.4, 0.2))
    assert mean_and_sd([0.2]) == (0.2, None)
    assert mean_and_sd([]) == (None, None)


# --- one set of clips


@settings(max_examples=40, deadline=None)
@given(arrays(int, 10, elements=st.integers(0, 2)), arrays(float, (10, 3), elements=st.floats(-30, 30, width=32)))
def test_scores_are_those_that_training_writes(labels, logits):
    written = ClassificationScores(NAMES).compute(predictions=logits, references=labels)
    expected = {name: written[name] for name in ("accuracy", "uar", "macro_f1", "macro_auc")}
    expected |= {f"auc {name}": area for name, area in written["auc"].items()}
    found = point_scores(labels, logits, NAMES)
    assert found == pytest.approx({name: None if math.isnan(score) else score for name, score in expected.items()})
    assert list(found) == list(expected)


# --- systems


def test_the_value_is_the_pooled_score_and_over_seeds_its_mean():
    runs = [random_predictions(seed) for seed in (1, 2, 3)]
    of_seeds = [point_scores(run.labels, run.logits, NAMES) for run in runs]
    found = score_estimates(runs, NAMES, resamples=20)
    assert set(found) == set(of_seeds[0])
    for name, estimate in found.items():
        assert estimate.value == pytest.approx(statistics.fmean(scores[name] for scores in of_seeds))


@pytest.mark.parametrize("over", ["clips", "speakers"])
def test_bounds_are_percentiles_of_scores_of_drawn_copies(over):
    """Two seeds that tested different clips: one draw of all clips is scored by scikit-learn, seed by seed."""
    everything = [random_predictions(seed, clips=80) for seed in (1, 2)]
    runs = [chosen(everything[0], np.arange(55)), chosen(everything[1], np.arange(30, 80))]
    files = everything[0].files
    drawn = files if over == "clips" else everything[0].speakers
    weights = []
    resampling.bootstrap_bounds(lambda counts: weights.append(counts) or {}, drawn, resamples=60, seed=4)
    (counts,) = weights
    scored = []
    for column in counts.T.astype(int):
        copies = [np.repeat(np.arange(len(run)), column[np.searchsorted(files, run.files)]) for run in runs]
        of_seeds = [
            point_scores(run.labels[rows], run.logits[rows], NAMES) for run, rows in zip(runs, copies, strict=True)
        ]
        scored.append({name: statistics.fmean(scores[name] for scores in of_seeds) for name in of_seeds[0]})
    level = resampling.expanded_level(len(np.unique(drawn)))
    for name, estimate in score_estimates(runs, NAMES, resamples=60, seed=4).items():
        expected = np.quantile([scores[name] for scores in scored], [level, 1 - level])
        assert getattr(estimate, over) == pytest.approx(tuple(expected)), name


def test_a_resample_in_which_a_seed_has_no_clip_is_left_out():
    """The second seed tested 4 clips of 20, of which 1 % of the draws hold none."""
    run = said([0, 1] * 10, [0, 0] * 10)
    bounds = score_estimates([run, chosen(run, np.arange(4))], NAMES[:2])["accuracy"].clips
    assert 0 < bounds[0] < 0.5 < bounds[1] < 1


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**16))
def test_estimates_do_not_depend_on_the_order_of_rows(seed):
    run = random_predictions(3)
    mixed = chosen(run, np.random.default_rng(seed).permutation(len(run)))
    found, expected = (score_estimates([rows], NAMES, resamples=50) for rows in (mixed, run))
    assert {name: (each.clips, each.speakers) for name, each in found.items()} == {
        name: (each.clips, each.speakers) for name, each in expected.items()
    }


def test_another_seed_draws_other_clips():
    run = random_predictions(3)
    first, again, other = (score_estimates([run], NAMES, resamples=50, seed=seed) for seed in (1, 1, 2))
    assert first == again != other


def test_bounds_enclose_the_value_and_those_over_alike_speakers_are_wider():
    """Each of 12 speakers is always right or always wrong: 20 clips of one have no more information than one."""
    right = np.repeat(np.arange(12) % 2, 20)
    run = said(np.zeros(240), 1 - right, speakers=np.repeat([f"S{index:02d}" for index in range(12)], 20))
    accuracy = score_estimates([run], NAMES)["accuracy"]
    assert accuracy.speakers[0] < accuracy.clips[0] < accuracy.value == 0.5 < accuracy.clips[1] < accuracy.speakers[1]
    widths = [high - low for low, high in (accuracy.speakers, accuracy.clips)]
    assert widths[0] / widths[1] == pytest.approx(math.sqrt(20), rel=0.2)


@pytest.mark.parametrize("speakers", [[""] * 24, ["", *"ABCDEFGH"] * 3, ["A", "B", "C", "D"] * 6])
def test_no_bounds_over_speakers_who_are_unknown_or_fewer_than_five(speakers):
    labels = np.arange(len(speakers)) % 3
    run = said(labels, labels // 2, speakers=speakers)
    accuracy = score_estimates([run], NAMES, resamples=50)["accuracy"]
    assert accuracy.clips is not None
    assert accuracy.speakers is None


def test_a_score_that_a_seed_leaves_undefined_is_none():
    both = [random_predictions(1), random_predictions(2)]
    lacking = chosen(both[1], np.flatnonzero(both[1].labels != 1))
    found = score_estimates([both[0], lacking], NAMES, resamples=50)
    assert (found["auc b"].value, found["auc b"].clips, found["auc b"].speakers) == (None, None, None)
    assert found["auc a"].value is not None
    assert found["uar"].clips is not None


# --- folds


def test_a_fold_that_lacks_a_label_is_named_and_does_not_raise_the_headline():
    # Fold 2 has no clip of c, the label that nothing gets right.
    folds = ["1", "1", "1", "1", "2", "2"]
    run = said([0, 1, 2, 2, 0, 1], [0, 1, 0, 1, 0, 1], folds=folds)
    found = per_fold_scores(run, NAMES)
    assert [(fold["clips"], fold["absent"]) for fold in found.values()] == [(4, ()), (2, ("c",))]
    assert [fold["uar"] for fold in found.values()] == pytest.approx([2 / 3, 1])
    assert found["2"]["auc c"] is None
    assert score_estimates([run], NAMES)["uar"].value == pytest.approx(2 / 3)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**16))
def test_accuracy_of_folds_weighted_by_clips_is_the_pooled_one(seed):
    run = random_predictions(seed)
    folds = per_fold_scores(run, NAMES).values()
    pooled = sum(fold["accuracy"] * fold["clips"] for fold in folds) / len(run)
    assert pooled == pytest.approx(point_scores(run.labels, run.logits, NAMES)["accuracy"])


# --- majority and chance


@settings(max_examples=30, deadline=None)
@given(arrays(int, 20, elements=st.integers(0, 2)), arrays(int, 12, elements=st.integers(0, 2)))
def test_majority_is_scikit_learns_dummy_of_each_fold(train_labels, test_labels):
    train = said(train_labels, train_labels, folds=["1", "2"] * 10)
    test = said(test_labels, test_labels, folds=["1", "2"] * 6)
    predicted = np.empty(12, dtype=int)
    for fold in "12":
        rows = train.folds == fold
        dummy = DummyClassifier(strategy="most_frequent").fit(np.zeros((10, 1)), train_labels[rows])
        predicted[test.folds == fold] = dummy.predict(np.zeros((6, 1)))
    found = majority_scores(train, test, NAMES)
    assert found["accuracy"] == pytest.approx(accuracy_score(test_labels, predicted))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a label that is only predicted
        assert found["uar"] == pytest.approx(balanced_accuracy_score(test_labels, predicted))


def test_majority_worked_out_by_hand():
    train = said([0, 0, 1, 2, 1, 2], [0] * 6, folds=["1", "1", "1", "2", "2", "2"])
    test = said([0, 1, 2, 2], [1] * 4, folds=["1", "1", "2", "2"])
    # Says a, a in fold 1 and c, c in fold 2: recalls 1, 0, 1, and F1 of 2/3, 0, 1.
    assert majority_scores(train, test, NAMES) == pytest.approx(
        {"accuracy": 3 / 4, "uar": 2 / 3, "macro_f1": 5 / 9, "macro_auc": 0.5, "chance": 1 / 3}
    )


def test_of_equally_frequent_labels_the_first_is_predicted():
    train = said([2, 1, 1, 2], [0] * 4)
    assert majority_scores(train, said([1], [0]), NAMES)["accuracy"] == 1
