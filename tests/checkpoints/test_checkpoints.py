"""Checkpoints of others: encoders of the library with short inputs, weights from folders, and no network."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import CONFIGS, clips, model_inputs
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTForAudioClassification,
    AutoFeatureExtractor,
    AutoModelForAudioClassification,
    HubertConfig,
    HubertForSequenceClassification,
    SEWConfig,
    SEWForSequenceClassification,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForSequenceClassification,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForAudioClassification,
    pipeline,
)

from hf_vivae.checkpoints import resolve as checkpoints
from hf_vivae.checkpoints.load import load_checkpoint, load_registered
from hf_vivae.checkpoints.resolve import find_checkpoint, resolve_checkpoint
from hf_vivae.models import WaveformFeatureExtractor, build_model

LABELS = {0: "cough", 1: "laugh", 2: "scream"}
REAL = Path(__file__).parents[3] / "shared" / "real" / "models" / "whisper-tiny-encoder"
WAVE = {key: value for key, value in CONFIGS["wav2vec2"].items()}


def library_model(kind: str):
    """Return a tiny model of the library and the extractor it is published with."""
    torch.manual_seed(0)
    if kind == "whisper":
        config = WhisperConfig(d_model=16, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=24)
        return WhisperForAudioClassification(config), WhisperFeatureExtractor()
    if kind == "ast":
        config = ASTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24)
        return ASTForAudioClassification(config), ASTFeatureExtractor()
    if kind == "sew":
        return SEWForSequenceClassification(SEWConfig(**WAVE)), Wav2Vec2FeatureExtractor()
    if kind == "hubert-group":
        return HubertForSequenceClassification(HubertConfig(**WAVE)), Wav2Vec2FeatureExtractor()
    config = Wav2Vec2Config(**WAVE, feat_extract_norm="layer", do_stable_layer_norm=True)
    return Wav2Vec2ForSequenceClassification(config), Wav2Vec2FeatureExtractor(return_attention_mask=True)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Folder of each library checkpoint, with two labels of its own."""
    folders = {}
    for kind in ("whisper", "ast", "hubert-group", "wav2vec2-layer", "sew"):
        folders[kind] = tmp_path_factory.mktemp(kind)
        for part in library_model(kind):
            part.save_pretrained(folders[kind])
    return folders


@pytest.mark.parametrize("kind", ["whisper", "ast", "hubert-group", "wav2vec2-layer", "sew"])
def test_a_librarys_checkpoint_is_loaded_saved_and_piped_as_it_was_trained(kind, published, tmp_path):
    model, extractor = load_checkpoint(published[kind], LABELS, {}, max_seconds=1.5)
    assert model.config.id2label == LABELS
    batch = clips(16000)
    features = model_inputs(extractor, batch, 1.5)
    with torch.no_grad():
        logits = model.eval()(**features).logits
        for index, clip in enumerate(batch):  # a score does not depend on its batch-mates
            alone = model(**model_inputs(extractor, [clip], 1.5)).logits[0]
            torch.testing.assert_close(alone, logits[index], atol=1e-5, rtol=1e-5)
    model.save_pretrained(tmp_path)
    extractor.save_pretrained(tmp_path)
    classify = pipeline("audio-classification", str(tmp_path))
    for clip, row in zip(batch, logits.softmax(-1), strict=True):
        scores = {item["label"]: item["score"] for item in classify(clip, top_k=None)}
        assert scores == pytest.approx({LABELS[i]: float(p) for i, p in enumerate(row)}, abs=1e-4)


def test_whisper_takes_the_clips_and_not_30_seconds(published):
    model, extractor = load_checkpoint(published["whisper"], LABELS, {}, max_seconds=1.5)
    assert model_inputs(extractor, clips(16000), 1.5)["input_features"].shape == (3, 80, 200)  # 2 s
    assert model.config.max_source_positions == 100
    assert not model.encoder.embed_positions.weight.requires_grad
    whole = AutoModelForAudioClassification.from_pretrained(published["whisper"])
    table = whole.encoder.embed_positions.weight[:100]
    torch.testing.assert_close(model.encoder.embed_positions.weight, table, atol=1e-6, rtol=0)
    layer = "encoder.layers.1.fc1.weight"
    torch.testing.assert_close(model.state_dict()[layer], whole.state_dict()[layer])


@pytest.mark.parametrize("kind", ["hubert-group", "wav2vec2-layer"])
def test_encoders_of_waveforms_keep_the_librarys_extractor(kind, published):
    _, extractor = load_checkpoint(published[kind], LABELS, {}, max_seconds=1.5)
    assert type(extractor) is Wav2Vec2FeatureExtractor
    sounds = clips(16000)
    features = model_inputs(extractor, sounds, 1.0)
    longest = min(16000, max(map(len, sounds)))
    assert features["input_values"].shape == features["attention_mask"].shape == (3, longest)


def test_where_an_earlier_training_has_cut_its_clips_binds_no_later_one(published, tmp_path):
    shutil.copytree(published["wav2vec2-layer"], tmp_path / "cut")
    extractor = Wav2Vec2FeatureExtractor(num_samples=800)
    extractor.save_pretrained(tmp_path / "cut")
    assert AutoFeatureExtractor.from_pretrained(tmp_path / "cut").num_samples == 800
    _, extractor = load_checkpoint(tmp_path / "cut", LABELS, {}, max_seconds=1.5)
    sounds = clips(16000)
    assert model_inputs(extractor, sounds, 1.5)["input_values"].shape == (3, max(map(len, sounds)))


