"""Pictures of an evaluation show the figures that they are given, and nothing in them lies on something else."""

from itertools import combinations, pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure

from hf_vivae.evaluation.figures import (
    OVER_CLIPS,
    OVER_SPEAKERS,
    difference_figure,
    groups_figure,
    reliability_figure,
    scores_figure,
)
from hf_vivae.evaluation.reliability import Reliability, reliability

LONG = "probe:facebook/wav2vec2-base-960h recipe=paper+no-resampling learning_rate=0.0001 weight_decay=0.01"


def estimated(value: float | None, **changed) -> dict:
    """A row for scores and differences alike."""
    bounds = {"clips": (value - 0.03, value + 0.03), "speakers": (value - 0.06, value + 0.05)} if value else {}
    row = {"system": "mlp", "name": "mlp minus vit", "value": value, "clips": None, "speakers": None, "seeds": [value]}
    return {**row, "p_value": None, **bounds, **changed}


def group(name: str, correct: int, clips: int) -> SimpleNamespace:
    return SimpleNamespace(name=name, clips=clips, accuracy=correct / clips, low=0.1, high=0.9)


def lines(axes, **style) -> list[list[tuple[float, float]]]:
    """Points of each line that has this style."""
    chosen = [
        line for line in axes.lines if all(getattr(line, f"get_{key}")() == value for key, value in style.items())
    ]
    return [[tuple(point) for point in line.get_xydata()] for line in chosen]


def labelled(axes, label: str) -> list[list[tuple[float, float]]]:
    return lines(axes, label=label)


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def tick_labels(axes) -> list[str]:
    return [tick.get_text() for tick in axes.get_yticklabels()]


def test_scores_are_rows_with_both_intervals():
    rows = [estimated(0.4, system="vit", seeds=[0.38, 0.42]), estimated(0.2)]
    figure = scores_figure(rows, "accuracy", "synthetic clips", chance=1 / 6, majority=0.186)
    (axes,) = figure.axes
    assert tick_labels(axes) == ["vit", "mlp"]
    assert axes.yaxis_inverted(), "the first system stands on top"
    over_clips, over_speakers = (
        labelled(axes, "95 % interval over clips"),
        labelled(axes, "95 % interval over speakers"),
    )
    np.testing.assert_allclose(over_clips, [[(0.37, 0), (0.43, 0)], [(0.17, 1), (0.23, 1)]])
    np.testing.assert_allclose(over_speakers, [[(0.34, 0), (0.45, 0)], [(0.14, 1), (0.25, 1)]])
    assert OVER_SPEAKERS["linewidth"] > OVER_CLIPS["linewidth"], "told apart in grey"
    assert labelled(axes, "mean over seeds") == [[(0.4, 0)], [(0.2, 1)]]
    assert [text.get_text() for text in axes.texts] == ["40.0%", "20.0%"]
    assert (axes.get_xlabel(), figure.get_suptitle()) == ("accuracy", "synthetic clips")


def test_seeds_are_drawn_where_there_are_several():
    rows = [estimated(0.4, seeds=[0.38, 0.42]), estimated(0.2)]
    (seeds,) = labelled(scores_figure(rows, "UAR", "clips", 1 / 6).axes[0], "single seeds")
    assert [value for value, _ in seeds] == [0.38, 0.42]
    assert all(0 < place < 0.5 for _, place in seeds), "beside the row and within it"


def test_an_undefined_score_is_called_so():
    (axes,) = scores_figure([estimated(None, seeds=[])], "UAR", "clips", 1 / 6).axes
    assert [text.get_text() for text in axes.texts] == ["undefined"]
    assert not labelled(axes, "mean over seeds")


@pytest.mark.parametrize(
    "figure",
    [
        scores_figure([estimated(0.4)], "accuracy", "clips", chance=0.25, majority=0.3),
        groups_figure({"mlp": [group("S01", 4, 10)]}, "clips", chance=0.25, majority=0.3),
    ],
    ids=["scores", "groups"],
)
def test_chance_and_majority_are_lines_of_different_dashes(figure):
    (axes,) = figure.axes
    baselines = {line.get_label(): line for line in axes.lines if line.get_label() in legend(figure)}
    chance, majority = baselines["chance 25.0%"], baselines["majority 30.0%"]
    assert (set(chance.get_xdata()), set(majority.get_xdata())) == ({0.25}, {0.3})
    assert chance.get_linestyle() != majority.get_linestyle()


def test_without_a_majority_there_is_no_line():
    assert not any("majority" in text for text in legend(scores_figure([estimated(0.4)], "UAR", "clips", 0.25)))


def test_the_legend_has_each_mark_once():
    figure = scores_figure([estimated(0.4, seeds=[0.3, 0.5])] * 3, "accuracy", "clips", 0.25, 0.3)
    assert len(legend(figure)) == len(set(legend(figure))) == 6


def test_differences_are_points_with_a_line_at_none():
    rows = [
        estimated(-0.2, p_value=0.0004),
        estimated(0.01, p_value=0.25, name="vit minus mlp", speakers=None),
        estimated(None, p_value=None),
    ]
    figure = difference_figure(rows, "accuracy", "synthetic clips")
    (axes,) = figure.axes
    assert tick_labels(axes) == ["mlp minus vit", "vit minus mlp", "mlp minus vit"]
    np.testing.assert_allclose(labelled(axes, "mean over seeds"), [[(-20, 0)], [(1, 1)]])
    np.testing.assert_allclose(labelled(axes, "95 % interval over speakers"), [[(-26, 0), (-15, 0)]])
    np.testing.assert_allclose(labelled(axes, "95 % interval over clips")[1], [(-2, 1), (4, 1)])
    assert [text.get_text() for text in axes.texts] == ["-20.0   p < 0.001", "+1.0   p = 0.250", "undefined"]
    assert [line.get_xdata() for line in axes.lines if set(line.get_xdata()) == {0}] == [[0, 0]]
    assert axes.get_xlabel() == "difference in accuracy (points; p adjusted for the number of pairs)"


