"""The public names of the package, used as a notebook uses them."""

import subprocess
import sys

import numpy as np
import pytest
from runner import ROOT
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification

import hf_vivae
from hf_vivae import audio
from hf_vivae.models import MODELS

BLOCK = next(block for block in (ROOT / "README.md").read_text().split("```python\n") if "VivaeTrainer(" in block)


@pytest.fixture(scope="module")
def notebook(tiny_vivae, tmp_path_factory) -> dict:
    """The variables of README's example after it ran on the tiny corpus."""
    folder, code = tmp_path_factory.mktemp("notebook"), BLOCK.split("```")[0]
    for old, new in {
        "load_synthetic()": f"load_vivae({str(tiny_vivae)!r}, allow_partial=True)",
        '"runs/notebook"': repr(str(folder)),
        "num_train_epochs=10": "num_train_epochs=2",
    }.items():
        assert code.count(old) == 1
        code = code.replace(old, new)
    variables: dict = {}
    exec(code, variables)
    return variables


def test_readmes_example_has_at_most_fifteen_lines_of_code():
    assert sum(bool(line.strip()) for line in BLOCK.split("```")[0].splitlines()) <= 15


def test_readmes_example_trains_evaluates_and_predicts(notebook):
    evaluation, test = notebook["scores"]
    assert (evaluation["eval_n"], test["test_n"], evaluation["epoch"]) == (12, 12, 2)
    assert set(test["test_auc"]) == set(hf_vivae.EMOTIONS)
    history = [entry["eval_uar"] for entry in notebook["trainer"].state.log_history if "eval_uar" in entry]
    assert len(history) == 3, "two epochs, and the evaluation of the best one"


def test_a_checkpoint_of_it_is_loaded_with_its_extractor_and_labels(notebook, tiny_vivae):
    checkpoint = notebook["trainer"].state.best_model_checkpoint
    model, extractor = (
        kind.from_pretrained(checkpoint) for kind in (AutoModelForAudioClassification, AutoFeatureExtractor)
    )
    assert list(model.config.id2label.values()) == list(hf_vivae.EMOTIONS)
    row = notebook["fold"].test[0]
    clip, rate = audio.load(tiny_vivae / "full_set" / notebook["clips"][row]["file"])
    logits = model.eval()(**extractor(clip, sampling_rate=rate, return_tensors="pt")).logits[0].detach()
    expected = notebook["trainer"].predict(notebook["features"].select([row])).predictions[0]
    np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_every_public_name_is_there_and_no_other_is():
    assert len(hf_vivae.__all__) == len(set(hf_vivae.__all__)) == 21
    for name in hf_vivae.__all__:
        assert getattr(hf_vivae, name) is not None
        assert name in dir(hf_vivae)
    assert hf_vivae.MODELS is MODELS
    with pytest.raises(AttributeError, match="has no attribute 'VivaeTrainers'"):
        hf_vivae.VivaeTrainers  # noqa: B018


def test_the_import_leaves_trainer_datasets_and_metrics_for_their_first_use():
    late = {"transformers.trainer", "datasets", "evaluate", "sklearn"}
    program = f"import sys, hf_vivae; sys.exit(bool({late} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)
