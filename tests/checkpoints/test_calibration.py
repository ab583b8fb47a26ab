"""Reliability, expected calibration error, and temperatures fitted on validation clips."""

import numpy as np
import pytest
from fake_predictions import chosen, make_predictions
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV, calibration_curve
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import log_loss
from transformers import PreTrainedConfig

from hf_vivae.checkpoints.calibration import fit_temperature, keep_temperature, temperature_of
from hf_vivae.evaluation.reliability import calibrate, reliability


class Given(ClassifierMixin, BaseEstimator):
    """A classifier whose features are its logits."""

    def __init__(self):
        self.classes_ = np.arange(3)

    def fit(self, features, labels):
        return self

    def predict(self, features):
        return features.argmax(axis=1)

    def decision_function(self, features):
        return features


def drawn(seed: int, clips: int = 400, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose softmax is the truth, times a scale, and labels."""
    rng = np.random.default_rng(seed)
    logits = 1.5 * rng.normal(size=(clips, 3))
    labels = (rng.random((clips, 1)) > softmax(logits, axis=1).cumsum(axis=1)[:, :2]).sum(axis=1)
    return scale * logits, labels


# --- temperature


@pytest.mark.parametrize("scale", [0.3, 1, 4])
def test_temperature_finds_the_scale_of_the_logits(scale):
    assert fit_temperature(*drawn(0, clips=20_000, scale=scale)) == pytest.approx(scale, rel=0.05)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**16), st.floats(0.2, 8))
def test_temperature_is_that_of_least_loss(seed, scale):
    logits, labels = drawn(seed, scale=scale)
    least = minimize_scalar(
        lambda power: log_loss(labels, softmax(logits / np.exp(power), axis=1), labels=range(3)),
        bounds=(-4, 4),
        method="bounded",
        options={"xatol": 1e-8},
    )
    assert fit_temperature(logits, labels) == pytest.approx(np.exp(least.x), rel=1e-4)


def test_temperature_is_scikit_learns():
    logits, labels = drawn(7, scale=3)
    calibrated = CalibratedClassifierCV(FrozenEstimator(Given()), method="temperature").fit(logits, labels)
    temperature = fit_temperature(logits, labels)
    assert softmax(logits / temperature, axis=1) == pytest.approx(calibrated.predict_proba(logits), abs=1e-4)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**16), st.floats(0.1, 10))
def test_temperature_scales_with_the_logits(seed, factor):
    logits, labels = drawn(seed)
    assert fit_temperature(factor * logits, labels) == pytest.approx(factor * fit_temperature(logits, labels))


@pytest.mark.parametrize("scale", [1, 1000])
def test_temperature_of_clips_that_are_all_right_is_the_lowest(scale):
    assert fit_temperature(scale * np.eye(3), np.arange(3)) == 0.01


@pytest.mark.parametrize(
    ("logits", "labels"), [(np.eye(3), [1, 2, 0]), (np.eye(3), [0, 2, 1]), (np.zeros((3, 3)), [0, 1, 2])]
)
def test_temperature_of_logits_that_know_nothing_is_the_highest(logits, labels):
    assert fit_temperature(logits, np.array(labels)) == 100


# --- reliability


def test_bins_and_error_worked_out_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.55, 0.45], [0.5, 0.5]])
    labels = np.array([0, 0, 0, 1, 0])
    # Of five bins, (0.4, 0.6] holds three clips, two of them right, and the last two one each: right, then wrong.
    assert reliability(probabilities, labels, bins=5).bins == (
        (pytest.approx(0.55), pytest.approx(2 / 3), 3),
        (pytest.approx(0.8), 0, 1),
        (pytest.approx(0.9), 1, 1),
    )
    error = (3 * (2 / 3 - 0.55) + 0.8 + 0.1) / 5
    assert reliability(probabilities, labels, bins=5).error == pytest.approx(error)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**16), st.floats(0.1, 20), st.integers(1, 60))
def test_bins_are_scikit_learns_of_top_label_confidence(seed, scale, clips):
    logits, labels = drawn(seed, clips, scale)
    probabilities = softmax(logits, axis=1)
    right = probabilities.argmax(axis=1) == labels
    accuracies, confidences = calibration_curve(right, probabilities.max(axis=1), n_bins=15, pos_label=True)
    bins = reliability(probabilities, labels).bins
    assert [confidence for confidence, _, _ in bins] == pytest.approx(confidences)
    assert [accuracy for _, accuracy, _ in bins] == pytest.approx(accuracies)
    assert sum(number for _, _, number in bins) == clips


def test_error_is_small_for_the_truth_and_the_distance_for_the_sure():
    logits, labels = drawn(1, clips=20_000)
    assert reliability(softmax(logits, axis=1), labels).error < 0.02
    sure = np.eye(3)[logits.argmax(axis=1)]
    accuracy = np.mean(logits.argmax(axis=1) == labels)
    assert reliability(sure, labels).error == pytest.approx(1 - accuracy)


# --- runs


def two_folds(seed: int, scales: tuple[float, float] = (4, 0.25)):
    """Clips of a fold whose logits are too large and of one whose logits are too small."""
    parts = [drawn(seed + place, scale=scale) for place, scale in enumerate(scales)]
    logits, labels = (np.concatenate(both) for both in zip(*parts, strict=True))
    return make_predictions(labels, logits, folds=np.repeat(["1", "2"], 400))


def test_each_fold_is_scaled_by_its_own_validation_clips():
    test, validation = two_folds(0), two_folds(10)
    found = calibrate(test, validation)
    for fold, expected in (("1", 4), ("2", 0.25)):
        rows = validation.folds == fold
        assert found.temperatures[fold] == fit_temperature(validation.logits[rows], validation.labels[rows])
        assert found.temperatures[fold] == pytest.approx(expected, rel=0.3)
        tested = test.folds == fold
        assert found.scaled[tested] == pytest.approx(softmax(test.logits[tested] / found.temperatures[fold], axis=1))
    assert found.probabilities == pytest.approx(softmax(test.logits, axis=1))
    assert found.scores["loss"] == pytest.approx(log_loss(test.labels, found.probabilities))
    assert found.scores["loss_scaled"] == pytest.approx(log_loss(test.labels, found.scaled))
    assert found.scores["ece"] == reliability(found.probabilities, test.labels).error
    assert found.scores["ece_scaled"] == reliability(found.scaled, test.labels).error
    assert found.scores["loss_scaled"] < found.scores["loss"]
    assert found.scores["ece_scaled"] < 0.5 * found.scores["ece"]
    assert found.at_bound == ()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**16), st.integers(0, 2**16))
def test_temperatures_know_no_label_of_a_test_clip_and_move_no_prediction(seed, mixing):
    test, validation = two_folds(seed), two_folds(seed + 10)
    mixed = make_predictions(
        np.random.default_rng(mixing).permutation(test.labels), test.logits, folds=test.folds, files=test.files
    )
    found = calibrate(test, validation)
    assert calibrate(mixed, validation).temperatures == found.temperatures
    assert (found.scaled.argmax(axis=1) == test.predicted).all()


def test_nothing_is_scaled_where_a_fold_has_no_validation_clips():
    test, validation = two_folds(0), two_folds(10)
    for lacking in (None, chosen(validation, validation.folds == "1")):
        found = calibrate(test, lacking)
        assert found.scores["ece_scaled"] is found.scores["loss_scaled"] is found.scaled is None
        assert found.temperatures == {}
        assert found.scores["ece"] == reliability(found.probabilities, test.labels).error


def test_folds_whose_validation_clips_set_no_temperature_are_named():
    test, validation = two_folds(0), two_folds(10)
    right = make_predictions(validation.predicted, validation.logits, folds=validation.folds)
    found = calibrate(test, right)
    assert found.temperatures == {"1": 0.01, "2": 0.01}
    assert found.at_bound == ("1", "2")
    assert np.isfinite(found.scores["loss_scaled"])


def logits_rows(part: str, logits: np.ndarray, labels: np.ndarray) -> list[dict]:
    return [{"split": part, "logits": row.tolist(), "label": label} for row, label in zip(logits, labels, strict=True)]


class TestTheTemperatureOfACheckpoint:
    def test_is_that_of_the_validation_clips(self, tmp_path):
        config, found = PreTrainedConfig(), drawn(0, clips=500, scale=2.0)
        keep_temperature(config, logits_rows("validation", *found) + logits_rows("test", *drawn(1, clips=500)))
        config.save_pretrained(tmp_path)
        assert temperature_of(PreTrainedConfig.from_pretrained(tmp_path)) == fit_temperature(*found)

    def test_is_not_kept_where_there_is_none_to_trust(self):
        config, (logits, labels) = PreTrainedConfig(), (20 * np.eye(3), np.arange(3))
        keep_temperature(config, logits_rows("test", *drawn(1, clips=50)))
        assert temperature_of(config) is None
        keep_temperature(config, logits_rows("validation", logits, labels))
        assert temperature_of(config) is None, "all are right, however sure"

    @pytest.mark.parametrize("value", [0, -1.0, "1.5", float("inf"), True])
    def test_that_is_no_positive_number_is_refused(self, value):
        config = PreTrainedConfig()
        config.calibration_temperature = value
        with pytest.raises(ValueError, match="expected a positive number as calibration_temperature"):
            temperature_of(config)