def test_an_encoder_that_cannot_be_kept_from_padding_gets_fixed_lengths(published):
    _, extractor = load_checkpoint(published["sew"], LABELS, {}, max_seconds=1.5)
    assert type(extractor) is WaveformFeatureExtractor
    assert (extractor.num_samples, extractor.zero_mean_unit_variance) == (24000, True)


def test_from_scratch_starts_elsewhere(published):
    model, _ = load_checkpoint(published["ast"], LABELS, {}, 1.0)
    scratch, _ = load_checkpoint(published["ast"], LABELS, {}, 1.0, from_scratch=True)
    name = "audio_spectrogram_transformer.embeddings.patch_embeddings.projection.weight"
    assert not torch.equal(model.state_dict()[name], scratch.state_dict()[name])


def test_wav2vec2_takes_its_weights_from_a_folder(tmp_path):
    torch.manual_seed(0)
    build_model("wav2vec2", **CONFIGS["wav2vec2"], num_labels=2).save_pretrained(tmp_path)
    model, _ = load_registered("wav2vec2", LABELS, {}, tmp_path)
    pretrained = AutoModelForAudioClassification.from_pretrained(tmp_path)
    torch.testing.assert_close(model.wav2vec2.state_dict(), pretrained.wav2vec2.state_dict())
    assert model.classifier.out_features == 3


def test_vit_base_takes_its_weights_from_a_timm_folder(tmp_path):
    import timm
    from safetensors.torch import save_file

    settings = CONFIGS["vit-base"]
    network = timm.create_model("vit_base_patch16_224", num_classes=5, img_size=32, **settings["architecture_config"])
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    config = {"architecture": "vit_base_patch16_224", "num_classes": 5, "pretrained_cfg": network.pretrained_cfg}
    (tmp_path / "config.json").write_text(json.dumps(config, default=str))
    model, extractor = load_registered("vit-base", LABELS, settings, tmp_path)
    ours = model.backbone.state_dict()
    for name, weight in network.state_dict().items():
        if not name.startswith("head."):
            torch.testing.assert_close(ours[name], weight, msg=name)
    spectrograms = extractor(clips(44100), 44100, return_tensors="pt")
    assert model(**spectrograms).logits.shape == (3, 3)


def test_a_misspelt_field_of_a_librarys_model_is_named(published):
    with pytest.raises(ValueError, match=r"has no field 'dropuot' \(did you mean dropout\?\)"):
        load_checkpoint(published["whisper"], LABELS, {"dropuot": 0.3}, 1.0)


def test_weights_of_another_kind_are_refused(published):
    with pytest.raises(ValueError, match="--model wav2vec2 expects a checkpoint of type 'wav2vec2', found 'whisper'"):
        load_registered("wav2vec2", LABELS, {}, published["whisper"])


def test_pickled_weights_are_not_read(published, tmp_path):
    for file in published["ast"].glob("*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"expected weights as model.safetensors in .*, found none; convert them"):
        load_checkpoint(tmp_path, LABELS, {}, 1.0)


def test_a_folder_that_is_no_checkpoint_is_named(tmp_path):
    with pytest.raises(
        ValueError, match=r"expected a checkpoint with config.json, found none in .*; check the folder"
    ):
        load_checkpoint(tmp_path, LABELS, {}, 1.0)


def test_a_name_knows_where_its_weights_are(published):
    assert find_checkpoint("mlp") is None
    assert find_checkpoint("wav2vec2", from_scratch=True) is None
    assert find_checkpoint("wav2vec2", str(published["ast"])) == published["ast"]
    with pytest.raises(ValueError, match=r"'facebook/wav2vec2-base-960h' is neither a folder nor in the cache"):
        find_checkpoint("wav2vec2")
    with pytest.raises(ValueError, match=r"expected --model_name_or_path with one of .*, found it with --model a/b"):
        find_checkpoint("a/b", str(published["ast"]))


def test_code_of_a_checkpoint_is_not_executed_unasked(published, tmp_path):
    for file in published["ast"].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w')\nclass Config: pass\n")
    with pytest.raises(ValueError, match="trust_remote_code"):
        load_checkpoint(tmp_path, LABELS, {}, 1.0)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("offline", [True, False])
def test_without_a_network_one_sentence_names_the_alternatives(offline, monkeypatch):
    monkeypatch.setattr(checkpoints.constants, "is_offline_mode", lambda: offline)
    monkeypatch.setattr(checkpoints.constants, "ENDPOINT", "http://127.0.0.1:9")  # the discard port refuses at once
    why = "HF_HUB_OFFLINE is set" if offline else r"there is no connection to 127.0.0.1 \(Connection refused\)"
    with pytest.raises(ValueError, match=f"'some/model' is neither a folder nor in the cache, and {why}; download it"):
        resolve_checkpoint("some/model")


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason="the encoders of ../shared/real are not here")
def test_a_real_encoder_gives_real_features():
    model, extractor = load_checkpoint(REAL, LABELS, {"use_weighted_layer_sum": True}, max_seconds=2.0)
    assert sum(p.numel() for p in model.encoder.parameters()) > 7e6
    clip = np.sin(np.arange(24000) / 8).astype(np.float32)
    features = model_inputs(extractor, [clip, -0.1 * clip], 2.0)
    with torch.no_grad():
        assert torch.isfinite(model(**features).logits).all()
    assert AutoFeatureExtractor.from_pretrained(REAL).chunk_length == 30, "the original is not changed"
