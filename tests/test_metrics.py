"""Scores: against scikit-learn, against values worked out by hand, and where they are undefined."""

import math
import re

import evaluate
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics as sklearn_metrics
from transformers import EvalPrediction

from hf_vivae.metrics import ClassificationScores, make_compute_metrics

pytestmark = pytest.mark.filterwarnings("error")

EMOTIONS = ["achievement", "anger", "fear", "pain", "pleasure", "surprise"]


def clips(number: int, labels: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Float32 logits `(number, labels)` that lean to the truth, and a truth that holds every label."""
    generator = np.random.default_rng(seed)
    truth = np.concatenate([np.arange(labels), generator.integers(0, labels, number - labels)])
    logits = generator.normal(size=(number, labels)) + np.eye(labels)[truth]
    return logits.astype(np.float32), truth


def refuses(sentence: str):
    return pytest.raises(ValueError, match=f"^{re.escape(sentence)}$")


@pytest.mark.parametrize("labels", [2, 3, 6, 24])
def test_scores_are_scikit_learns(labels):
    logits, truth = clips(1085, labels)
    scores = ClassificationScores([str(label) for label in range(labels)]).compute(
        predictions=logits, references=truth
    )
    exponentials = np.exp(logits.astype(float))
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    predicted = logits.argmax(axis=1)
    areas = [sklearn_metrics.roc_auc_score(truth == label, probabilities[:, label]) for label in range(labels)]
    assert scores["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(truth, predicted))
    assert scores["uar"] == pytest.approx(sklearn_metrics.balanced_accuracy_score(truth, predicted))
    assert scores["macro_f1"] == pytest.approx(sklearn_metrics.f1_score(truth, predicted, average="macro"))
    assert scores["loss"] == pytest.approx(sklearn_metrics.log_loss(truth, probabilities))
    assert list(scores["auc"].values()) == pytest.approx(areas)
    assert scores["macro_auc"] == pytest.approx(np.mean(areas))
    assert scores["confusion_matrix"] == sklearn_metrics.confusion_matrix(truth, predicted).tolist()
    assert (scores["n"], scores["notes"]) == (1085, [])


def test_scores_worked_out_by_hand():
    quarter = math.log(3)  # softmax of (log 3, 0) is (3/4, 1/4)
    logits = [[quarter, 0], [0, quarter], [quarter, 0], [0, 0.1]]
    scores = ClassificationScores(["low", "high"]).compute(predictions=logits, references=[0, 0, 0, 1])
    # Clips 0 and 2 right, clip 1 wrong, clip 3 right. Of the three pairs of a low and a high clip, clip 1 is
    # ranked the wrong way round.
    assert scores["accuracy"] == 3 / 4
    assert scores["uar"] == pytest.approx((2 / 3 + 1) / 2)
    assert scores["macro_f1"] == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert scores["auc"] == pytest.approx({"low": 2 / 3, "high": 2 / 3})
    assert scores["macro_auc"] == pytest.approx(2 / 3)
    assert scores["loss"] == pytest.approx((2 * math.log(4 / 3) + math.log(4) + math.log(1 + math.exp(-0.1))) / 4)
    assert scores["confusion_matrix"] == [[2, 1], [0, 1]]


def test_auc_is_of_softmax_probabilities_not_of_logits():
    logits = np.array([[5.0, 9.0, 0.0], [4.0, 0.0, 0.0], [3.0, 0.0, 9.0], [1.0, 0.0, 0.0]])
    truth = [1, 0, 2, 0]
    scores = ClassificationScores(["a", "b", "c"]).compute(predictions=logits, references=truth)
    assert scores["auc"]["a"] == 1.0
    assert sklearn_metrics.roc_auc_score(np.equal(truth, 0), logits[:, 0]) == 0.25


def test_macro_f1_counts_a_label_that_is_only_predicted_and_uar_does_not():
    logits = np.eye(3)[[0, 0, 2]]
    scores = ClassificationScores(["a", "b", "c"]).compute(predictions=logits, references=[0, 0, 0])
    assert scores["macro_f1"] == pytest.approx((4 / 5 + 0) / 2)
    assert scores["uar"] == pytest.approx(2 / 3)


def test_an_absent_label_has_no_auc_and_is_noted():
    logits, truth = clips(60, 6)
    kept = (truth != 2) & (truth != 5)
    scores = ClassificationScores(EMOTIONS).compute(predictions=logits[kept], references=truth[kept])
    assert [name for name, area in scores["auc"].items() if math.isnan(area)] == ["fear", "surprise"]
    defined = [area for area in scores["auc"].values() if not math.isnan(area)]
    assert scores["macro_auc"] == pytest.approx(np.mean(defined))
    predicted = logits[kept].argmax(axis=1)
    recalls = [np.mean(predicted[truth[kept] == label] == label) for label in (0, 1, 3, 4)]
    assert scores["uar"] == pytest.approx(np.mean(recalls))
    assert np.shape(scores["confusion_matrix"]) == (6, 6)
    assert scores["notes"] == [
        f"None of the {kept.sum()} clips is labelled {name}: its AUC is undefined, and UAR and macro AUC are "
        "means over the other labels."
        for name in ("fear", "surprise")
    ]


def test_clips_of_one_label_have_no_auc_at_all():
    scores = ClassificationScores(["a", "b", "c"]).compute(predictions=np.eye(3), references=[1, 1, 1])
    assert all(math.isnan(area) for area in [*scores["auc"].values(), scores["macro_auc"]])
    assert scores["uar"] == scores["accuracy"] == pytest.approx(1 / 3)
    assert scores["notes"] == ["All 3 clips are labelled b: no AUC is defined, and UAR is its recall."]


def test_loss_of_huge_logits_is_finite():
    logits = [[1e4, -1e4], [1e4, -1e4]]
    scores = ClassificationScores(["a", "b"]).compute(predictions=logits, references=[0, 1])
    assert scores["loss"] == 1e4


@settings(max_examples=40, deadline=None)
@given(
    logits=arrays(np.float32, (12, 4), elements=st.floats(-50, 50, width=32)),
    truth=st.lists(st.integers(0, 3), min_size=12, max_size=12),
)
def test_scores_stay_in_their_range_whatever_the_clips(logits, truth):
    scores = ClassificationScores(list("abcd")).compute(predictions=logits, references=truth)
    for name, label in zip("abcd", range(4), strict=True):
        defined = 0 < truth.count(label) < 12
        assert 0 <= scores["auc"][name] <= 1 if defined else math.isnan(scores["auc"][name])
    assert all(0 <= scores[key] <= 1 for key in ("accuracy", "uar", "macro_f1"))
    assert scores["loss"] >= 0
    assert [sum(row) for row in scores["confusion_matrix"]] == [truth.count(label) for label in range(4)]
    assert len(scores["notes"]) == (1 if len(set(truth)) == 1 else 4 - len(set(truth)))


def test_results_are_plain_python():
    scores = ClassificationScores(["a", "b"]).compute(predictions=np.eye(2), references=np.arange(2))
    numbers = [scores[key] for key in ("accuracy", "uar", "macro_f1", "macro_auc", "loss")]
    assert {type(number) for number in [*numbers, *scores["auc"].values()]} == {float}
    assert {type(count) for row in scores["confusion_matrix"] for count in [*row, scores["n"]]} == {int}


def test_logits_that_are_not_finite_are_counted():
    logits, truth = clips(20, 6)
    logits[3, 1], logits[7, 0], logits[7, 5] = np.nan, np.inf, -np.inf
    with refuses(
        "expected finite logits, found NaN or infinity for 2 of 20 clips; "
        "training diverged, so lower the learning rate."
    ):
        ClassificationScores(EMOTIONS).compute(predictions=logits, references=truth)


def test_an_error_leaves_nothing_behind():
    metric = ClassificationScores(["a", "b"])
    with pytest.raises(ValueError, match="finite"):
        metric.compute(predictions=[[np.nan, 0]], references=[0])
    assert metric.compute(predictions=np.eye(2), references=[0, 1])["n"] == 2


@pytest.mark.parametrize(("rows", "found"), [(np.zeros((4, 5)), "[5]"), ([[0] * 6, [0] * 4], "[4, 6]"), ([], "[]")])
def test_logits_of_another_width_are_refused(rows, found):
    with refuses(
        f"expected 6 logits for each clip, one for each label name, found rows of {found}; "
        "pass logits (clips, labels) and the names of the model's labels."
    ):
        ClassificationScores(EMOTIONS).compute(predictions=rows, references=[0] * len(rows))


@pytest.mark.parametrize("reference", [-1, 2])
def test_references_that_are_no_label_are_refused(reference):
    with refuses(
        f"expected references from 0 to 1, found {reference}; pass label indices in the order of the label names."
    ):
        ClassificationScores(["a", "b"]).compute(predictions=np.eye(2), references=[0, reference])


@pytest.mark.parametrize("names", [["a"], ["a", "b", "a"]])
def test_label_names_must_differ(names):
    with refuses(f"expected two or more different label names, found {names}; name each once."):
        ClassificationScores(names)


class Clips(evaluate.Metric):
    """Number of clips: a second metric to combine with."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="",
            citation="",
            inputs_description="",
            features=ClassificationScores(["a", "b"]).features,
        )

    def _compute(self, predictions: list, references: list) -> dict[str, int]:
        return {"clips": len(references)}


