"""Attention and dropout for CPUs have the outputs and gradients of torch's, and are not saved."""

import copy
import json
from pathlib import Path

import pytest
import torch
from tiny import CONFIGS
from torch import nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from hf_vivae import models
from hf_vivae.models import build_model
from hf_vivae.models import cpu_attention as cpu
from hf_vivae.models.cpu_attention import (
    AttentionProducts,
    ClassTokenLayer,
    PackedAttentionProducts,
    attend,
    dropout,
    speed_up,
)
from hf_vivae.models.spectrogram_vit import SpectrogramViTLayer


class Attention(nn.Module):
    """Module with the attributes of attention layers of encoders."""

    is_causal = False


@pytest.fixture
def no_sdpa(monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("sdpa was called")

    monkeypatch.setattr(cpu, "sdpa_attention_forward", fail)


def operands(dtype: torch.dtype, tokens: int = 7) -> list[torch.Tensor]:
    """Return query, key and value `(2, 3, tokens, 4)` as views of one tensor, as in models."""
    torch.manual_seed(0)
    packed = torch.randn(2, tokens, 3, 3, 4).to(dtype)
    return [part.detach().requires_grad_() for part in packed.permute(2, 0, 3, 1, 4)]


def masks(tokens: int = 7) -> dict[str, torch.Tensor | None]:
    seen = torch.ones(2, 1, tokens, tokens, dtype=torch.bool)
    seen[1, ..., 4:] = False
    return {"none": None, "boolean": seen, "added": torch.zeros(seen.shape).masked_fill(~seen, -1e4)}


@pytest.mark.parametrize("mask", masks())
@pytest.mark.parametrize(("scaling", "at_once"), [(None, 2**20), (0.3, 1)])
def test_outputs_and_gradients_are_those_of_sdpa(mask, scaling, at_once, no_sdpa, monkeypatch):
    monkeypatch.setattr(cpu, "WEIGHTS", at_once)
    mask = masks()[mask]
    found, expected = operands(torch.bfloat16), operands(torch.float32)
    for part, exact in zip(found, expected, strict=True):
        exact.data.copy_(part.data)
    context, weights = attend(Attention(), *found, mask, scaling=scaling)
    reference, _ = sdpa_attention_forward(Attention(), *expected, mask, scaling=scaling)
    assert weights is None
    assert context.dtype == torch.bfloat16
    torch.testing.assert_close(context.float(), reference, atol=0.02, rtol=0.02)
    direction = torch.randn_like(reference)
    context.backward(direction.bfloat16())
    reference.backward(direction)
    for part, exact in zip(found, expected, strict=True):
        torch.testing.assert_close(part.grad.float(), exact.grad, atol=0.06, rtol=0.05)


def by_autograd(query, key, value, scaling, p):
    """Return what `attend` does, with gradients by autograd."""
    weights = (query * scaling @ key.transpose(2, 3)).softmax(dim=-1)
    return (dropout(weights, p, key.shape[2]) @ value).transpose(1, 2)


@pytest.mark.parametrize("p", [0.0, 0.3])
def test_gradients_are_those_of_autograd(p, no_sdpa):
    operands_of_both, contexts = (operands(torch.float32), operands(torch.float32)), []
    for function, parts in zip((AttentionProducts.apply, by_autograd), operands_of_both, strict=True):
        torch.manual_seed(1)
        contexts.append(function(*parts, *([None] if function is not by_autograd else []), 0.5, p))
        contexts[-1].square().sum().backward()
    torch.testing.assert_close(*contexts)
    for part, exact in zip(*operands_of_both, strict=True):
        torch.testing.assert_close(part.grad, exact.grad)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_the_gradient_of_one_projection_is_that_of_its_parts(order, no_sdpa, monkeypatch):
    """Check operands of one projection in the order of `PackedAttentionProducts`, and in another one."""
    calls, apply = [], PackedAttentionProducts.apply
    monkeypatch.setattr(PackedAttentionProducts, "apply", lambda *inputs: calls.append(inputs) or apply(*inputs))
    torch.manual_seed(4)
    weight, sound = torch.randn(36, 5), torch.randn(2, 7, 5)
    gradients = []
    for function in (lambda *parts: attend(Attention(), *parts, None, scaling=0.5, dropout=0.3)[0], by_autograd):
        leaf = weight.clone().requires_grad_()
        parts = (sound @ leaf.T).view(2, 7, 3, 3, 4).permute(2, 0, 3, 1, 4)
        torch.manual_seed(1)
        function(
            *(parts[index] for index in order), *((0.5, 0.3) if function is by_autograd else ())
        ).sin().sum().backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients)
    assert bool(calls) == (order == (0, 1, 2))


