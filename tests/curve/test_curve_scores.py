"""Scores of a curve and their bounds, and its table and figure."""

import numpy as np
import pytest

from hf_vivae.curve.report import Measurement, curve_figure, curve_table
from hf_vivae.curve.scores import score_curve
from hf_vivae.evaluation.runs import Predictions
from hf_vivae.evaluation.scores import score_estimates
from hf_vivae.metrics import label_scores

LABELS = ("a", "b", "c")


def predictions(seed: int, speakers: int = 8, skill: float = 1.0) -> Predictions:
    """Six clips of each speaker, whose labels alternate."""
    count = 6 * speakers
    labels, names = np.arange(count) % 3, np.array([f"S{row // 6}" for row in range(count)])
    logits = np.random.default_rng(seed).normal(size=(count, 3)) + skill * np.eye(3)[labels]
    files = np.array([f"{row:03}" for row in range(count)])
    return Predictions(files, labels, logits, np.array(["1-of-5"] * count), names, names, np.ones(count))


def answers(right: int, speakers: int = 6) -> Predictions:
    """Six clips of each speaker, of which the same number is right for each label and speaker."""
    whole = predictions(0, speakers, 100)
    wrong = (np.arange(len(whole)) % 6) // 3 >= right
    logits = np.where(wrong[:, None], np.roll(whole.logits, 1, axis=1), whole.logits)
    return Predictions(**{**vars(whole), "logits": logits})


def uar(run: Predictions) -> float:
    return label_scores(run.labels, run.predicted)["uar"]


def test_scores_are_means_over_draws_and_gains_their_differences():
    tests = [[predictions(1), predictions(2)], [predictions(3), predictions(4)], [predictions(5)]]
    small, large, whole = score_curve(tests, 3)
    assert small.draws == [uar(run) for run in tests[0]]
    assert small.uar == pytest.approx(np.mean(small.draws))
    assert (small.gain, small.gain_bounds) == (None, None)
    assert large.gain == pytest.approx(large.uar - small.uar)
    assert whole.draws == [uar(tests[2][0])]
    assert whole.gain == pytest.approx(whole.uar - large.uar)
    for score in (large, whole):
        assert score.gain_bounds[0] < score.gain < score.gain_bounds[1]


def test_bounds_of_a_single_draw_are_those_of_an_evaluation_over_speakers():
    first, second = score_curve([[predictions(1)], [predictions(2)]], 3)
    for score, seed in ((first, 1), (second, 2)):
        assert score.bounds == pytest.approx(score_estimates([predictions(seed)], LABELS)["uar"].speakers)


def test_bounds_cover_the_draws_too():
    bad, good = answers(0), answers(1)
    assert (uar(bad), uar(good)) == (0, 0.5)
    (equal,) = score_curve([[good, good]], 3)
    assert equal.bounds == (0.5, 0.5), "all test speakers are alike"
    (different,) = score_curve([[bad, good]], 3)
    assert (different.uar, different.bounds) == (0.25, (0, 0.5))
    both = score_curve([[bad, good], [bad, good]], 3)
    assert both[1].gain_bounds == (0, 0), "gains are of the same draws"


def test_a_resample_of_five_draws_is_the_mean_of_four_so_that_its_variance_is_not_too_small():
    (score,) = score_curve([[answers(right) for right in (0, 0, 1, 1, 2)]], 3)
    assert score.bounds == (0, 0.875), "a mean of five is a multiple of 0.1"


def test_fewer_than_five_test_speakers_have_no_bounds():
    scores = score_curve([[predictions(1, 4), predictions(2, 4)], [predictions(3, 4)]], 3)
    assert [(score.bounds, score.gain_bounds) for score in scores] == [(None, None)] * 2


@pytest.mark.parametrize("speakers", [8, 4])
def test_table_and_figure_have_each_number_of_speakers_and_end_with_all(speakers):
    tests = [[predictions(draw + 10 * size, speakers) for draw in range(3)] for size in (1, 2)]
    tests.append([predictions(9, speakers)])
    scores = score_curve(tests, 3)
    points = [
        Measurement(most == 9, fewest, most, 6.0 * most, runs)
        for (fewest, most), runs in zip([(2, 2), (4, 4), (8, 9)], tests, strict=True)
    ]
    table = curve_table(points, scores, "caption")
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    assert [(row["speakers"], row["clips"], row["draws"]) for row in rows] == [
        ("2", 12, 3), ("4", 24, 3), ("all (8 to 9)", 54, 1),
    ]  # fmt: skip
    assert rows[1]["gain (points)"] == pytest.approx(100 * (rows[1]["UAR"] - rows[0]["UAR"]))
    assert rows[0]["lowest draw"] == min(scores[0].draws)
    assert (rows[2]["lowest draw"], rows[0]["gain from"]) == (None, None)
    axes = curve_figure(points, scores, "title", 1 / 3).axes[0]
    lines = {line.get_label(): line for line in axes.lines}
    assert lines["mean over draws"].get_xydata().tolist() == [
        [number, score.uar] for number, score in zip((2, 4, 8.5), scores, strict=True)
    ]
    assert sorted(lines) == ["chance 33.3%", "mean over draws", "single draws"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["2", "4", "all\n(8 to 9)"]
    assert len(axes.collections) == (1 if speakers == 8 else 0), "no band without bounds"
