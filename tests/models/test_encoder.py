"""Encoders with this package's head: no score depends on batch-mates, and a checkpoint is exported with its code."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from encoders import ENCODERS, LABELS, RATE, SECONDS, encoder, write_encoders
from runner import encoder_flags, run
from tiny import clips, model_inputs
from transformers import AutoModelForAudioClassification, pipeline

import hf_vivae
from hf_vivae.checkpoints.adapters import freeze
from hf_vivae.checkpoints.load import load_encoder, load_for_inference, load_probe
from hf_vivae.features.cache import build_features
from hf_vivae.models.encoder import POOLINGS, EncoderConfig, EncoderForAudioClassification, EncoderHead
from hf_vivae.models.hidden_states import hidden_states
from hf_vivae.run_folder import read_predictions


@pytest.fixture(scope="module")
def encoders(tmp_path_factory) -> dict[str, Path]:
    """A folder with random weights for each kind of encoder."""
    return write_encoders(tmp_path_factory.mktemp("encoders"))


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("name", ENCODERS)
@torch.no_grad()
def test_a_score_depends_on_its_own_clip_only_and_is_the_same_after_a_reload_and_in_a_pipeline(
    encoders, name, pooling, tmp_path
):
    model, extractor = encoder(encoders[name], pooling=pooling)
    sounds = clips(RATE)
    together = model(**model_inputs(extractor, sounds, SECONDS)).logits
    assert together.std() > 0.05
    alone = [model(**model_inputs(extractor, [sound], SECONDS)).logits[0] for sound in sounds]
    torch.testing.assert_close(torch.stack(alone), together, atol=1e-5, rtol=1e-4)
    model.save_pretrained(tmp_path)
    extractor.save_pretrained(tmp_path)
    classify = pipeline("audio-classification", str(tmp_path), top_k=None)
    for found, row in zip(classify(sounds, batch_size=len(sounds)), together.softmax(-1), strict=True):
        scores = {item["label"]: item["score"] for item in found}
        assert scores == pytest.approx({LABELS[i]: float(p) for i, p in enumerate(row)}, abs=1e-4)


def test_the_head_weighs_layers_and_frames_as_written_out_by_hand():
    config = EncoderConfig({"model_type": "wav2vec2"}, pooling="mean_std", head_dropout=0.0, num_labels=2)
    head = EncoderHead(config, states=2, width=3)
    rng = np.random.default_rng(0)
    states, mask = rng.normal(size=(2, 1, 4, 3)).astype(np.float32), np.array([[1, 1, 1, 0]])
    with torch.no_grad():
        head.layer_weights.copy_(torch.tensor([np.log(3.0), 0.0]))  # 3/4 and 1/4
        found = head(tuple(map(torch.from_numpy, states)), torch.from_numpy(mask))
    frames = (0.75 * states[0] + 0.25 * states[1])[0, :3]
    pooled = np.concatenate((frames.mean(0), np.sqrt(frames.var(0) + 1e-5)))
    normalized = (pooled - pooled.mean()) / np.sqrt(pooled.var() + 1e-5)
    expected = head.classifier(torch.from_numpy(normalized.astype(np.float32))[None])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_attention_can_select_one_frame_and_never_padding():
    config = EncoderConfig({"model_type": "wav2vec2"}, pooling="attention", num_labels=2)
    head = EncoderHead(config, states=1, width=1)
    with torch.no_grad():
        head.attention.weight.fill_(50.0)
    frames = torch.tensor([[[0.0], [1.0], [9.0]]])
    weights = head._weigh_frames(frames, torch.tensor([[1, 1, 0]]))
    torch.testing.assert_close(weights[0, :, 0], torch.tensor([0.0, 1.0, 0.0]))


@pytest.mark.parametrize("name", ENCODERS)
def test_the_last_state_is_the_output_of_the_encoder_and_every_weight_learns(encoders, name):
    """Some encoders end with a norm, whose output is missing in the library's list of hidden states."""
    model, extractor = encoder(encoders[name])
    inputs = model_inputs(extractor, clips(RATE), SECONDS)
    with torch.no_grad():
        for module in model.encoder.modules():
            if isinstance(module, torch.nn.LayerNorm) and module.elementwise_affine:
                module.bias.normal_()  # else a second norm after another would change little
        states, _ = hidden_states(model.encoder, **inputs)
        # Whisper's own forward takes full windows only, and is compared below
        if name != "whisper":
            expected = model.encoder(**inputs).last_hidden_state
            assert (states[-1].shape == expected.shape) == (name != "squeezed"), "SEW gives two frames for each"
            if name != "squeezed":
                torch.testing.assert_close(states[-1], expected, atol=0, rtol=0)
    freeze(model, "none")
    model(**inputs).logits.square().sum().backward()
    dead = [key for key, weight in model.named_parameters() if weight.requires_grad and weight.grad is None]
    assert [key for key in dead if "masked_spec_embed" not in key] == []  # used in training only