def test_differences_without_p_do_not_speak_of_it():
    (axes,) = difference_figure([estimated(0.1)], "UAR", "clips").axes
    assert axes.get_xlabel() == "difference in UAR (points)"


def test_groups_are_drawn_with_bounds_clips_and_the_accuracy_over_all():
    groups = [group("low", 30, 100), group("peak", 6, 10)]
    (axes,) = groups_figure({"mlp paper": groups}, "by intensity", 1 / 6).axes
    assert (axes.get_title(), tick_labels(axes)) == ("mlp paper", ["low (100)", "peak (10)"])
    assert set(labelled(axes, "all groups")[0]) == {(36 / 110, 0), (36 / 110, 1)}, "36 of 110 clips"
    assert [(0.3, 0)] in lines(axes, marker="D")
    assert [(0.6, 1)] in lines(axes, marker="D")
    assert lines(axes, linewidth=OVER_CLIPS["linewidth"]) == [[(0.1, 0), (0.9, 0)], [(0.1, 1), (0.9, 1)]]
    assert axes.yaxis_inverted()


def test_each_system_has_a_panel_and_unused_ones_are_gone():
    systems = {f"system {number}": [group("S01", 4, 10), group("S02", 5, 10)] for number in range(4)}
    figure = groups_figure(systems, "by speaker", 1 / 6)
    assert [axes.get_title() for axes in figure.axes] == list(systems)
    figure.draw_without_rendering()
    named = [any(tick.label1.get_visible() for tick in axes.yaxis.get_major_ticks()) for axes in figure.axes]
    assert named == [True, False, False, True], "systems with the same groups share their names"


def test_systems_with_other_clips_have_names_of_their_own():
    figure = groups_figure({"a": [group("S01", 4, 10)], "b": [group("S01", 4, 20)]}, "by speaker", 1 / 6)
    assert [tick_labels(axes) for axes in figure.axes] == [["S01 (10)"], ["S01 (20)"]]


def test_reliability_is_drawn_with_the_error_of_the_calibration():
    rng = np.random.default_rng(0)
    probabilities, labels = rng.dirichlet(np.ones(6), 200), rng.integers(0, 6, 200)
    softer = probabilities**0.5 / (probabilities**0.5).sum(axis=1, keepdims=True)
    found = [reliability(shown, labels) for shown in (probabilities, softer)]
    figure = reliability_figure(*found, "mlp")
    above, below = figure.axes
    errors = [reliability(shown, labels).error for shown in (probabilities, softer)]
    said = [f"as trained: ECE {errors[0]:.3f}", f"with temperature: ECE {errors[1]:.3f}"]
    assert legend(figure) == ["perfect calibration", *said]
    for one, label in zip(found, said, strict=True):
        assert labelled(above, label) == [[(confidence, accuracy) for confidence, accuracy, _ in one.bins]]
    heights = [[bar.get_height() for bar in bars] for bars in below.containers]
    assert heights == [[clips for *_, clips in found[0].bins], [-clips for *_, clips in found[1].bins]]
    assert labelled(above, "perfect calibration") == [[(0, 0), (1, 1)]]


def test_the_error_of_two_bins_by_hand():
    figure = reliability_figure(Reliability(bins=((0.3, 0.5, 30), (0.9, 0.6, 10))), None, "mlp")
    assert legend(figure)[1:] == ["as trained: ECE 0.225"]  # (30 x 0.2 + 10 x 0.3) / 40


@pytest.mark.parametrize(
    "figure",
    [
        scores_figure([estimated(0.4)], "accuracy", "clips", 1 / 6),
        scores_figure([estimated(0.2 + place / 20, system=LONG) for place in range(12)], "accuracy", LONG * 2, 1 / 6),
        difference_figure([estimated(0.01, name=f"{LONG} minus {LONG}", p_value=0.04)] * 12, "accuracy", LONG),
        groups_figure({"mlp": [group(f"speaker-{place}", 4, 10) for place in range(40)]}, LONG, 1 / 6, 0.2),
        groups_figure({f"{LONG} {place}": [group("0.40 to 0.61 s", 4, 10)] for place in range(12)}, "by", 1 / 6, 0.2),
        reliability_figure(Reliability(bins=((0.99, 0.5, 1085),)), None, LONG),
    ],
    ids=["one score", "twelve scores", "differences", "forty speakers", "twelve systems", "one bin"],
)
def test_nothing_lies_on_something_else_or_beyond_the_edge(figure):
    figure.draw_without_rendering()
    boxes = [axes.get_tightbbox() for axes in figure.axes]
    boxes += [figure.legends[0].get_window_extent(), figure._suptitle.get_window_extent()]
    for one, other in combinations(boxes, 2):
        shared_width = min(one.x1, other.x1) - max(one.x0, other.x0)
        shared_height = min(one.y1, other.y1) - max(one.y0, other.y0)
        assert min(shared_width, shared_height) < 1, "pixels"
    for box in boxes:
        assert box.x0 >= -1
        assert box.y0 >= -1
        assert box.x1 <= figure.bbox.x1 + 1
        assert box.y1 <= figure.bbox.y1 + 1
    for axes in figure.axes:
        names = [tick.get_window_extent() for tick in axes.get_yticklabels()]
        assert all(below.y1 <= above.y0 for above, below in pairwise(sorted(names, key=lambda box: -box.y0)))
