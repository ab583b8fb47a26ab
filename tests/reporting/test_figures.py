"""Figures show the numbers of the run folder, and where they are scores, those of scikit-learn."""

import math
import re

import numpy as np
import pytest
from fake_predictions import chosen, make_predictions
from runner import ROOT
from sklearn.metrics import accuracy_score, confusion_matrix, roc_auc_score, roc_curve

from hf_vivae.evaluation.figures import confusion_figure, roc_figure
from hf_vivae.evaluation.runs import Predictions
from hf_vivae.metrics import ClassificationScores
from hf_vivae.reporting.plots import BLUE, VERMILION, curves_figure, save_curves
from hf_vivae.reproduction.audit import audit_figure, patches_figure

LABELS = ["anger", "fear", "pain"]


def history(epochs: int, *prefixes: str) -> list[dict[str, float]]:
    """Entries with another loss and accuracy for each epoch and prefix."""
    return [
        {"epoch": float(epoch), f"{prefix}loss": 2 - epoch / 10 - place, f"{prefix}accuracy": epoch / 10 + place / 20}
        for epoch in range(1, epochs + 1)
        for place, prefix in enumerate(prefixes)
    ]


def lines(axes) -> dict[str, np.ndarray]:
    """Points `(points, 2)` of each line by its label."""
    return {line.get_label(): np.column_stack([line.get_xdata(), line.get_ydata()]) for line in axes.lines}


@pytest.fixture(scope="module")
def predictions() -> dict[str, Predictions]:
    """Test clips of two models with different scores."""
    rng, models = np.random.default_rng(0), {}
    for model, skill in (("mlp", 0.3), ("wav2vec2", 1.5)):
        labels = rng.integers(0, 3, 60)
        models[model] = make_predictions(labels, rng.normal(size=(60, 3)) + skill * np.eye(3)[labels])
    return models


def test_curves_are_the_history():
    entries = history(4, "", "eval_", "test_")
    loss, accuracy = curves_figure(entries, "mlp", 3).axes
    for axes, name in ((loss, "loss"), (accuracy, "accuracy")):
        drawn = lines(axes)
        assert list(drawn) == ["training", "validation", "test", "chance"]
        for part, key in (("training", name), ("validation", f"eval_{name}"), ("test", f"test_{name}")):
            expected = [(entry["epoch"], entry[key]) for entry in entries if key in entry]
            np.testing.assert_array_equal(drawn[part], expected)
    assert set(lines(loss)["chance"][:, 1]) == {math.log(3)}
    assert set(lines(accuracy)["chance"][:, 1]) == {1 / 3}


def test_clips_that_select_the_epoch_are_called_what_they_are():
    entries = history(2, "", "eval_")
    drawn = lines(curves_figure(entries, "mlp", 3, select_on="test").axes[1])
    assert list(drawn) == ["training", "test", "chance"]
    np.testing.assert_array_equal(drawn["test"][:, 1], [entry["eval_accuracy"] for entry in entries[1::2]])


def test_the_majority_has_a_line_among_accuracies():
    loss, accuracy = (lines(axes) for axes in curves_figure(history(2, "", "eval_"), "mlp", 3, majority=0.4).axes)
    assert set(accuracy["majority of validation clips"][:, 1]) == {0.4}
    assert set(accuracy) - set(loss) == {"majority of validation clips"}


def test_both_rules_mark_their_epoch_and_the_paper_has_its_own_line():
    figure = curves_figure(
        history(4, "", "eval_"), "mlp", 3, best_epochs={"validation": 2, "test": 3}, reported_accuracy=0.47
    )
    loss, accuracy = (lines(axes) for axes in figure.axes)
    ours, theirs = "epoch 2, selected on validation", "epoch 3, selected on test, the paper's rule"
    for drawn in (loss, accuracy):
        assert set(drawn[ours][:, 0]) == {2}
        assert set(drawn[theirs][:, 0]) == {3}
    assert set(accuracy["paper (VIVAE)"][:, 1]) == {0.47}
    assert "paper (VIVAE)" not in loss
    assert {text.get_text() for text in figure.legends[0].get_texts()} == accuracy.keys()


@pytest.mark.parametrize(("epochs", "marker"), [(1, "o"), (400, "None")])
def test_points_are_marked_only_where_they_are_few(epochs, marker):
    axes = curves_figure(history(epochs, ""), "mlp", 3).axes[1]
    assert axes.lines[0].get_marker() == marker
    assert all(tick == round(tick) for tick in axes.get_xticks())


