"""SpecAugment: batches of short clips can be trained, and others are masked as in the library."""

import numpy as np
import pytest
import torch
from encoders import ENCODERS, LABELS, RATE, write_encoder
from tiny import model_inputs

from hf_vivae.checkpoints.load import fix_spec_augment, load_checkpoint, load_encoder

MASKED = [name for name in ENCODERS if name not in ("whisper", "ast")]


@pytest.fixture(scope="module", params=MASKED)
def folder(request, tmp_path_factory):
    return write_encoder(tmp_path_factory.mktemp("encoder"), request.param)


def logits(model, extractor, samples: int) -> torch.Tensor:
    clip = np.random.default_rng(0).uniform(-0.5, 0.5, samples).astype(np.float32)
    np.random.seed(0)  # from which the library draws its masks
    torch.manual_seed(0)
    return model.train()(**model_inputs(extractor, [clip, clip[: samples // 2]], samples / RATE)).logits


@pytest.mark.parametrize("load", [load_checkpoint, load_encoder])
def test_batches_of_clips_shorter_than_a_mask_train(load, folder):
    samples = 900  # 2 to 10 frames
    model, extractor = load(folder, LABELS, {}, samples / RATE)
    for module in model.modules():
        if hasattr(module, "_mask_hidden_states"):
            module.config.mask_time_length = 12
    with pytest.raises(ValueError, match="`mask_length` has to be smaller than `sequence_length`"):
        logits(model, extractor, samples)
    fix_spec_augment(model)
    assert logits(model, extractor, samples).isfinite().all()


def test_longer_ones_are_masked_as_before(folder):
    model, extractor = load_encoder(folder, LABELS, {"encoder": {"mask_time_prob": 0.5}}, 1.0)
    before = logits(model, extractor, RATE)
    fix_spec_augment(model)
    assert torch.equal(logits(model, extractor, RATE), before)
    model.encoder.config.mask_time_prob = 0.0
    assert not torch.equal(logits(model, extractor, RATE), before), "masks would change nothing anyhow"


def test_features_are_masked_too(folder):
    """WavLM's configuration lacks a field that the library's masks of features need."""
    settings = {"mask_time_prob": 0.0, "mask_feature_prob": 0.5, "mask_feature_length": 4}
    model, extractor = load_encoder(folder, LABELS, {"encoder": settings}, 1.0)
    fix_spec_augment(model)
    masked = logits(model, extractor, RATE)
    model.encoder.config.mask_feature_prob = 0.0
    assert not torch.equal(logits(model, extractor, RATE), masked)


def test_a_model_without_masks_over_time_takes_short_clips_too(folder):
    model, extractor = load_checkpoint(folder, LABELS, {"mask_time_prob": 0.0, "mask_feature_prob": 0.0}, 0.05)
    fix_spec_augment(model)
    assert logits(model, extractor, 900).isfinite().all()
