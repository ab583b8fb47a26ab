"""Performer attention: an estimate of softmax attention that gets better with features, linear in the tokens."""

import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import CONFIGS
from torch.nn.functional import cosine_similarity, scaled_dot_product_attention
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForAudioClassification

from hf_vivae.models import build_config, build_model
from hf_vivae.models.performer import default_num_features, log_features, orthogonal_gaussian, performer_attention

HEAD_DIM = 16
SCALING = HEAD_DIM**-0.5
PERFORMER = {**CONFIGS["vit-8-23"], "attention": "performer"}


def vectors(seed: int = 0, batch: int = 2, heads: int = 3, tokens: int = 40) -> tuple[torch.Tensor, ...]:
    """Return queries and keys as long as in networks, and values; `(batch, heads, tokens, HEAD_DIM)` each."""
    generator = torch.Generator().manual_seed(seed)
    query, key, value = torch.randn(3, batch, heads, tokens, HEAD_DIM, generator=generator)
    return query / 2, key / 2, value


def draw(seed: int, count: int, orthogonal: bool = True) -> torch.Tensor:
    torch.manual_seed(seed)
    return orthogonal_gaussian(count, HEAD_DIM) if orthogonal else torch.randn(count, HEAD_DIM)


def tiny_vit(**config):
    torch.manual_seed(0)
    return build_model("vit-8-23", **{**PERFORMER, **config}).eval()


def spectrograms(count: int = 3) -> torch.Tensor:
    return torch.randn(count, 1, 64, 690, generator=torch.Generator().manual_seed(1))


def error(num_features: int, orthogonal: bool = True, seeds: int = 20) -> float:
    """Return the root mean square difference to exact attention, whose own root mean square is 0.2."""
    query, key, value = vectors()
    exact = scaled_dot_product_attention(query, key, value).transpose(1, 2)
    squares = [
        (performer_attention(query, key, value, draw(seed, num_features, orthogonal), SCALING) - exact).square().mean()
        for seed in range(seeds)
    ]
    return float(torch.stack(squares).mean().sqrt())


def test_the_error_falls_as_the_square_root_of_the_features():
    errors = [error(count) for count in (64, 256, 1024, 4096)]
    assert errors[-1] < 0.01
    for more, fewer in zip(errors[1:], errors, strict=False):
        assert fewer / more == pytest.approx(2, rel=0.25)


def test_orthogonal_vectors_are_no_worse_than_independent_ones():
    assert error(HEAD_DIM, seeds=100) < error(HEAD_DIM, orthogonal=False, seeds=100)


@pytest.mark.parametrize("count", [1, HEAD_DIM, 40])
def test_the_vectors_are_orthogonal_in_blocks_and_as_long_as_normal_ones(count):
    directions = torch.nn.functional.normalize(draw(0, count))
    for block in directions.split(HEAD_DIM):
        torch.testing.assert_close(block @ block.T, torch.eye(len(block)))
    squares = torch.stack([draw(seed, count).square().sum(dim=1) for seed in range(2000)])
    # chi-squared: mean and variance of the squared length are d and 2 d
    deviation = math.sqrt(2 * HEAD_DIM / squares.numel())
    assert float(squares.mean()) == pytest.approx(HEAD_DIM, abs=4 * deviation)


def test_features_estimate_the_kernel_without_bias():
    left, right = 0.25 * torch.randn(2, 8, HEAD_DIM, generator=torch.Generator().manual_seed(0))
    estimates = []
    for seed in range(2000):
        projection = draw(seed, HEAD_DIM)
        estimates.append(log_features(left, projection).exp() @ log_features(right, projection).exp().T / HEAD_DIM)
    estimates = torch.stack(estimates)
    deviation = estimates.std(dim=0) / math.sqrt(len(estimates))
    assert ((estimates.mean(dim=0) - (left @ right.T).exp()).abs() < 4.5 * deviation).all()


