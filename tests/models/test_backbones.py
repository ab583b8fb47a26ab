"""The table of pretrained encoders: each size and score has its source, and weights load as repositories hold them."""

import re
from pathlib import Path

import pytest
import torch
import transformers
from huggingface_hub.utils import validate_repo_id
from safetensors.torch import load_file, save_file
from tiny import CONFIGS
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForAudioClassification, PreTrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES

from hf_vivae.checkpoints.load import load_encoder
from hf_vivae.evaluation.published import read_published
from hf_vivae.hub.licenses import LICENSES
from hf_vivae.models import MODELS
from hf_vivae.models.backbones import BACKBONES, encoder_source, is_encoder
from hf_vivae.models.hidden_states import bare_encoder

DOCS = Path(__file__).parents[2] / "docs" / "backbones.md"
# width, layers, attention heads of encoders that differ from the library's defaults, the base sizes
LARGE, XLARGE = (1024, 24, 16), (1280, 48, 16)
WHISPER = {"tiny": (384, 4, 6), "base": (512, 6, 8), "small": (768, 12, 12), "medium": (1024, 24, 16)}


def wide(width: int, layers: int, heads: int) -> dict:
    """Return the fields that the published large models share."""
    return {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 4 * width,
        "feat_extract_norm": "layer",
        "do_stable_layer_norm": True,
    }


def published_config(name: str) -> PreTrainedConfig:
    """Return the published configuration of a backbone, as far as its size depends on it."""
    kind, _, size = name.partition("-")
    if kind == "whisper":
        width, layers, heads = WHISPER[size]
        return transformers.WhisperConfig(
            d_model=width, encoder_layers=layers, encoder_attention_heads=heads, encoder_ffn_dim=4 * width
        )
    if name in ("hubert-large", "hubert-xlarge"):
        return transformers.HubertConfig(**wide(*(LARGE if size == "large" else XLARGE)), conv_bias=True)
    if name == "wavlm-large":
        return transformers.WavLMConfig(**wide(*LARGE))
    classes = {
        "voc2vec-hubert": transformers.HubertConfig,
        "hubert-base": transformers.HubertConfig,
        "wavlm-base-plus": transformers.WavLMConfig,
        "unispeech-sat-base": transformers.UniSpeechSatConfig,
        "data2vec-base": transformers.Data2VecAudioConfig,
        "w2v-bert": transformers.Wav2Vec2BertConfig,
        "ast": transformers.ASTConfig,
    }
    return classes[name]()


def encoder_of(config: PreTrainedConfig) -> torch.nn.Module:
    """Return the encoder without memory for its weights."""
    with torch.device("meta"):
        return bare_encoder(AutoModelForAudioClassification.from_config(config, attn_implementation="eager")).eval()


def operations_of(config: PreTrainedConfig) -> int:
    """Return the operations of a forward pass for a clip of one second."""
    frames = {"whisper": (1, 80, 100), "wav2vec2-bert": (1, 50, 160), "audio-spectrogram-transformer": (1, 1024, 128)}
    if config.model_type == "whisper":
        config.max_source_positions = 50  # of 20 ms: it takes the clip alone
    encoder = encoder_of(config)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        encoder(torch.empty(frames.get(config.model_type, (1, 16000)), device="meta"))
    return counter.get_total_flops()


@pytest.mark.parametrize("name", BACKBONES)
def test_a_backbone_has_the_size_of_the_table(name):
    config = published_config(name)
    assert config.model_type in MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES, "encoder: knows no other"
    parameters = sum(weight.numel() for weight in encoder_of(config).parameters())
    assert BACKBONES[name].parameters == round(parameters / 1e6, 1)


def test_scores_are_those_of_the_published_list():
    arch = {score.system: score.value for score in read_published() if score.source == "ARCH 2024"}
    for name, backbone in BACKBONES.items():
        value = arch.get(backbone.hub_id.partition("/")[2])
        assert backbone.vivae == (None if value is None else pytest.approx(100 * value)), name


