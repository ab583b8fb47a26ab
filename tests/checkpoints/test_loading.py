"""Encoders that are trained further: from half precision, from runs of this package, and refused ones."""

import json
from pathlib import Path

import pytest
import torch
from encoders import LABELS, RATE, SECONDS, WAVEFORM, encoder, write_encoders
from runner import encoder_flags, flags, run
from tiny import CONFIGS, clips, model_inputs
from transformers import (
    AutoFeatureExtractor,
    AutoModelForAudioClassification,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
)

from hf_vivae.checkpoints.adapters import freeze
from hf_vivae.checkpoints.load import load_checkpoint, load_encoder, load_for_inference, load_probe, load_registered
from hf_vivae.models import MODELS, build_feature_extractor, build_model
from hf_vivae.models.features_trimmed import trimming_extractor


@pytest.fixture(scope="module")
def encoders(tmp_path_factory) -> dict[str, Path]:
    return write_encoders(tmp_path_factory.mktemp("encoders"))


@pytest.fixture(scope="module")
def half(tmp_path_factory) -> Path:
    """A classifier of the library in half precision, as some are published."""
    folder = tmp_path_factory.mktemp("half")
    model = AutoModelForAudioClassification.from_config(Wav2Vec2Config(**WAVEFORM))
    model.to(torch.float16).save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text())["dtype"] == "float16"
    return folder


@pytest.mark.parametrize("load", [load_checkpoint, load_encoder, load_probe, "scratch", "named", "trained"])
def test_weights_of_half_precision_are_trained_in_single(half, load):
    if load == "named":
        model, _ = load_registered("wav2vec2", LABELS, {}, half)
    elif load == "trained":
        model, _ = load_for_inference(half)
    elif load == "scratch":
        model, _ = load_encoder(half, LABELS, {}, SECONDS, from_scratch=True)
    else:
        model, _ = load(half, LABELS, {}, SECONDS)
    assert {weight.dtype for weight in model.state_dict().values()} == {torch.float32}
    assert model.config.dtype in (torch.float32, None)


@pytest.mark.parametrize("load", ["named", "any"])
def test_weights_of_layers_that_a_checkpoint_lacks_start_alike(half, load):
    """The library leaves them uninitialised."""
    for _ in range(3):
        torch.full((10_000,), torch.nan)
        config = {"use_weighted_layer_sum": True}
        model, _ = (
            load_registered("wav2vec2", LABELS, config, half)
            if load == "named"
            else load_checkpoint(half, LABELS, config, 1.0)
        )
        assert model.layer_weights.tolist() == pytest.approx([1 / 3] * 3)


def saved(folder: Path, to: Path):
    """Save a model of this package with an encoder as a run does."""
    model, extractor = encoder(folder)
    model.save_pretrained(to)
    extractor.save_pretrained(to)
    return model


