"""The public names of the package, used as a notebook uses them."""

import json
import subprocess
import sys

import numpy as np
import pytest
from checkpoints_of import write_checkpoint
from predicting import sound
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


# of which neither the package nor labelling a clip has need
LATE = [
    "audiomentations", "datasets", "evaluate", "hf_vivae.evaluation", "hf_vivae.hub", "hf_vivae.training",
    "matplotlib", "opensmile", "pandas", "peft", "scipy.signal", "scipy.stats", "sklearn", "timm",
    "transformers.trainer",
]  # fmt: skip
# prints after each step which modules it has loaded, how often all objects were collected, and how many are frozen
STEPS = """
import contextlib, gc, io, json, runpy, sys

before = gc.get_stats()[2]["collections"]

def report(step):
    with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.suppress(SystemExit):
        step()
    full = gc.get_stats()[2]["collections"] - before
    print(json.dumps([printed.getvalue(), sorted(sys.modules), full, gc.get_freeze_count(), gc.isenabled()]))

def train():
    sys.argv[:] = [script, "--help"]
    runpy.run_path(script, run_name="__main__")

_, script, *command = sys.argv
report(lambda: __import__("hf_vivae"))
report(lambda: __import__("hf_vivae_cli").app(command))
report(train)
"""


@pytest.fixture(scope="module")
def steps(tmp_path_factory) -> list[tuple[str, set[str], int, int, bool]]:
    """States of a new process after the import of the package, `hf-vivae predict` of a clip, and `train.py --help`."""
    folder = tmp_path_factory.mktemp("steps")
    (folder / "a.wav").write_bytes(sound(0))
    command = ["predict", str(write_checkpoint(folder / "checkpoint")), str(folder / "a.wav")]
    argv = [sys.executable, "-c", STEPS, str(ROOT / "recipes" / "train.py"), *command]
    printed = subprocess.run(argv, check=True, capture_output=True, text=True, cwd=ROOT).stdout
    return [(text, set(modules), *more) for text, modules, *more in map(json.loads, printed.splitlines())]


def test_import_and_predict_leave_what_they_do_not_need_for_its_first_use(steps):
    (_, imported, *_), (label, predicted, *_), _ = steps
    assert label.partition("\t")[0].endswith("a.wav")
    assert imported.intersection(LATE) == set()
    assert predicted.intersection(LATE) == set()


def test_training_does_not_import_what_pushes_and_compares_runs(steps):
    text, modules, *_ = steps[2]
    assert text.startswith("usage: train.py")
    assert "hf_vivae.training.run" in modules
    assert modules.isdisjoint({"hf_vivae.hub", "hf_vivae.evaluation", "sklearn", "matplotlib"})


def test_the_garbage_collector_does_not_pass_over_imported_modules(steps):
    """Its passes took a sixth of the import, and the last one most of a second at the end of each command."""
    (*_, full, frozen, collects), (*_, frozen_by_command, _), _ = steps
    assert (full, frozen, collects) == (0, 0, True), "a notebook's own objects stay collectable"
    assert frozen_by_command > 100_000