def test_it_combines_with_other_metrics_and_takes_batches():
    logits, truth = clips(50, 6)
    combined = evaluate.combine([ClassificationScores(EMOTIONS), Clips(keep_in_memory=True)])
    for start in range(0, 50, 16):
        combined.add_batch(predictions=logits[start : start + 16], references=truth[start : start + 16])
    alone = ClassificationScores(EMOTIONS).compute(predictions=logits, references=truth)
    assert combined.compute() == {**alone, "clips": 50}


def test_it_takes_clips_one_by_one():
    metric = ClassificationScores(["a", "b"])
    for logits, label in (([2.0, 0.0], 0), ([0.0, 1.0], 0)):
        metric.add(prediction=logits, reference=label)
    assert metric.compute()["confusion_matrix"] == [[1, 1], [0, 0]]


@pytest.mark.parametrize("wrap", [lambda logits: logits, lambda logits: (logits, np.zeros((50, 3)))])
def test_trainer_gets_the_same_scores_every_time(wrap):
    logits, truth = clips(50, 6)
    compute_metrics = make_compute_metrics(EMOTIONS)
    expected = ClassificationScores(EMOTIONS).compute(predictions=logits, references=truth)
    for _ in range(2):
        assert compute_metrics(EvalPrediction(predictions=wrap(logits), label_ids=truth)) == expected


def test_two_runs_share_no_file(monkeypatch, tmp_path):
    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", tmp_path)
    first, second = ClassificationScores(["a", "b"]), ClassificationScores(["a", "b"])
    first.add_batch(predictions=[[1, 0]], references=[0])
    second.add_batch(predictions=[[1, 0], [1, 0]], references=[1, 1])
    assert list(tmp_path.iterdir())  # the cache folder is this one
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert (first.compute()["n"], second.compute()["n"]) == (1, 2)


def test_the_global_random_state_is_untouched():
    np.random.seed(3)
    state = np.random.get_state()[1:3]
    ClassificationScores(["a", "b"]).compute(predictions=np.eye(2), references=[0, 1])
    np.testing.assert_equal(np.random.get_state()[1:3], state)


def test_predictions_are_logits_and_not_labels():
    with pytest.raises(ValueError, match="don't match the expected format"):
        ClassificationScores(["a", "b"]).compute(predictions=[0, 1], references=[0, 1])
