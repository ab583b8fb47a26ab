"""Checkpoints of strangers: beyond all measure, damaged, or with a pickle that acts when it is read.

Pickled weights, and code that `auto_map` names: test_checkpoints, test_classifier, test_push.
"""

import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from runner import flags, run
from tiny import CONFIGS

from hf_vivae import load_classifier
from hf_vivae.loading import load_any
from hf_vivae.models import build_feature_extractor, build_model
from hf_vivae.trainer import VivaeTrainer
from hf_vivae.validation import UserError

AGAIN = "get the checkpoint again from its source"
LABELS = {0: "cough", 1: "laugh"}


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    build_model("mlp", **CONFIGS["mlp"], num_labels=2).save_pretrained(folder)
    build_feature_extractor("mlp", num_samples=2000).save_pretrained(folder)
    assert load_classifier(folder) is not None
    return folder


def config(**changes) -> dict[str, str]:
    return {"config.json": changes}


BROKEN = {
    "width": (config(hidden_sizes=[10**9]), "expected weights in .* of the shapes that its config.json says"),
    "samples": (config(num_samples=10**12), "expected weights in .* of the shapes that its config.json says"),
    "labels": (config(num_labels=10**8), r"expected at most 100000 labels in .*config\.json, found num_labels 1"),
    "300 MB": ({"config.json": b'{"a": "' + bytes(9 * 2**20)}, r"expected at most 8 MiB in .*config\.json, found 9; "),
    "depth": ({"config.json": b"[" * 10**6}, r"expected JSON in .*config\.json, found a damaged file \(maximum recur"),
    "cut": ({"config.json": b'{"model_type": '}, r"expected JSON in .*config\.json, found a damaged file \(Expecting"),
    "no text": ({"config.json": b"\xff\xfe\0"}, r"expected JSON in .*config\.json, found a damaged file \('utf-8'"),
    "list": ({"config.json": b"[]"}, r"expected a JSON object in .*config\.json, found list; "),
    "extractor": ({"preprocessor_config.json": b"{"}, r"expected JSON in .*preprocessor_config\.json, found a"),
    "header": ({"model.safetensors": (2**40).to_bytes(8, "little") + b"{"}, "expected whole weights in .*, found"),
    "empty": ({"model.safetensors": b""}, "expected whole weights in .*, found damaged ones"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_beyond_measure_or_damaged_is_one_sentence(kind, good, tmp_path):
    changes, sentence = BROKEN[kind]
    folder = shutil.copytree(good, tmp_path / "broken")
    for name, change in changes.items():
        fields = json.dumps(json.loads((folder / name).read_text()) | change) if isinstance(change, dict) else change
        (folder / name).write_bytes(fields.encode() if isinstance(fields, str) else fields)
    with pytest.raises(ValueError, match=f"^{sentence}"):
        load_classifier(folder)


@pytest.mark.parametrize("kind", ["labels", "300 MB", "depth", "cut", "list", "header", "empty"])
def test_nor_is_it_trained_further(kind, good, tmp_path):
    changes, sentence = BROKEN[kind]
    folder = shutil.copytree(good, tmp_path / "broken")
    for name, change in changes.items():
        fields = json.dumps(json.loads((folder / name).read_text()) | change) if isinstance(change, dict) else change
        (folder / name).write_bytes(fields.encode() if isinstance(fields, str) else fields)
    with pytest.raises(ValueError, match=f"^{sentence}"):
        load_any(folder, LABELS, {}, 1.0)


class Acts:
    """What makes a file when it is read with pickle."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


def test_the_pickle_of_this_test_acts(tmp_path):
    pickle.loads(pickle.dumps(Acts(tmp_path / "executed")))
    assert (tmp_path / "executed").exists()


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"])
def test_pickles_beside_a_checkpoint_that_is_resumed_do_not_act(name, tiny_vivae, tmp_path, monkeypatch):
    argv = flags(tiny_vivae, tmp_path / "run", "mlp")
    save = VivaeTrainer._save_checkpoint

    def save_and_end(self, *args) -> None:
        save(self, *args)
        raise KeyboardInterrupt

    with monkeypatch.context() as ending:
        ending.setattr(VivaeTrainer, "_save_checkpoint", save_and_end)
        with pytest.raises(KeyboardInterrupt):
            run(argv)
    [checkpoint] = (tmp_path / "run").glob("S01/checkpoint-*")
    assert name in os.listdir(checkpoint)
    torch.save(Acts(tmp_path / "executed"), checkpoint / name)
    if name == "training_args.bin":  # which nobody reads
        run(argv)
    else:
        with pytest.raises(
            UserError, match=r"^expected the optimizer, .*, found others \(Weights only load failed.*; rem"
        ):
            run(argv)
        assert checkpoint.is_dir(), "it is the user who removes it"
        (checkpoint / name).write_bytes(pickle.dumps(Acts(tmp_path / "executed")))  # not as torch writes it: cut
        run(argv)
    assert not (tmp_path / "executed").exists()
