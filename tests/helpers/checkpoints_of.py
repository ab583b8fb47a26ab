"""Checkpoints with random weights far from their initialisation, for tests of the commands that use checkpoints."""

from pathlib import Path

import torch
from tiny import CONFIGS

from hf_vivae import build_model
from hf_vivae.corpus import EMOTIONS
from hf_vivae.features.extraction import matching_extractor


def write_checkpoint(folder: Path, name: str = "vit-32-30") -> Path:
    """Save a small model of `MODELS` and its feature extractor; return the folder."""
    torch.manual_seed(0)
    labels = dict(enumerate(EMOTIONS))
    model = build_model(name, **CONFIGS[name], id2label=labels, label2id={label: key for key, label in labels.items()})
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    model.save_pretrained(folder)
    extractor = matching_extractor(name, model.config)
    if name.startswith("vit"):
        extractor.mean, extractor.std = -20.0, 20.0
    extractor.save_pretrained(folder)
    return folder
