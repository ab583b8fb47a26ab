"""Small encoders with random weights, one of each kind that transformers has for audio classification."""

from pathlib import Path

import torch
import transformers
from transformers import AutoModelForAudioClassification

from hf_vivae.checkpoints.load import load_encoder

RATE = 16000
SECONDS = 2.0  # to which clips are cut
LABELS = {0: "a", 1: "b", 2: "c"}
WAVEFORM = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
    "conv_dim": [8, 8, 8],
    "conv_kernel": [10, 8, 4], "conv_stride": [5, 4, 4], "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}  # fmt: skip
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
WHISPER = {
    "d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_layers": 1,
    "decoder_attention_heads": 2, "decoder_ffn_dim": 8, "vocab_size": 10, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2, "decoder_start_token_id": 1,
}  # fmt: skip
# configuration, its fields, feature extractor
ENCODERS = {
    "group norm": ("Wav2Vec2Config", WAVEFORM, "Wav2Vec2FeatureExtractor"),
    "layer norm": ("WavLMConfig", WAVEFORM | {"feat_extract_norm": "layer"}, "Wav2Vec2FeatureExtractor"),
    "stable": (  # the norm of each layer before it, and one after the last, as in HuBERT large and WavLM large
        "HubertConfig", WAVEFORM | {"feat_extract_norm": "layer", "do_stable_layer_norm": True},
        "Wav2Vec2FeatureExtractor",
    ),
    "data2vec": ("Data2VecAudioConfig", {**WAVEFORM, "num_conv_pos_embeddings": 3}, "Wav2Vec2FeatureExtractor"),
    "conformer": ("Wav2Vec2ConformerConfig", WAVEFORM, "Wav2Vec2FeatureExtractor"),
    "squeezed": ("SEWConfig", WAVEFORM, "Wav2Vec2FeatureExtractor"),
    "w2v-bert": ("Wav2Vec2BertConfig", {**SMALL, "feature_projection_input_dim": 160}, "SeamlessM4TFeatureExtractor"),
    "whisper": ("WhisperConfig", WHISPER, "WhisperFeatureExtractor"),
    "ast": ("ASTConfig", SMALL, "ASTFeatureExtractor"),
}  # fmt: skip


def write_encoder(folder: Path, kind: str) -> Path:
    """Save an encoder of `ENCODERS` and its feature extractor; return the folder."""
    torch.manual_seed(0)
    config, fields, extractor = ENCODERS[kind]
    config = getattr(transformers, config)(**fields)
    AutoModelForAudioClassification.from_config(config).save_pretrained(folder)
    getattr(transformers, extractor)().save_pretrained(folder)
    return folder


def write_encoders(parent: Path) -> dict[str, Path]:
    """Save all encoders, each into a folder of its own."""
    return {kind: write_encoder(parent / kind.replace(" ", "-"), kind) for kind in ENCODERS}


def encoder(folder: Path, **config):
    """Return a model whose head is far from its initialisation, with which all scores are alike."""
    model, extractor = load_encoder(folder, LABELS, config, SECONDS)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in model.head.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    return model.eval(), extractor
