"""Labels of an output that can reject clips, and thresholds of the largest logit fitted on validation clips."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedConfig

from hf_vivae.checkpoints.open_set import (
    background_labels,
    fewest_clips,
    fit_threshold,
    keep_threshold,
    output_labels,
)
from hf_vivae.validation import UserError


def config_of(*names: str, **fields) -> PreTrainedConfig:
    config = PreTrainedConfig(id2label=dict(enumerate(names)))
    for name, value in fields.items():
        setattr(config, name, value)
    return config


def threshold(value: float) -> dict:
    return {"score": "max_logit", "threshold": value, "rate": 0.05, "clips": 20}


def test_a_checkpoint_without_the_fields_keeps_its_labels_and_logits():
    output = output_labels(config_of("unknown", "laugh"))
    assert (output.names, output.unknown) == (("unknown", "laugh"), None)
    logits = torch.randn(5, 2)
    assert torch.equal(output.merge(logits, 2.0), logits / 2)


def test_background_classes_are_one_label_with_the_sum_of_their_probabilities():
    output = output_labels(config_of("laugh", "Noise", "cry", "other", background_labels=["Noise", "other"]))
    assert (output.names, output.unknown) == (("laugh", "cry", "unknown"), 2)
    logits = torch.randn(7, 4)
    alone, merged = (logits / 1.7).softmax(dim=-1), output.merge(logits, 1.7).softmax(dim=-1)
    torch.testing.assert_close(merged[:, :2], alone[:, [0, 2]])
    torch.testing.assert_close(merged[:, 2], alone[:, 1] + alone[:, 3])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**16), st.floats(-3, 3), st.floats(0.1, 10))
def test_unknown_is_the_likeliest_exactly_where_all_logits_are_below_the_threshold(seed, value, temperature):
    output = output_labels(config_of("a", "b", "c", open_set=threshold(value)))
    logits = torch.randn(50, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    probabilities = output.merge(logits, temperature).softmax(dim=-1)
    assert output.names[output.unknown] == "unknown"
    assert torch.equal(probabilities.argmax(dim=-1) == output.unknown, logits.max(dim=-1).values < value)
    torch.testing.assert_close(probabilities.sum(dim=-1), torch.ones(50, dtype=torch.float64))


def test_the_threshold_is_that_of_the_validation_clips(tmp_path):
    config, logits = config_of("a", "b"), np.arange(40.0).reshape(20, 2)
    rows = [{"split": "validation", "logits": row.tolist(), "label": 0} for row in logits]
    keep_threshold(config, [*rows, {"split": "test", "logits": [-9.0, -9.0], "label": 1}], rate=0.1)
    config.save_pretrained(tmp_path)
    kept = PreTrainedConfig.from_pretrained(tmp_path)
    assert kept.open_set == {"score": "max_logit", "threshold": 3.0, "rate": 0.1, "clips": 20}  # floor(0.1 * 21) = 2
    assert output_labels(kept).threshold == 3.0


def test_further_clips_are_rejected_at_most_at_the_rate():
    """The mean over many draws of the share of clips below a threshold of 39 clips; its expectation is 3 / 40."""
    rng = np.random.default_rng(0)
    shares = [np.mean(rng.normal(size=500) < fit_threshold(rng.normal(size=(39, 1)), 0.08)) for _ in range(400)]
    assert 0.07 < np.mean(shares) <= 0.08


@pytest.mark.parametrize(("rate", "fewest"), [(0.05, 19), (0.1, 9), (0.3, 3), (1 / 49, 48), (0.9, 1)])
def test_fewer_clips_than_a_rate_needs_have_no_threshold(rate, fewest):
    assert fewest_clips(rate) == fewest
    assert int(rate * (fewest + 1) + 1e-9) >= 1 > int(rate * fewest + 1e-9)


def test_names_of_background_are_found_in_any_case():
    assert background_labels(["Background", "laugh", "NOISE", "noisy"]) == ["Background", "NOISE"]
    assert background_labels(["laugh", "unknown"]) == []


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["noise", "Other"], "expected a label that is no background, found only noise, Other; add clips"),
        (["noise", "unknown"], "expected no label unknown with the background class noise, .* rename it"),
    ],
)
def test_background_without_labels_is_refused(names, sentence):
    with pytest.raises(UserError, match=sentence):
        background_labels(names)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"background_labels": ["laugh", "bark"]}, "expected a list of labels as background_labels"),
        ({"background_labels": "laugh"}, "expected a list of labels as background_labels"),
        ({"background_labels": ["laugh", "cry"]}, "expected labels besides laugh, cry"),
        ({"open_set": 0.3}, "expected the score max_logit and a finite threshold"),
        ({"open_set": threshold(float("nan"))}, "expected the score max_logit and a finite threshold"),
        ({"open_set": threshold(0.3) | {"score": "vim"}}, "expected the score max_logit and a finite threshold"),
    ],
)
def test_other_fields_than_training_writes_are_refused(fields, sentence):
    with pytest.raises(UserError, match=sentence):
        output_labels(config_of("laugh", "cry", **fields))


def test_a_label_that_is_called_unknown_cannot_be_that_of_rejected_clips():
    with pytest.raises(UserError, match=r"none called unknown, in config.json, found unknown, cry"):
        output_labels(config_of("unknown", "cry", open_set=threshold(0.3)))