def test_a_training_takes_the_same_way(monkeypatch):
    """Check that the losses of some steps differ from those of plain attention by rounding only."""

    def losses(plain: bool) -> list[float]:
        torch.manual_seed(2)
        model = build_model("vit-32-30", **CONFIGS["vit-32-30"] | {"hidden_dropout": 0.1, "attention_dropout": 0.1})
        speed_up(model.train())
        if plain:
            function = lambda query, key, value, mask, scaling, p: by_autograd(query, key, value, scaling, p)  # noqa: E731
            monkeypatch.setattr(cpu, "_packed", lambda *operands: None)
            monkeypatch.setattr(AttentionProducts, "apply", function)
        optimizer, steps = torch.optim.Adam(model.parameters(), lr=1e-3), []
        spectrograms, labels = torch.randn(4, 1, 64, 690), torch.tensor([0, 1, 2, 3])
        for _ in range(8):
            loss = model(spectrograms, labels=labels).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            steps.append(loss.item())
        return steps

    ours, plain = losses(plain=False), losses(plain=True)
    assert ours[-1] < ours[0]
    assert ours == pytest.approx(plain, rel=1e-4)


@pytest.mark.parametrize("attention", ["softmax", "performer"])
def test_the_last_block_of_the_class_token_alone_trains_as_the_whole(attention, monkeypatch):
    """Check that logits and gradients are those of all tokens, with the same random numbers of dropout."""
    dropouts = {"hidden_dropout": 0.2, "attention_dropout": 0.2, "embedding_dropout": 0.2}
    torch.manual_seed(2)
    model = build_model("vit-32-30", **CONFIGS["vit-32-30"] | dropouts | {"attention": attention})
    whole = copy.deepcopy(model)
    speed_up(model.train())
    with monkeypatch.context() as patch:
        patch.setattr(cpu, "ClassTokenLayer", lambda layer, tokens: layer)
        speed_up(whole.train())
    assert (type(model.layers[-1]), type(whole.layers[-1])) == (ClassTokenLayer, SpectrogramViTLayer)
    spectrograms, logits = torch.randn(3, 1, 64, 690), []
    monkeypatch.setattr(cpu, "WEIGHTS", 1)  # several parts, each of which draws for itself
    for part in (model, whole):
        torch.manual_seed(3)
        logits.append(part(spectrograms).logits)
        logits[-1].square().sum().backward()
    torch.testing.assert_close(*logits)
    for (name, part), (_, expected) in zip(model.named_parameters(), whole.named_parameters(), strict=True):
        torch.testing.assert_close(part.grad, expected.grad, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("settings", [{"pooling": "mean"}, {"attn_implementation": "eager"}])
def test_the_last_block_of_other_models_has_all_tokens(settings):
    model = build_model("vit-32-30", **CONFIGS["vit-32-30"], **settings)
    speed_up(model)
    assert type(model.layers[-1]) is SpectrogramViTLayer


def test_the_last_block_with_an_adapter_has_all_tokens():
    class Adapted(nn.Linear):
        pass

    model = build_model("vit-32-30", **CONFIGS["vit-32-30"])
    attention = model.layers[-1].attention
    attention.qkv = Adapted(attention.qkv.in_features, attention.qkv.out_features, bias=False)
    speed_up(model)
    assert type(model.layers[-1]) is SpectrogramViTLayer


def test_dropout_takes_weights_and_leaves_their_mean(no_sdpa):
    query, key, _ = operands(torch.float32)
    value = torch.eye(7)[None, None, :, :4].expand(2, 3, 7, 4)
    whole = (query / 2 @ key.transpose(2, 3)).softmax(dim=-1)[..., :4].transpose(1, 2)
    drawn = torch.stack([attend(Attention(), query, key, value, None, dropout=0.4)[0] for _ in range(400)])
    kept = drawn != 0
    assert kept.float().mean() == pytest.approx(0.6, abs=0.01)
    torch.testing.assert_close(drawn[kept], (whole / 0.6).expand_as(drawn)[kept])


@pytest.mark.parametrize(
    ("dtype", "options"),
    [
        (torch.float32, {}),
        (torch.bfloat16, {"is_causal": True}),
        (torch.bfloat16, {"position_bias": torch.zeros(1, 3, 7, 7, dtype=torch.bfloat16)}),
    ],
)
def test_other_inputs_are_left_to_sdpa(dtype, options, monkeypatch):
    monkeypatch.setattr(cpu, "SHORT", 6)
    called = []
    monkeypatch.setattr(cpu, "sdpa_attention_forward", lambda *args, **kwargs: called.append(kwargs))
    attend(Attention(), *operands(dtype), None, **options)
    assert all(called[0][name] is value for name, value in options.items())


@pytest.mark.parametrize("amx", [True, False])
def test_bfloat16_is_left_to_sdpa_where_its_kernel_is_fast(amx, monkeypatch):
    monkeypatch.setattr(cpu, "SHORT", 6)
    monkeypatch.setattr(cpu, "_has_amx", lambda: amx)
    called = []
    monkeypatch.setattr(cpu, "sdpa_attention_forward", lambda *args, **kwargs: called.append(args))
    attend(Attention(), *operands(torch.bfloat16), None)
    assert bool(called) == amx


def test_long_inputs_are_left_to_sdpa(monkeypatch):
    monkeypatch.setattr(cpu, "LONGEST", 6)
    called = []
    monkeypatch.setattr(cpu, "sdpa_attention_forward", lambda *args, **kwargs: called.append(args))
    attend(Attention(), *operands(torch.bfloat16), None)
    assert called


@pytest.mark.parametrize("p", [0.05, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_keeps_its_share_and_scales_the_rest(p, dtype):
    values = torch.ones(101, 1999, dtype=dtype)
    torch.manual_seed(1)
    found = dropout(values, p)
    kept = found != 0
    assert found.dtype == dtype
    assert kept.float().mean() == pytest.approx(1 - p, abs=4 * (p * (1 - p) / values.numel()) ** 0.5)
    assert torch.equal(found[kept].unique(), torch.tensor([1 / (1 - p)], dtype=dtype))
    # neighbours, which are cut from one number, are independent
    pairs = torch.stack((kept.flatten()[:-1], kept.flatten()[1:])).float()
    assert torch.corrcoef(pairs)[0, 1].abs() < 0.01
    torch.manual_seed(1)
    assert torch.equal(dropout(values, p), found)


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_dropout_of_nothing_and_of_all(p):
    assert torch.equal(dropout(torch.ones(5), p), torch.full((5,), 1 - p))


def test_a_model_computes_the_same_and_saves_nothing_of_it(tmp_path):
    model = build_model("vit-32-30", **CONFIGS["vit-32-30"] | {"hidden_dropout": 0.1, "attention_dropout": 0.1}).eval()
    model.save_pretrained(tmp_path / "before")
    spectrogram = torch.randn(2, 1, 64, 690)
    with torch.no_grad():
        before = model(spectrogram).logits
        speed_up(model)
        torch.testing.assert_close(model(spectrogram).logits, before)
        trained = [model.train()(spectrogram).logits for _ in range(2)]
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(model.eval()(spectrogram).logits.float(), before, atol=0.05, rtol=0.05)
    assert not torch.equal(*trained)
    assert {type(module) for module in model.modules() if isinstance(module, nn.Dropout)} == {cpu.Dropout}
    model.save_pretrained(tmp_path / "after")
    saved = [json.loads((tmp_path / when / "config.json").read_text()) for when in ("before", "after")]
    assert saved[0] == saved[1]
    assert model.state_dict().keys() == build_model("vit-32-30", **CONFIGS["vit-32-30"]).state_dict().keys()


def test_attention_that_was_asked_for_stays():
    model = build_model("vit-32-30", **CONFIGS["vit-32-30"], attn_implementation="eager")
    speed_up(model)
    assert model.config._attn_implementation == "eager"


def test_no_file_that_is_exported_imports_it():
    for file in Path(models.__file__).parent.glob("*.py"):
        assert file.stem == "cpu_attention" or "cpu_attention" not in file.read_text(), file.name
