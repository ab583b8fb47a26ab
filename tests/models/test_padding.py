"""A clip in a padded batch has the outputs of the library's own model for the clip alone."""

import copy

import numpy as np
import pytest
import torch
from tiny import CONFIGS
from transformers import AutoConfig, AutoModelForAudioClassification

from hf_vivae.models.padding import MaskedGroupNorm, mask_padding

LEAKING = (
    "data2vec-audio", "hubert", "unispeech", "unispeech-sat", "wav2vec2", "wav2vec2-conformer", "wavlm",
)  # fmt: skip
LENGTHS = (19200, 6400, 12345)  # odd and even numbers of frames


def tiny(kind: str, **settings):
    torch.manual_seed(0)
    fields = {**CONFIGS["wav2vec2"], "num_feat_extract_layers": 3, "num_labels": 3, **settings}
    if kind == "data2vec-audio":
        fields["num_conv_pos_embeddings"] = 2  # the number of its layers of positions
    model = AutoModelForAudioClassification.from_config(AutoConfig.for_model(kind, **fields)).eval()
    with torch.no_grad():
        for (
            weight
        ) in model.parameters():  # far from their initialisation, where positions and norms have little effect
            weight.add_(0.3 * torch.randn_like(weight))
    return model


def padded() -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
    """Return clips `(samples,)`, and the same as one batch with its mask."""
    generator = torch.Generator().manual_seed(1)
    clips = [torch.randn(length, generator=generator) for length in LENGTHS]
    values, mask = torch.zeros(3, max(LENGTHS)), torch.zeros(3, max(LENGTHS), dtype=torch.long)
    for row, clip in enumerate(clips):
        values[row, : len(clip)], mask[row, : len(clip)] = clip, 1
    return clips, {"input_values": values, "attention_mask": mask}


@torch.no_grad()
def alone(model, clips) -> torch.Tensor:
    return torch.cat([model(clip[None]).logits for clip in clips])


@pytest.mark.parametrize(
    ("kind", "settings"),
    [(kind, {"use_weighted_layer_sum": layer_sum}) for kind in LEAKING for layer_sum in (False, True)]
    + [("hubert", {"conv_pos_batch_norm": True, "feat_extract_norm": "layer"})],
)
def test_a_padded_batch_gives_the_logits_of_each_clip_alone(kind, settings):
    model, (clips, batch) = tiny(kind, **settings), padded()
    expected = alone(model, clips)
    with torch.no_grad():
        assert not torch.allclose(model(**batch).logits, expected, atol=1e-3), "the library's leaks, or this is void"
        mask_padding(model)
        torch.testing.assert_close(model(**batch).logits, expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(alone(model, clips), expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [("wav2vec2-conformer", {"conformer_conv_dropout": 0.0}), ("hubert", {"conv_pos_batch_norm": True})],
)
def test_a_batch_norm_depends_on_no_padding_and_no_other_clip_while_training(kind, settings):
    model, (clips, batch) = mask_padding(tiny(kind, final_dropout=0.0, **settings)).train(), padded()
    torch.testing.assert_close(model(**batch).logits, alone(model, clips), atol=1e-5, rtol=1e-5)


def test_gradients_are_those_of_each_clip_alone_with_and_without_checkpointing():
    model, (clips, batch) = tiny("wav2vec2"), padded()
    labels = torch.tensor([0, 2, 1])
    for clip, label in zip(clips, labels, strict=True):
        (model(clip[None], labels=label[None]).loss / 3).backward()
    expected = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    for checkpointing in (False, True):
        again = mask_padding(copy.deepcopy(model))
        again.zero_grad()
        if checkpointing:
            again.train()
            again.gradient_checkpointing_enable({"use_reentrant": False})
        again(**batch, labels=labels).loss.backward()
        found = {name: weight.grad for name, weight in again.named_parameters() if weight.grad is not None}
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_a_saved_model_is_one_of_the_library(tmp_path):
    model, (clips, _) = tiny("hubert"), padded()
    expected = alone(model, clips)
    mask_padding(model).save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    loaded = AutoModelForAudioClassification.from_pretrained(tmp_path)
    assert not any(isinstance(module, MaskedGroupNorm) for module in loaded.modules())
    torch.testing.assert_close(alone(loaded, clips), expected, atol=0, rtol=0)


def test_a_batch_without_mask_after_one_with_it_is_the_librarys():
    model, (_, batch) = tiny("wav2vec2"), padded()
    with torch.no_grad():
        expected = model(batch["input_values"]).logits
        mask_padding(model)(**batch)
        torch.testing.assert_close(model(batch["input_values"]).logits, expected, atol=0, rtol=0)


def test_a_model_without_such_layers_is_left_as_it_is():
    model = tiny("wav2vec2", feat_extract_norm="layer", do_stable_layer_norm=True)
    before = {id(module): type(module) for module in model.modules()}
    assert mask_padding(model) is model
    assert {id(module): type(module) for module in model.modules()} == before
    assert not model._forward_pre_hooks


def test_the_norm_equals_torchs_on_the_clips_frames():
    norm = torch.nn.GroupNorm(4, 4)
    torch.nn.init.uniform_(norm.weight), torch.nn.init.uniform_(norm.bias)
    values = torch.from_numpy(np.random.default_rng(0).normal(3, 2, (2, 4, 50)).astype(np.float32))
    expected = norm(values[1:, :, :20])[0]
    norm.__class__, norm.frames = MaskedGroupNorm, torch.tensor([50, 20])
    torch.testing.assert_close(norm(values)[1, :, :20], expected, atol=1e-6, rtol=1e-6)


def test_a_clip_that_is_shorter_than_a_frame_spoils_no_batch():
    model, (_, batch) = mask_padding(tiny("wav2vec2")), padded()
    batch["attention_mask"][1, 3:] = 0
    with torch.no_grad():
        assert torch.isfinite(model(**batch).logits).all()