@pytest.mark.parametrize("name", [name for name in ENCODERS if name != "whisper"])
def test_no_layer_is_left_out_while_training(encoders, name):
    model, extractor = load_encoder(encoders[name], LABELS, {}, SECONDS)
    for _ in range(5):  # the library's layer drop of 0.1 would skip a layer and shorten the list of states
        model.train()(**model_inputs(extractor, clips(RATE), SECONDS))


@torch.no_grad()
def test_whisper_equals_the_librarys_own_forward_where_a_clip_fills_its_window(encoders):
    model, extractor = encoder(encoders["whisper"], layer_weights=False, pooling="mean")
    sound = np.resize(clips(RATE)[0], 30 * RATE)
    found = model(**model_inputs(extractor, [sound], 30.0)).logits
    inputs = extractor(sound, sampling_rate=RATE, return_tensors="pt", return_attention_mask=None)
    state = model.encoder(**inputs).last_hidden_state
    torch.testing.assert_close(found, model.head((state,) * 3, None), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("load", "pooling"), [(encoder, "attention"), (encoder, "mean_std"), ("probe", None)])
@pytest.mark.parametrize("name", ["group norm", "conformer", "whisper"])
@torch.no_grad()
def test_a_checkpoint_predicts_in_half_precision(encoders, name, load, pooling, precision, tmp_path):
    if load == "probe":
        model, extractor = load_probe(encoders[name], LABELS, {}, SECONDS)
    else:
        model, extractor = encoder(encoders[name], pooling=pooling)
    model.save_pretrained(tmp_path)
    inputs = model_inputs(extractor, clips(RATE), SECONDS)
    expected = model(**inputs).logits
    half = AutoModelForAudioClassification.from_pretrained(tmp_path, dtype=precision).eval()
    assert {weight.dtype for weight in half.parameters()} == {precision}
    torch.testing.assert_close(half(**inputs).logits.float(), expected, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("name", ["group norm", "whisper"])
def test_an_encoder_attends_as_it_is_asked_to(encoders, name, tmp_path):
    model, extractor = encoder(encoders[name])
    model.save_pretrained(tmp_path)
    eager = AutoModelForAudioClassification.from_pretrained(tmp_path, attn_implementation="eager").eval()
    kinds = [one.encoder.config._attn_implementation for one in (model, eager)]
    assert kinds == ["sdpa", "eager"]
    inputs = model_inputs(extractor, clips(RATE), SECONDS)
    with torch.no_grad():
        torch.testing.assert_close(eager(**inputs).logits, model(**inputs).logits, atol=1e-5, rtol=1e-5)
    eager.set_attn_implementation("sdpa")
    assert eager.encoder.config._attn_implementation == "sdpa"


def test_a_mel_frame_of_padding_has_no_effect(encoders):
    model, extractor = encoder(encoders["whisper"])
    inputs = model_inputs(extractor, clips(RATE), SECONDS)
    shortest = int(inputs["attention_mask"].sum(-1).argmin())
    before = model(**inputs).logits[shortest]
    padding = inputs["attention_mask"][shortest] == 0
    assert padding.any()
    inputs["input_features"][shortest][:, padding] = 7.0
    torch.testing.assert_close(model(**inputs).logits[shortest], before, atol=0, rtol=0)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"head_dropout": 1.5}, "expected head_dropout of 0 to 1, found 1.5; 0.2 is usual"),
        ({"encoder": {"mask_time_prob": 0.1}}, "expected no masks of Whisper's own, which .* found mask_time_prob in"),
        ({"encoder": {"_name_or_path": "x"}}, "has no field '_name_or_path'"),
        ({"pooling": "max"}, "expected pooling out of mean, mean_std, attention, found 'max'; give one of them"),
        ({"poolin": "mean"}, r"an encoder's head has no field 'poolin' \(did you mean pooling\?\); correct or"),
    ],
)
def test_unknown_settings_of_a_head_are_named(encoders, config, sentence):
    with pytest.raises(ValueError, match=sentence):
        load_encoder(encoders["whisper"], LABELS, config, SECONDS)