def test_it_is_the_papers_ratio_of_sums_and_so_are_its_gradients():
    inputs, projection = [x.requires_grad_() for x in vectors()], draw(0, 50)
    features = [log_features(x.double() * SCALING**0.5, projection.double()).exp() for x in inputs[:2]]
    weights = features[0] @ features[1].transpose(2, 3)
    expected = (weights @ inputs[2].double() / weights.sum(dim=3, keepdim=True)).transpose(1, 2)
    found = performer_attention(*inputs, projection, SCALING)
    torch.testing.assert_close(found, expected.float())
    upstream = torch.randn(found.shape, generator=torch.Generator().manual_seed(2))
    gradients = [torch.autograd.grad((output * upstream).sum(), inputs) for output in (found, expected)]
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-4)


@given(seed=st.integers(0, 1000), tokens=st.integers(1, 12), length=st.floats(0, 50))
def test_its_weights_are_positive_and_sum_to_one(seed, tokens, length):
    query, key, _ = vectors(seed, tokens=tokens)
    value = torch.eye(tokens).expand(2, 3, tokens, tokens)
    weights = performer_attention(length * query, key, value, draw(seed, 20), SCALING)
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(dim=3), torch.ones(2, tokens, 3))


@given(seed=st.integers(0, 1000), order=st.permutations(range(7)))
def test_the_order_of_tokens_does_not_matter(seed, order):
    query, key, value = vectors(seed, tokens=7)
    projection = draw(seed, 20)
    plain = performer_attention(query, key, value, projection, SCALING)
    keys = performer_attention(query, key[:, :, order], value[:, :, order], projection, SCALING)
    torch.testing.assert_close(keys, plain)
    queries = performer_attention(query[:, :, order], key, value, projection, SCALING)
    torch.testing.assert_close(queries, plain[:, order])


def test_gradients_point_where_those_of_exact_attention_do():
    inputs = [x.requires_grad_() for x in vectors()]
    upstream = torch.randn(2, 40, 3, HEAD_DIM, generator=torch.Generator().manual_seed(2))
    exact = scaled_dot_product_attention(*inputs).transpose(1, 2)
    estimate = performer_attention(*inputs, draw(0, 8192), SCALING)
    expected = torch.autograd.grad((exact * upstream).sum(), inputs)
    gradients = torch.autograd.grad((estimate * upstream).sum(), inputs)
    for gradient, target in zip(gradients, expected, strict=True):
        assert cosine_similarity(gradient.flatten(), target.flatten(), dim=0) > 0.95