@pytest.mark.parametrize("kind", ["group norm", "conformer", "whisper"])
def test_training_goes_on_from_an_encoder_with_its_head(encoders, kind, tmp_path):
    before = saved(encoders[kind], tmp_path)
    model, extractor = load_checkpoint(
        tmp_path, LABELS, {"head_dropout": 0.5, "encoder": {"attention_dropout": 0.3}}, SECONDS
    )
    assert (model.head.dropout.p, model.encoder.config.to_dict()["attention_dropout"]) == (0.5, 0.3)
    trained = {name: weight.requires_grad for name, weight in model.named_parameters()}
    assert trained == {name: weight.requires_grad for name, weight in before.named_parameters()}
    inputs = model_inputs(extractor, clips(RATE), SECONDS)
    with torch.no_grad():
        expected = before(**inputs).logits
        torch.testing.assert_close(model.eval()(**inputs).logits, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pooling", ["mean_std", "attention"])
def test_a_head_of_other_labels_keeps_what_fits_and_starts_small(encoders, pooling, tmp_path):
    before, extractor = encoder(encoders["whisper"], pooling=pooling)
    before.save_pretrained(tmp_path)
    extractor.save_pretrained(tmp_path)
    for _ in range(3):
        model, _ = load_checkpoint(tmp_path, dict(enumerate("abcdefg")), {}, SECONDS)
        classifier = model.head.classifier
        assert classifier.weight.shape[0] == 7
        assert 0.01 < classifier.weight.std() < 0.03
        assert not classifier.bias.any()
        kept = {name: weight for name, weight in model.state_dict().items() if "classifier" not in name}
        torch.testing.assert_close(kept, {name: before.state_dict()[name] for name in kept}, atol=0, rtol=0)
        del model, classifier, kept
        torch.full((10_000,), torch.nan)  # as uninitialised memory may hold


def test_a_run_goes_on_from_another_ones_folder_and_warns_that_it_no_longer_trims(
    encoders, tiny_vivae, tmp_path, monkeypatch
):
    saved(encoders["whisper"], tmp_path / "first")
    extractor = AutoFeatureExtractor.from_pretrained(tmp_path / "first")
    trimming_extractor(extractor, {"trim_db": 40.0}).save_pretrained(tmp_path / "first")
    texts = []
    monkeypatch.setattr("hf_vivae.training.build.logger.warning_once", lambda text, *args: texts.append(text % args))
    argv = encoder_flags(tiny_vivae, tmp_path / "first", tmp_path / "second", "--freeze", "all_but_last_1")
    argv[argv.index("--model") + 1] = str(tmp_path / "first")
    rates = ["--learning_rate", "1e-4", "--head_learning_rate", "1e-2", "--num_train_epochs", "1"]
    results = run([*argv, *rates])
    assert results["test"]["n"] == 12
    assert texts == [f"{tmp_path / 'first'} was trained on clips trimmed with --trim_db 40, and now gets whole ones."]
    first, second = (load_for_inference(tmp_path / name)[0].state_dict() for name in ("first", "second/S01"))
    moved = {name for name, weight in first.items() if not torch.equal(weight, second[name]) and "head" not in name}
    assert moved
    assert {name.split(".")[2] for name in moved} == {"1"}


def test_weights_of_ours_cannot_be_frozen_in_part():
    for name in MODELS:
        if name == "wav2vec2":
            continue
        with pytest.raises(ValueError, match=r"^expected an encoder of the library with --freeze, found \w+, which"):
            freeze(build_model(name, **CONFIGS[name]), "all")


def test_a_head_of_ours_has_no_rate_of_its_own(tiny_vivae, tmp_path):
    build_model("mlp", **CONFIGS["mlp"], num_labels=6).save_pretrained(tmp_path / "mlp")
    build_feature_extractor("mlp", num_samples=2000).save_pretrained(tmp_path / "mlp")
    argv = flags(tiny_vivae, tmp_path / "run", "mlp", "--head_learning_rate", "1e-3")
    argv[argv.index("--model") + 1] = str(tmp_path / "mlp")
    sentence = "^expected an encoder of the library with --head_learning_rate, found MLPForAudioClassification, which"
    with pytest.raises(ValueError, match=sentence):
        run(argv)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ("x", "^expected the encoder's fields in --model_config as an object, found 'x'; give one, such as"),
        ({"layerdrop": 0.1}, "^expected layerdrop 0 of an encoder whose layers are all used, found 0.1; leave it"),
        ({"encoder_layerdrop": 0.2}, "^expected encoder_layerdrop 0 of an encoder"),
        ({"hiden": 1}, "has no field 'hiden'.*; correct or remove it"),
    ],
)
@pytest.mark.parametrize("load", [load_encoder, load_checkpoint])
def test_impossible_fields_of_an_encoder_are_refused(encoders, load, fields, sentence, tmp_path):
    saved(encoders["group norm"], tmp_path)
    folder = encoders["group norm"] if load is load_encoder else tmp_path
    with pytest.raises(ValueError, match=sentence):
        load(folder, LABELS, {"encoder": fields}, SECONDS)
