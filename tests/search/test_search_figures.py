"""Pictures of a search, as they are drawn."""

from itertools import pairwise

import pytest

from hf_vivae.search.figures import history_figure, values_figure

SPACE = {
    "learning_rate": {"low": 2e-5, "high": 8e-5, "log": True},
    "num_train_epochs": {"low": 10, "high": 40, "log": False},
    "warmup_steps": {"low": 0.0, "high": 0.3, "log": False},
    "lr_scheduler_type": {"choices": ("linear", "cosine", "constant_with_warmup", "inverse_sqrt")},
}
TRIALS = [
    ({"learning_rate": 3e-5, "num_train_epochs": 12, "warmup_steps": 0.1, "lr_scheduler_type": "cosine"}, 0.3),
    ({"learning_rate": 4e-5, "num_train_epochs": 13, "warmup_steps": 0.2, "lr_scheduler_type": "inverse_sqrt"}, 0.4),
]


@pytest.fixture(scope="module")
def panels():
    figure = values_figure(TRIALS, SPACE, "title", "validation UAR", greater_is_better=True)
    for _ in range(2):  # the layout settles with the second
        figure.canvas.draw()
    return figure.axes


def test_labels_below_a_panel_do_not_overlap(panels):
    for axes in panels:
        ticks = axes.get_xticklabels(which="both")
        boxes = [tick.get_window_extent() for tick in ticks if tick.get_text()]
        assert len(boxes) >= 3
        assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


def test_a_panel_shows_all_that_was_searched_and_the_best_where_it_is(panels):
    for axes, (low, high), best in zip(
        panels, [(2e-5, 8e-5), (10, 40), (0, 0.3), (0, 3)], [4e-5, 13, 0.2, 3], strict=True
    ):
        left, right = axes.get_xlim()
        assert left < low < high < right
        assert [line.get_xydata().tolist() for line in axes.lines][1] == [[best, 0.4]]


@pytest.mark.parametrize(("greater", "best"), [(True, [0.4, 0.4, 0.6, 0.6]), (False, [0.4, 0.3, 0.3, 0.3])])
def test_the_best_so_far_never_gets_worse(greater, best):
    states = ["complete", "failed", "complete", "complete", "pruned"]
    axes = history_figure([0.4, None, 0.3, 0.6, None], states, "title", "validation UAR", greater).axes[0]
    line = next(line for line in axes.lines if line.get_label() == "best so far")
    assert line.get_xydata().tolist() == [[number, score] for number, score in zip([0, 2, 3, 4], best, strict=True)]
