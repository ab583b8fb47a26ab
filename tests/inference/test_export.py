"""ONNX from sound to probabilities: onnxruntime gives those of torch, for all models that a graph can hold."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
import soundfile
from checkpoints_of import write_checkpoint
from encoders import ENCODERS, encoder, write_encoder

from hf_vivae.inference import export
from hf_vivae.inference.export import ABOUT, INT8, MODEL, export_onnx, run_export
from hf_vivae.inference.scorer import Scorer
from hf_vivae.validation import UserError

NOT_EXPORTED = ("conformer", "squeezed", "w2v-bert")
EXAMPLE = Path(__file__).parents[2] / "docs" / "onnx_example.py"


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


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> tuple[Scorer, Path, float]:
    """A scorer, the folder of its export and the largest difference between the two."""
    folder = tmp_path_factory.mktemp("exported")
    scorer = Scorer(str(write_checkpoint(folder / "checkpoint")), device="cpu")
    return scorer, folder / "onnx", export_onnx(scorer, folder / "onnx")


def test_a_spectrogram_transformer(exported):
    check_export(*exported)


@pytest.mark.parametrize(
    "name",
    [
        "mlp",
        "vit-base",
        "wav2vec2",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("logistic-regression", "vit-8-23")),
    ],
)
def test_models_of_this_package(name, tmp_path):
    scorer = Scorer(str(write_checkpoint(tmp_path / "checkpoint", name)), device="cpu")
    check_export(scorer, tmp_path / "onnx", export_onnx(scorer, tmp_path / "onnx"))


def check_export(scorer: Scorer, folder: Path, difference: float) -> None:
    assert difference <= 1e-4
    check(scorer, folder)
    assert {file.name for file in folder.iterdir()} == {MODEL, INT8, ABOUT}
    assert json.loads((folder / ABOUT).read_text()) == {
        "labels": scorer.labels, "sampling_rate": scorer.sampling_rate,
    }  # fmt: skip
    assert (folder / INT8).stat().st_size < (folder / MODEL).stat().st_size


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


def test_the_example_runs_without_torch(exported, tmp_path):
    scorer, folder, _ = exported
    soundfile.write(tmp_path / "clip.wav", clip(scorer.sampling_rate, 0.8), scorer.sampling_rate, subtype="FLOAT")
    without_torch = (
        "import runpy, sys; sys.modules['torch'] = None; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", without_torch, EXAMPLE, folder, tmp_path / "clip.wav"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    (scores,) = scorer.score([str(tmp_path / "clip.wav")])
    expected = sorted(zip(scores, scorer.labels, strict=True), reverse=True)
    assert done.stdout.splitlines() == [f"{probability:5.1%}  {label}" for probability, label in expected]


def test_a_checkpoint_that_trims_silence_is_refused(tmp_path):
    scorer = Scorer(str(write_checkpoint(tmp_path / "checkpoint")), device="cpu")
    scorer.extractor.trim_db = 40.0
    with pytest.raises(
        ValueError, match="found one that trims silence, which a graph cannot; train without --trim_db"
    ):
        export_onnx(scorer, tmp_path / "onnx")


def test_an_export_replaces_an_earlier_one_and_leaves_nothing_of_it(tmp_path, monkeypatch):
    scorer = Scorer(str(write_checkpoint(tmp_path / "checkpoint", "logistic-regression")), device="cpu")
    folder, content = tmp_path / "onnx", b"earlier"
    graph = SimpleNamespace(save=lambda file: file.write_bytes(content))
    monkeypatch.setattr(export, "_to_graph", lambda *_: graph)
    monkeypatch.setattr(export, "_largest_difference", lambda *_: 0.0)
    monkeypatch.setattr(export, "_quantize", lambda _, file: file.write_bytes(content))
    export_onnx(scorer, folder)
    earlier = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert earlier.keys() == {MODEL, INT8, ABOUT}
    content = b"later"

    def fail(*_):
        raise RuntimeError("no memory")

    with monkeypatch.context() as failing:
        failing.setattr(export, "_quantize", fail)
        with pytest.raises(RuntimeError, match="no memory"):
            export_onnx(scorer, folder)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == earlier
    (folder / ".1234.model.onnx").write_text("of an export that was killed")
    export_onnx(scorer, folder, int8=False)
    assert (folder / MODEL).read_bytes() == b"later"
    assert not (folder / INT8).exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (ABOUT, '{"name": "a project"}'),
        (ABOUT, "[1]"),
        (ABOUT, "no JSON"),
        (MODEL, "a model of somebody else"),
        ("run.json", "{}"),
        ("notes.txt", ""),
    ],
)
def test_no_folder_with_files_of_something_else_is_written_to(name, content, tmp_path):
    (tmp_path / name).write_text(content)
    if name not in (ABOUT, MODEL):
        (tmp_path / ABOUT).write_text(json.dumps({"labels": ["anger"], "sampling_rate": 44100}))
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    expected = (
        rf"^expected a new folder, or one that hf-vivae export has written, found .* with {name} of something else"
    )
    with pytest.raises(UserError, match=expected):
        run_export("nowhere", tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
