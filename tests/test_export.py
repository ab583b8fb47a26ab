"""ONNX from sound to probabilities: what onnxruntime says is what torch says, for all models that a graph can hold."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import soundfile
from checkpoints_of import write_checkpoint
from encoders import ENCODERS, encoder, write_encoder

from hf_vivae.inference.export import ABOUT, INT8, MODEL, export_onnx
from hf_vivae.inference.scorer import Scorer

NOT_EXPORTED = ("conformer", "squeezed", "w2v-bert")
EXAMPLE = Path(__file__).parents[1] / "docs" / "onnx_example.py"


def quick_first(kinds: Sequence[str], quick: str) -> list:
    """All kinds, of which the others than `quick` are slow."""
    return [kind if kind == quick else pytest.param(kind, marks=pytest.mark.slow) for kind in kinds]


def clip(rate: int, seconds: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, round(rate * seconds)).astype(np.float32)


def check(scorer: Scorer, folder: Path) -> None:
    session = onnxruntime.InferenceSession(folder / MODEL)
    for seconds in (0.2, 0.93, 1.7):
        sounds = [clip(scorer.sampling_rate, seconds, seed) for seed in range(3)]
        expected = scorer.score([{"array": sound, "sampling_rate": scorer.sampling_rate} for sound in sounds])
        (found,) = session.run(None, {"samples": np.stack(sounds)})
        np.testing.assert_allclose(found, np.stack(expected), atol=1e-4)


@pytest.mark.parametrize("name", ["mlp", "logistic-regression", "vit-32-30", "vit-8-23", "vit-base", "wav2vec2"])
def test_models_of_this_package(name, tmp_path):
    scorer = Scorer(str(write_checkpoint(tmp_path / "checkpoint", name)), device="cpu")
    exported = export_onnx(scorer, tmp_path / "onnx")
    assert exported.difference <= 1e-4
    check(scorer, tmp_path / "onnx")
    assert json.loads((tmp_path / "onnx" / ABOUT).read_text()) == {
        "labels": scorer.labels, "sampling_rate": scorer.sampling_rate,
    }  # fmt: skip
    assert (tmp_path / "onnx" / INT8).stat().st_size < (tmp_path / "onnx" / MODEL).stat().st_size


def encoder_scorer(kind: str, tmp_path: Path) -> Scorer:
    model, extractor = encoder(write_encoder(tmp_path / "encoder", kind))
    model.save_pretrained(tmp_path / "checkpoint")
    extractor.save_pretrained(tmp_path / "checkpoint")
    return Scorer(str(tmp_path / "checkpoint"), device="cpu")


@pytest.mark.parametrize("kind", quick_first([kind for kind in ENCODERS if kind not in NOT_EXPORTED], "whisper"))
def test_encoders_of_the_library(kind, tmp_path):
    scorer = encoder_scorer(kind, tmp_path)
    export_onnx(scorer, tmp_path / "onnx", int8=False)
    check(scorer, tmp_path / "onnx")


@pytest.mark.parametrize("kind", quick_first(NOT_EXPORTED, "squeezed"))
def test_encoders_that_torch_cannot_export_are_refused(kind, tmp_path):
    with pytest.raises(ValueError, match=r"expected a model that torch can export, found .* which it cannot; use"):
        export_onnx(encoder_scorer(kind, tmp_path), tmp_path / "onnx")
    assert list((tmp_path / "onnx").iterdir()) == []


def test_the_example_runs_without_torch(tmp_path):
    scorer = Scorer(str(write_checkpoint(tmp_path / "checkpoint")), device="cpu")
    export_onnx(scorer, tmp_path / "onnx", int8=False)
    soundfile.write(tmp_path / "clip.wav", clip(scorer.sampling_rate, 0.8), scorer.sampling_rate, subtype="FLOAT")
    without_torch = (
        "import runpy, sys; sys.modules['torch'] = None; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", without_torch, EXAMPLE, tmp_path / "onnx", tmp_path / "clip.wav"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    (scores,) = scorer.score([str(tmp_path / "clip.wav")])
    expected = sorted(zip(scores, scorer.labels, strict=True), reverse=True)
    assert done.stdout.splitlines() == [f"{probability:5.1%}  {label}" for probability, label in expected]


def test_a_checkpoint_that_trims_silence_is_refused(tmp_path):
    scorer = Scorer(str(write_checkpoint(tmp_path / "checkpoint")), device="cpu")
    scorer.extractor.trim_db = 40.0
    with pytest.raises(ValueError, match="found one that trims silence, which no graph does; train without --trim_db"):
        export_onnx(scorer, tmp_path / "onnx")
