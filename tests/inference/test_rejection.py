"""The label unknown of a checkpoint that can reject clips, in all that labels clips."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import soundfile
from checkpoints_of import write_checkpoint
from predicting import rows

from hf_vivae import load_classifier
from hf_vivae.inference.demo import _bars
from hf_vivae.inference.explain import gradient_saliency, occlusion_saliency
from hf_vivae.inference.export import MODEL, export_onnx
from hf_vivae.inference.predict import run_predict
from hf_vivae.inference.scorer import Scorer
from hf_vivae.inference.timeline import Recording, Timeline, Windows, find_segments, make_timeline
from hf_vivae.validation import UserError

RATE = 44100


def clip(seed: int, seconds: float = 0.7) -> dict:
    samples = np.random.default_rng(seed).uniform(-0.5, 0.5, round(seconds * RATE)).astype(np.float32)
    return {"array": samples, "sampling_rate": RATE}


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def rejecting(plain, tmp_path_factory) -> dict[str, Path]:
    """Checkpoints with the weights of `plain` whose background is one label or two, or that reject all clips."""
    fields = {
        "background": {"background_labels": ["pain"]},
        "backgrounds": {"background_labels": ["pain", "anger"]},
        "threshold": {"open_set": {"score": "max_logit", "threshold": 10.0, "rate": 0.05, "clips": 20}},
    }
    folders = {}
    for name, more in fields.items():
        folders[name] = Path(shutil.copytree(plain, tmp_path_factory.mktemp(name) / "checkpoint"))
        config = json.loads((plain / "config.json").read_text())
        (folders[name] / "config.json").write_text(json.dumps(config | more))
    return folders


@pytest.fixture(scope="module", params=["background", "backgrounds", "threshold"])
def scorer(request, rejecting) -> Scorer:
    return Scorer(str(rejecting[request.param]), device="cpu")


@pytest.fixture(scope="module")
def thresholded(rejecting) -> Scorer:
    return Scorer(str(rejecting["threshold"]), device="cpu")


def test_scores_are_those_of_the_model_with_background_as_unknown(plain, rejecting):
    known = Scorer(str(plain), device="cpu")
    (expected,) = known.score([clip(0)])
    assert known.unknown is None
    for name, background in (("background", ["pain"]), ("backgrounds", ["pain", "anger"])):
        scorer = Scorer(str(rejecting[name]), device="cpu")
        (scores,) = scorer.score([clip(0)])
        assert scorer.labels == [label for label in known.labels if label not in background] + ["unknown"]
        assert scorer.unknown == len(scorer.labels) - 1
        by_label = dict(zip(known.labels, expected, strict=True))
        assert scores[-1] == pytest.approx(sum(by_label[label] for label in background), rel=1e-5)
        assert scores[:-1] == pytest.approx([by_label[label] for label in scorer.labels[:-1]], rel=1e-5)


def test_the_pipeline_has_the_same_labels_and_scores(scorer):
    classify = load_classifier(scorer.name)
    answer = classify(clip(1))
    (scores,) = scorer.score([clip(1)])
    assert {item["label"]: item["score"] for item in answer} == pytest.approx(
        dict(zip(scorer.labels, scores, strict=True)), rel=1e-4
    )
    assert [item["score"] for item in answer] == sorted((item["score"] for item in answer), reverse=True)
    assert classify(clip(1), top_k=1) == answer[:1]
    assert classify(clip(1), top_k=100) == answer
    logits = {item["label"]: item["score"] for item in classify(clip(1), function_to_apply="none")}
    odds = np.log(answer[0]["score"] / answer[1]["score"])
    assert logits[answer[0]["label"]] - logits[answer[1]["label"]] == pytest.approx(odds, abs=1e-2)


def test_predict_has_a_column_of_unknown(thresholded, tmp_path):
    soundfile.write(tmp_path / "x.wav", clip(2)["array"], RATE)
    assert run_predict(thresholded.name, [str(tmp_path / "x.wav")], output=tmp_path / "scores.csv") == 0
    (row,) = rows(tmp_path / "scores.csv")
    assert row["label"] == "unknown"
    assert float(row["p_unknown"]) == float(row["probability"]) > 0.99


def test_a_timeline_keeps_unknown_in_its_probabilities_and_not_in_its_segments(thresholded, tmp_path):
    soundfile.write(tmp_path / "x.wav", clip(3, 1.5)["array"], RATE)
    timeline = make_timeline(thresholded, Recording.open(tmp_path / "x.wav"), Windows())
    assert timeline.labels[timeline.unknown] == "unknown"
    assert (timeline.probabilities[:, timeline.unknown] > 0.99).all()
    assert find_segments(timeline) == []


def test_unknown_ends_a_segment_as_silence_does():
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.7, 0.3], [np.nan, np.nan]])
    recording = Recording(Path("x.wav"), 5.0, RATE)
    for unknown, expected in ((None, ["laugh", "unknown", "laugh"]), (1, ["laugh", "laugh"])):
        timeline = Timeline(recording, ["laugh", "unknown"], 1.0, probabilities, np.zeros(5), unknown=unknown)
        assert [segment.label for segment in find_segments(timeline)] == expected


def test_explanations_know_the_label_and_no_class_of_background(rejecting, thresholded):
    scorer = Scorer(str(rejecting["background"]), device="cpu")
    (scores,) = scorer.score([clip(4)])
    for explain in (occlusion_saliency, gradient_saliency):
        explained = explain(scorer, clip(4), "unknown")
        assert (explained.label, explained.probability) == ("unknown", pytest.approx(scores[-1], rel=1e-4))
        with pytest.raises(UserError, match="pain"):
            explain(scorer, clip(4), "pain")
    assert np.abs(gradient_saliency(scorer, clip(4), "unknown").relevance).max() > 0
    assert gradient_saliency(thresholded, clip(4)).label == "unknown"


def test_an_exported_graph_rejects_the_same_clips(tmp_path):
    """Of a checkpoint with both, so that one graph has all operators."""
    folder = write_checkpoint(tmp_path / "checkpoint", "mlp")
    config = json.loads((folder / "config.json").read_text()) | {"background_labels": ["pain", "anger"]}
    fitted = {"score": "max_logit", "threshold": 0.1, "rate": 0.05, "clips": 20}
    (folder / "config.json").write_text(json.dumps(config | {"open_set": fitted, "calibration_temperature": 2.0}))
    scorer = Scorer(str(folder), device="cpu")
    assert export_onnx(scorer, tmp_path / "onnx", int8=False) <= 1e-4
    (scores,) = scorer.score([clip(5)])
    session = onnxruntime.InferenceSession(tmp_path / "onnx" / MODEL)
    (exported,) = session.run(None, {"samples": clip(5)["array"][None]})
    np.testing.assert_allclose(exported[0], scores, atol=1e-4)
    assert json.loads((tmp_path / "onnx" / "model.json").read_text())["labels"] == scorer.labels


def test_the_page_shows_unknown(thresholded):
    bars = _bars(thresholded, thresholded.score([clip(6)])[0], None)
    assert bars.index(">unknown<") < bars.index(">achievement<")