def test_names_ids_and_licences_are_possible_ones():
    ids = [backbone.hub_id for backbone in BACKBONES.values()]
    assert len(set(ids)) == len(ids)
    for name, backbone in BACKBONES.items():
        validate_repo_id(backbone.hub_id)
        assert backbone.hub_id.count("/") == 1
        assert backbone.license in LICENSES, name
        assert "/" not in name, "it would be a Hub id"
    assert not BACKBONES.keys() & MODELS.keys()


def test_the_page_has_the_table():
    rows = [
        [cell.strip(" `") for cell in line.strip("|\n").split("|")]
        for line in DOCS.read_text().splitlines()
        if line.startswith("| `")
    ]
    assert {name: rest for name, *rest in rows} == {
        name: [
            backbone.hub_id,
            str(backbone.parameters),
            f"{operations_of(published_config(name)) / 1e9:.1f}",
            backbone.license,
            "" if backbone.vivae is None else str(backbone.vivae),
        ]
        for name, backbone in BACKBONES.items()
    }


def test_a_name_stands_for_an_encoder_and_its_source():
    hub_id = "facebook/hubert-base-ls960"
    assert [encoder_source(f"{prefix}hubert-base") for prefix in ("", "encoder:", "probe:")] == [hub_id] * 3
    assert encoder_source("encoder:some/hubert") == encoder_source("some/hubert") == "some/hubert"
    names = ("hubert-base", "encoder:some/hubert", "encoder:hubert-base")
    assert all(is_encoder(name) for name in names)
    others = ("probe:hubert-base", "some/hubert", "wav2vec2", "hubert", "")
    assert not any(is_encoder(name) for name in others)


QUANTIZER = {"codevector_dim": 8, "proj_codevector_dim": 8}
SPEECH = {**CONFIGS["wav2vec2"], "num_hidden_layers": 2}
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
WHISPER_SMALL = {
    **{"d_model": 16, "vocab_size": 60, "pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 3},
    **{f"{part}_layers": 2 for part in ("encoder", "decoder")},
    **{f"{part}_attention_heads": 2 for part in ("encoder", "decoder")},
    **{f"{part}_ffn_dim": 24 for part in ("encoder", "decoder")},
    **{"decoder_start_token_id": 2, "begin_suppress_tokens": [5]},
}
# the class whose weights a repository holds, a small configuration of it, the extractor next to it
HELD = {
    "hubert": ("HubertModel", SPEECH, "Wav2Vec2FeatureExtractor"),
    "wavlm": ("WavLMModel", SPEECH, "Wav2Vec2FeatureExtractor"),
    "unispeech-sat": ("UniSpeechSatForPreTraining", {**SPEECH, **QUANTIZER}, "Wav2Vec2FeatureExtractor"),
    "data2vec": ("Data2VecAudioModel", {**SPEECH, "num_conv_pos_embeddings": 3}, "Wav2Vec2FeatureExtractor"),
    "whisper": ("WhisperForConditionalGeneration", WHISPER_SMALL, "WhisperFeatureExtractor"),
    "w2v-bert": ("Wav2Vec2BertModel", SMALL, "SeamlessM4TFeatureExtractor"),
    "ast": ("ASTForAudioClassification", {**SMALL, "num_labels": 7}, "ASTFeatureExtractor"),
}


@pytest.mark.parametrize("kind", HELD)
def test_weights_load_as_repositories_hold_them(kind, tmp_path):
    """Classes of pretraining, of another task, or without a head; with names from before torch's parametrizations."""
    class_name, settings, extractor = HELD[kind]
    model_class = getattr(transformers, class_name)
    torch.manual_seed(0)
    held = model_class(model_class.config_class(**settings))
    held.save_pretrained(tmp_path)
    getattr(transformers, extractor)().save_pretrained(tmp_path)
    old = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    weights = load_file(tmp_path / "model.safetensors")
    named = {re.sub("|".join(old), lambda match: old[match[0]], name): value for name, value in weights.items()}
    save_file(named, tmp_path / "model.safetensors", {"format": "pt"})

    loaded, _ = load_encoder(tmp_path, {0: "cough", 1: "laugh"}, {}, max_seconds=1.5)
    bare = held.get_encoder() if kind == "whisper" else held.base_model
    torch.testing.assert_close(loaded.encoder.state_dict(), bare.state_dict(), atol=1e-6, rtol=0)