def test_a_solver_has_no_curves():
    sentence = (
        "logistic-regression: expected history entries with an epoch, found none: a model that is fitted by a solver "
        "has no curves, so leave it out"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        curves_figure([{"iterations": 100, "converged": False}], "logistic-regression", 3)


def test_a_run_leaves_both_pictures(tmp_path):
    save_curves(history(2, "", "eval_"), tmp_path, "mlp", 3, "validation", None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["accuracy.png", "loss.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in tmp_path.iterdir())


@pytest.mark.parametrize("label", LABELS)
def test_roc_is_scikit_learns_and_its_area_that_of_the_results(predictions, label):
    axes = roc_figure(label, LABELS, predictions, label).axes[0]
    drawn = list(lines(axes).items())
    for (said, points), (model, run) in zip(drawn, predictions.items(), strict=False):
        truth, logits = run.labels, run.logits
        scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        place = LABELS.index(label)
        false_positives, true_positives, _ = roc_curve(truth == place, scores[:, place])
        np.testing.assert_allclose(points, np.column_stack([false_positives, true_positives]))
        area = ClassificationScores(LABELS).compute(predictions=logits, references=truth)["auc"][label]
        assert area == pytest.approx(roc_auc_score(truth == place, scores[:, place]))
        assert said == f"{model}: AUC {area:.3f}"
    assert drawn[-1][0] == "chance and majority: AUC 0.500"
    np.testing.assert_array_equal(drawn[-1][1], [(0, 0), (1, 1)])


def test_twenty_models_have_different_lines(predictions):
    models = {f"model {place}": predictions["mlp"] for place in range(20)}
    drawn = roc_figure("fear", LABELS, models, "fear").axes[0].lines[:-1]
    assert len({(line.get_color(), line.get_linestyle()) for line in drawn}) == 20


def test_a_label_without_test_clips_has_no_curve_but_a_note(predictions):
    others = chosen(predictions["mlp"], predictions["mlp"].labels != 1)
    drawn = lines(roc_figure("fear", LABELS, {"mlp": others}, "fear").axes[0])
    assert len(drawn[f"mlp: undefined, 0 of {len(others)} clips"]) == 0


def test_confusion_cells_are_counts_and_shares_of_the_true_label(predictions):
    truth, logits = predictions["wav2vec2"].labels, predictions["wav2vec2"].logits
    matrix = confusion_matrix(truth, logits.argmax(axis=1))
    axes = confusion_figure(matrix.tolist(), LABELS, "wav2vec2", 0.4).axes[0]
    shares = matrix / matrix.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(axes.images[0].get_array(), shares)
    texts = {tuple(round(place) for place in text.get_position()): text.get_text() for text in axes.texts}
    for (row, column), count in np.ndenumerate(matrix):
        assert texts[column, row] == (f"{count}\n{shares[row, column]:.0%}" if count else "0")
    accuracy = accuracy_score(truth, logits.argmax(axis=1))
    assert axes.get_title().splitlines() == [
        "wav2vec2",
        f"accuracy {accuracy:.1%} ({matrix.trace()} of 60 clips)",
        "chance 33.3%, majority 40.0%",
    ]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == LABELS
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted label", "true label")


@pytest.mark.parametrize("labels", [2, 24])
def test_the_text_of_a_confusion_cell_fits_into_it(labels):
    figure = confusion_figure(np.full((labels, labels), 188).tolist(), ["achievement peak"] * labels, "vit", 0.2)
    figure.draw_without_rendering()
    axes = figure.axes[0]
    text, cell = axes.texts[0].get_window_extent(), axes.get_window_extent().width / labels
    assert max(text.width, text.height) < cell


def test_many_labels_leave_room_for_counts_only():
    axes = confusion_figure((7 * np.eye(24, dtype=int)).tolist(), [f"l{n}" for n in range(24)], "vit", 0.2).axes[0]
    assert {text.get_text() for text in axes.texts} == {"7", ""}


def test_predictions_of_several_seeds_are_not_called_clips():
    axes = confusion_figure([[3, 1], [1, 5]], ["a", "b"], "mlp", 0.5, different_clips=5).axes[0]
    assert axes.get_title().splitlines()[1] == "accuracy 80.0% (8 of 10 predictions of 5 clips)"
    axes = confusion_figure([[3, 1], [1, 5]], ["a", "b"], "mlp", 0.5, different_clips=10).axes[0]
    assert axes.get_title().splitlines()[1] == "accuracy 80.0% (8 of 10 clips)"


def test_a_long_title_of_a_confusion_stays_in_the_picture():
    figure = confusion_figure(
        [[3, 1], [0, 2]], ["a", "b"], "facebook/wav2vec2-base-960h paper+no-resampling " * 2, 0.5
    )
    figure.draw_without_rendering()
    title = figure.axes[0].title.get_window_extent()
    assert title.x0 >= 0
    assert title.x1 <= figure.bbox.x1
    assert title.y1 <= figure.bbox.y1


def test_a_label_without_clips_has_an_empty_row():
    axes = confusion_figure([[3, 1], [0, 0]], ["a", "b"], "mlp", 1.0).axes[0]
    np.testing.assert_array_equal(axes.images[0].get_array(), [[0.75, 0.25], [0, 0]])


def patch(name: str, tokens: int, **changed) -> dict:
    values = {
        "accuracy": 0.4,
        "low": 0.3,
        "high": 0.55,
        "majority": 0.2,
        "macro_auc": 0.7,
        "clips_per_second": 90.0,
        "peak_memory_mb": 900.0,
    }
    return {"patch": name, "tokens": tokens} | values | changed


def test_patches_stand_at_their_tokens():
    points = [patch("32 x 30", 46), patch("16 x 69", 40, macro_auc=None, clips_per_second=120.0, majority=0.3)]
    accuracy, macro_auc, speed, memory = patches_figure(points, "vit", chance=1 / 6).axes
    np.testing.assert_array_equal(speed.lines[0].get_xydata(), [(40, 120), (46, 90)])
    np.testing.assert_array_equal(macro_auc.lines[0].get_xydata(), [(46, 0.7)])
    assert macro_auc.get_title() == "undefined for 16 x 69"
    low_to_high = accuracy.collections[0].get_segments()[0][:, 1]
    np.testing.assert_allclose(low_to_high, [0.3, 0.55])
    assert (set(lines(accuracy)["chance"][:, 1]), set(lines(accuracy)["majority"][:, 1])) == ({1 / 6}, {0.25})
    assert set(macro_auc.lines[1].get_ydata()) == {0.5}
    assert [text.get_text() for text in memory.texts] == ["16 x 69", "32 x 30"]
    assert [text.get_ha() for text in memory.texts] == ["right", "left"], "names of neighbours point away"
    assert {axes.get_xscale() for axes in (accuracy, macro_auc, speed, memory)} == {"log"}


def test_audit_bars_are_effects_over_the_interval():
    effects = [
        {"name": "no-resampling, wav2vec2", "accuracy": -0.05, "macro_auc": -0.02, "half_width": 0.06},
        {"name": "redrawn-split, mlp", "accuracy": 0.0, "macro_auc": None, "half_width": 0.04},
    ]
    accuracy, macro_auc = audit_figure(effects, "synthetic clips").axes
    bands, bars = accuracy.containers
    np.testing.assert_allclose([(bar.get_x(), bar.get_width()) for bar in bands], [(-6, 12), (-4, 8)])
    np.testing.assert_allclose([bar.get_width() for bar in bars], [-5, 0])
    assert [text.get_text() for text in accuracy.texts] == ["-5.0", "+0.0"]
    assert [text.get_text() for text in macro_auc.texts] == ["-0.020", "undefined"]
    assert [tick.get_text() for tick in accuracy.get_yticklabels()] == [effect["name"] for effect in effects]
    assert accuracy.yaxis_inverted(), "the first switch stands on top"
    low, high = macro_auc.get_xlim()
    assert low <= -0.05 < 0.05 <= high, "a small effect looks small"


def test_gain_and_loss_differ_in_colour():
    from matplotlib.colors import to_hex

    effects = [
        {"name": name, "accuracy": effect, "macro_auc": effect, "half_width": 0.06}
        for name, effect in (("gain", 0.1), ("loss", -0.1))
    ]
    bars = audit_figure(effects, "synthetic clips").axes[1].containers[0]
    assert [to_hex(bar.get_facecolor()).upper() for bar in bars] == [BLUE, VERMILION]


def test_all_figures_have_one_resolution():
    own = re.compile(r"\bFigure\(|\bdpi=|pyplot as")
    files = [path for path in (ROOT / "hf_vivae").rglob("*.py") if own.search(path.read_text())]
    assert [path.name for path in files] == ["plots.py"], "figures are made by reporting.plots.blank_figure"