class LargestTensor(TorchDispatchMode):
    """Record the size of the largest result of any operation."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.numbers = max(self.numbers, result.numel())
        return result


def test_arithmetic_and_memory_are_linear_in_the_tokens():
    costs = {}
    for tokens in (46, 460, 10_000):
        inputs = [torch.empty(1, 16, tokens, 64, device="meta", requires_grad=True) for _ in range(3)]
        projection = torch.empty(266, 64, device="meta")
        with FlopCounterMode(display=False) as counter, LargestTensor() as largest:
            performer_attention(*inputs, projection, 64**-0.5).sum().backward()
        costs[tokens] = counter.get_total_flops() / tokens, largest.numbers
    assert len({flops for flops, _ in costs.values()}) == 1
    assert costs[46][0] > 0
    # features of each token, or of each column of the values where these are more
    assert [numbers for _, numbers in costs.values()] == [16 * 266 * 64, 16 * 266 * 460, 16 * 266 * 10_000]


@pytest.mark.parametrize("autocast", [False, True])
def test_long_queries_give_finite_scores_and_gradients(autocast):
    query, key, value = vectors()
    inputs = [x.requires_grad_() for x in (60 * query, 60 * key, value)]
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        output = performer_attention(*inputs, draw(0, 44), SCALING)
    output.sum().backward()
    assert all(x.isfinite().all() for x in (output, *(x.grad for x in inputs)))


def test_autocast_keeps_features_in_32_bits():
    query, key, value = (x.bfloat16() for x in vectors())
    projection = draw(0, 44)
    expected = performer_attention(query.float(), key.float(), value.float(), projection, SCALING)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = performer_attention(query, key, value, projection, SCALING)
    assert output.dtype == torch.bfloat16
    assert torch.equal(output, expected.bfloat16())


class TestViT:
    def test_a_checkpoint_keeps_its_features(self, tmp_path):
        model = tiny_vit()
        model.save_pretrained(tmp_path)
        torch.manual_seed(5)
        again = AutoModelForAudioClassification.from_pretrained(tmp_path)
        with torch.no_grad():
            assert torch.equal(again(spectrograms()).logits, model(spectrograms()).logits)
        first, second = (layer.attention.random_features for layer in again.layers)
        assert first.shape == (default_num_features(16), 16) == (44, 16)
        assert not torch.equal(first, second)

    def test_an_older_checkpoint_loads_as_it_was(self, tmp_path):
        model = tiny_vit(attention="softmax")
        model.save_pretrained(tmp_path)
        config = json.loads(Path(tmp_path, "config.json").read_text())
        del config["attention"], config["num_random_features"]
        Path(tmp_path, "config.json").write_text(json.dumps(config))
        again = AutoModelForAudioClassification.from_pretrained(tmp_path)
        with torch.no_grad():
            assert torch.equal(again(spectrograms()).logits, model(spectrograms()).logits)
        assert "layers.0.attention.random_features" not in again.state_dict()

    def test_weights_of_exact_attention_can_be_taken_over(self, tmp_path):
        model = tiny_vit(attention="softmax")
        model.save_pretrained(tmp_path)
        again = AutoModelForAudioClassification.from_pretrained(tmp_path, attention="performer").eval()
        assert torch.equal(again.layers[1].attention.qkv.weight, model.layers[1].attention.qkv.weight)
        norms = again.layers[1].attention.random_features.norm(dim=1)
        assert 2 < norms.min() < norms.max() < 7  # chi with 16 degrees of freedom: 3.9 +- 0.7
        with torch.no_grad():
            torch.testing.assert_close(again(spectrograms()).logits, model(spectrograms()).logits, atol=0.1, rtol=0)

    def test_features_are_no_parameters(self):
        with torch.device("meta"):
            model = build_model("vit-8-23", attention="performer")
        assert model.num_parameters() == 4_790_506
        assert model.layers[0].attention.random_features.shape == (266, 64)

    def test_a_clip_is_scored_alone_as_in_company(self):
        model = tiny_vit()
        with torch.no_grad():
            together = model(spectrograms()).logits
            alone = torch.cat([model(clip[None]).logits for clip in spectrograms()])
        torch.testing.assert_close(alone, together, atol=1e-5, rtol=1e-5)

    def test_gradient_checkpointing_changes_nothing(self):
        model = tiny_vit().train()
        gradients = []
        for _ in range(2):
            model.zero_grad()
            model(spectrograms(), labels=torch.tensor([0, 1, 2])).loss.backward()
            gradients.append([p.grad.clone() for p in model.parameters()])
            model.gradient_checkpointing_enable({"use_reentrant": False})
        torch.testing.assert_close(gradients[1], gradients[0])

    def test_16_bits_change_little(self):
        model = tiny_vit()
        with torch.no_grad():
            exact = model(spectrograms()).logits
            with torch.autocast("cpu", dtype=torch.bfloat16):
                torch.testing.assert_close(model(spectrograms()).logits.float(), exact, atol=0.05, rtol=0)

    def test_it_exports(self):
        model = tiny_vit()
        program = torch.export.export(model, (), {"input_features": spectrograms()})
        with torch.no_grad():
            exported = program.module()(input_features=spectrograms()).logits
            torch.testing.assert_close(exported, model(spectrograms()).logits)

    def test_it_learns(self):
        model = tiny_vit().train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        losses = []
        for _ in range(25):
            loss = model(spectrograms(6), labels=torch.arange(6)).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < losses[0] / 4


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"attention": "linear"}, "expected attention 'softmax' or 'performer', found 'linear'; use one of these."),
        (
            {"num_random_features": 64},
            "expected num_random_features with attention 'performer' alone, found 64 with 'softmax'; leave it out.",
        ),
        *(
            (
                {"attention": "performer", "num_random_features": count},
                f"expected num_random_features to be a whole number of at least 1, found {count!r}; leave it out for "
                "the default.",
            )
            for count in (0, 2.5)
        ),
    ],
)
def test_an_impossible_attention_is_a_sentence(config, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        build_config("vit-8-23", **config)


def test_an_unknown_attention_is_refused_for_a_checkpoint_too(tmp_path):
    tiny_vit(attention="softmax").save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"found 'perfomer'; use one of these\.$"):
        AutoModelForAudioClassification.from_pretrained(tmp_path, attention="perfomer")
