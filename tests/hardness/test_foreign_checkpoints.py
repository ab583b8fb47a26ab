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
from checkpoints_of import write_checkpoint
from locked import lock
from runner import flags, run
from safetensors.torch import load_file, save_file
from tiny import CONFIGS

from hf_vivae import load_classifier
from hf_vivae.checkpoints.load import load_checkpoint
from hf_vivae.checkpoints.resolve import remember, resolve_checkpoint
from hf_vivae.inference.scorer import checkpoint_digest
from hf_vivae.models import build_feature_extractor, build_model
from hf_vivae.training.trainer import VivaeTrainer
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
    "width": (config(hidden_sizes=[10**9]), "expected weights in .* of the shapes that its config.json states"),
    "samples": (config(num_samples=10**12), "expected weights in .* of the shapes that its config.json states"),
    "labels": (config(num_labels=10**8), r"expected at most 100000 labels in .*config\.json, found num_labels 1"),
    "300 MB": ({"config.json": b'{"a": "' + bytes(9 * 2**20)}, r"expected at most 8 MiB in .*config\.json, found 9; "),
    "depth": ({"config.json": b"[" * 10**6}, r"expected JSON in .*config\.json, found a damaged file \(maximum recur"),
    "cut": ({"config.json": b'{"model_type": '}, r"expected JSON in .*config\.json, found a damaged file \(Expecting"),
    "no text": ({"config.json": b"\xff\xfe\0"}, r"expected text in UTF-8, found none in .*config\.json"),
    "list": ({"config.json": b"[]"}, r"expected a JSON object in .*config\.json, found list; "),
    "extractor": ({"preprocessor_config.json": b"{"}, r"expected JSON in .*preprocessor_config\.json, found a"),
    "header": ({"model.safetensors": (2**40).to_bytes(8, "little") + b"{"}, "expected whole weights in .*, found"),
    "empty": ({"model.safetensors": b""}, "expected whole weights in .*, found damaged ones"),
    "index": ({"model.safetensors.index.json": b"{"}, r"expected JSON in .*/model\.safetensors\.index\.json, found"),
    "type": (config(model_type=["mlp"]), r"expected model_type as text in .*/config\.json, found \['mlp'\]; get"),
    "code": (config(auto_map="x"), r"expected auto_map as an object in .*/config\.json, found 'x'; get"),
    "labels in a list": (config(id2label=["a", "b"]), "expected values that the configuration of .* can be built wit"),
    "gap": (config(id2label={0: "a", 2: "b"}), "expected different names of labels, .*, found the numbers 0, 2; corr"),
    "same": (config(id2label={0: "a", 1: "a"}), "expected different names of labels, .*, found 'a' more than once; "),
    "number": (config(id2label={0: "a", 1: 1}), "expected different names of labels, .*, found 1; correct them"),
    "null": (config(id2label={0: "a", 1: None}), "expected different names of labels, .*, found None; correct them"),
    "no name": (config(id2label={0: "a", 1: " "}), "expected different names of labels, .*, found ' '; correct them"),
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


@pytest.mark.parametrize("kind", ["labels", "300 MB", "depth", "cut", "list", "header", "empty", "type", "code"])
def test_nor_is_it_trained_further(kind, good, tmp_path):
    changes, sentence = BROKEN[kind]
    folder = shutil.copytree(good, tmp_path / "broken")
    for name, change in changes.items():
        fields = json.dumps(json.loads((folder / name).read_text()) | change) if isinstance(change, dict) else change
        (folder / name).write_bytes(fields.encode() if isinstance(fields, str) else fields)
    with pytest.raises(ValueError, match=f"^{sentence}"):
        load_checkpoint(folder, LABELS, {}, 1.0)


EXTRACTORS = {
    "num_frames": 3,  # which follows from others
    "hop_length": 0,
    "hop_length of text": "x",
    "num_mel_bins": 0,
    "mean": "x",
    "mean of NaN": float("nan"),
}


@pytest.mark.parametrize("field", EXTRACTORS)
def test_an_extractor_that_fails_with_every_clip_is_said_before_the_first(field, hearing, tmp_path):
    folder = shutil.copytree(hearing, tmp_path / "broken")
    file = folder / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {field.split()[0]: EXTRACTORS[field]}))
    for load in (load_classifier, lambda folder: load_checkpoint(folder, LABELS, {}, 1.0)):
        with pytest.raises(UserError, match=r"^expected values that the feature extractor of .*broken can be built w"):
            load(folder)


@pytest.fixture(scope="module")
def hearing(tmp_path_factory) -> Path:
    """A checkpoint whose feature extractor makes spectrograms."""
    return write_checkpoint(tmp_path_factory.mktemp("hearing"))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_named(value, good, tmp_path):
    """Each clip was blamed for the scores, and the export failed in a library."""
    folder = shutil.copytree(good, tmp_path / "broken")
    weights = load_file(folder / "model.safetensors")
    name = sorted(weights)[0]
    weights[name].view(-1)[-1] = value
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    for load in (load_classifier, lambda folder: load_checkpoint(folder, LABELS, {}, 1.0)):
        with pytest.raises(
            UserError, match=rf"^expected finite weights in .*, found .* in 1 of them \(first: {name}\)"
        ):
            load(folder)


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "model.safetensors"])
def test_a_file_that_may_not_be_read_is_named(name, good, monkeypatch):
    lock(good / name, monkeypatch)
    sentence = rf"^expected a checkpoint that can be read, found {good / name} \(Permission denied\); change its perm"
    with pytest.raises(UserError, match=sentence):
        checkpoint_digest(good)
    if name != "model.safetensors":  # which safetensors opens by itself
        with pytest.raises(UserError, match=sentence):
            load_classifier(good)


def test_a_folder_that_may_not_be_read_is_named(good, tmp_path, monkeypatch):
    folder = shutil.copytree(good, tmp_path / "outer" / "inner")
    lock(tmp_path / "outer", monkeypatch)
    with pytest.raises(UserError, match=r"found '.*outer/inner' \(Permission denied\); check the path and its permis"):
        load_classifier(folder)
    with pytest.raises(UserError, match=r"found .*outer/config.json \(Permission denied\); change its permissions"):
        load_classifier(tmp_path / "outer")


def test_a_cache_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_VIVAE_CACHE", str(tmp_path / "cache"))
    remember("some/model", "0" * 40)
    lock(tmp_path / "cache", monkeypatch)
    with pytest.raises(UserError, match=r"^expected a cache folder that can be read, found .*some--model \(Permissio"):
        resolve_checkpoint("some/model")


class Acts:
    """An object that writes a file when pickle reads it."""

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