def test_settings_of_the_encoder_itself_reach_it(encoders):
    model, _ = load_encoder(encoders["group norm"], LABELS, {"encoder": {"mask_time_prob": 0.3}}, SECONDS)
    assert model.encoder.config.mask_time_prob == model.config.encoder.mask_time_prob == 0.3


@pytest.fixture(scope="module")
def trained(tiny_vivae, encoders, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("encoder")
    run(encoder_flags(tiny_vivae, encoders["whisper"], output))
    return output / "S01"


def test_the_checkpoint_gives_the_predictions_of_its_run(trained, tiny_vivae):
    model, extractor = load_for_inference(trained)
    assert isinstance(model, EncoderForAudioClassification)
    corpus = hf_vivae.corpus.read_vivae(tiny_vivae, allow_partial=True).dataset
    sounds = {row["file"]: row["audio"] for row in corpus}
    for row in read_predictions(trained)[:5]:
        samples, _ = hf_vivae.audio.load(sounds[row["file"]], RATE)
        with torch.no_grad():
            logits = model(**extractor(samples, sampling_rate=RATE, return_tensors="pt")).logits[0]
        assert logits.tolist() == pytest.approx(row["logits"], abs=1e-4)


def test_the_checkpoint_carries_its_code(trained):
    config = json.loads((trained / "config.json").read_text())
    assert config["auto_map"]["AutoModelForAudioClassification"] == "encoder.EncoderForAudioClassification"
    assert {"encoder.py", "wrapped.py", "hidden_states.py", "padding.py", "features_whisper.py"} <= {
        path.name for path in trained.glob("*.py")
    }


def test_the_recipe_trains_head_and_encoder_at_rates_of_their_own(trained):
    record = json.loads((trained / "run.json").read_text())
    assert record["run"]["recipe"] == "tuned"
    assert record["training"]["head_learning_rate"] > record["training"]["learning_rate"] > 0


@pytest.mark.parametrize("rate", [0, 8_000_000, None, "16000"])
def test_a_rate_that_no_clip_can_have_is_refused(encoders, rate, tmp_path):
    shutil.copytree(encoders["layer norm"], tmp_path / "odd")
    file = tmp_path / "odd" / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"sampling_rate": rate}))
    with pytest.raises(ValueError, match=f"a sampling_rate of 1000 to 768000 Hz in .*, found {rate!r}; correct"):
        load_encoder(tmp_path / "odd", LABELS, {}, SECONDS)


def test_a_backbone_of_another_rate_is_refused_unless_it_was_pretrained_so(encoders, tiny_vivae, tmp_path):
    shutil.copytree(encoders["layer norm"], tmp_path / "fast")
    file = tmp_path / "fast" / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"sampling_rate": 22050}))
    for load in (load_encoder, load_probe):
        with pytest.raises(ValueError, match=r"of 16000 Hz, at which the encoder was pretrained, found 22050 Hz"):
            load(tmp_path / "fast", LABELS, {}, SECONDS)
    with pytest.raises(ValueError, match=r"of 8000 Hz, .* found 22050 Hz"):
        load_encoder(tmp_path / "fast", LABELS, {"sampling_rate": 8000}, SECONDS)
    model, extractor = load_encoder(tmp_path / "fast", LABELS, {"sampling_rate": 22050}, SECONDS)
    assert model.config.sampling_rate == 22050
    corpus = hf_vivae.corpus.read_vivae(tiny_vivae, allow_partial=True).dataset.select(range(2))
    features = build_features(corpus, extractor, SECONDS).with_format("numpy")
    for row, kept in zip(corpus, features, strict=True):
        assert len(kept["input_values"]) == len(hf_vivae.audio.load(row["audio"], 22050)[0])


def test_an_encoder_takes_clips_at_the_rate_that_it_was_pretrained_with(encoders, tiny_vivae, tmp_path):
    with pytest.raises(ValueError, match=r"--resample false needs .* and 44100 Hz; leave it out"):
        run(encoder_flags(tiny_vivae, encoders["layer norm"], tmp_path, "--resample", "false"))
