"""Explanations point at what spoke for the label, and know nothing once the weights are random."""

from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints_of import write_checkpoint
from runner import flags, run

from hf_vivae.inference.explain import (
    gradient_saliency,
    occlusion_saliency,
    save_occlusion_figure,
    save_saliency_figure,
)
from hf_vivae.inference.scorer import Scorer

RATE = 44100


@pytest.fixture(scope="module")
def trained(tiny_vivae, tmp_path_factory) -> Path:
    """A small spectrogram ViT that has learnt which overtones are which emotion."""
    output = tmp_path_factory.mktemp("run")
    more = ["--normalization", "mean_std", "--learning_rate", "3e-3", "--num_train_epochs", "15"]
    run(flags(tiny_vivae, output, "vit-32-30", *more))
    return output / "S01"


@pytest.fixture(scope="module")
def clip() -> dict:
    """A tone from 0.5 to 0.8 s in faint noise."""
    seconds = np.arange(RATE) / RATE
    tone = 0.4 * np.sin(2 * np.pi * 1200 * seconds) * ((seconds > 0.5) & (seconds < 0.8))
    noise = 0.001 * np.random.default_rng(0).standard_normal(RATE)
    return {"array": (tone + noise).astype(np.float32), "sampling_rate": RATE}


def inside(centres: np.ndarray) -> np.ndarray:
    return (centres > 0.45) & (centres < 0.85)


def test_silencing_the_sound_costs_more_than_silencing_silence(trained, clip, tmp_path):
    scorer = Scorer(str(trained))
    found = occlusion_saliency(scorer, clip)
    within = inside(found.starts + found.seconds / 2)
    assert np.abs(found.losses[within]).mean() > 3 * np.abs(found.losses[~within]).mean()
    whole = scorer.score([clip])[0]
    assert found.probability == pytest.approx(float(whole.max()), abs=1e-6)
    save_occlusion_figure(found, scorer.load_audio(clip), RATE, tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size > 10_000


def test_gradients_point_at_the_sound(trained, clip, tmp_path):
    found = gradient_saliency(Scorer(str(trained)), clip)
    frames = np.linspace(0, found.seconds, found.relevance.shape[1])
    strength = np.abs(found.relevance).sum(axis=0)
    assert strength[inside(frames)].mean() > 2 * strength[~inside(frames)].mean()
    assert found.relevance.shape == found.spectrogram.shape == (64, 690)
    save_saliency_figure(found, tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size > 10_000


def test_explanations_of_random_weights_are_others(trained, clip):
    """Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018."""
    scorer = Scorer(str(trained))
    learnt = gradient_saliency(scorer, clip, "anger").relevance, occlusion_saliency(scorer, clip, "anger").losses
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in scorer.model.parameters():
            weight.copy_(weight.flatten()[torch.randperm(weight.numel())].view_as(weight))
    random = gradient_saliency(scorer, clip, "anger").relevance, occlusion_saliency(scorer, clip, "anger").losses
    for one, other in zip(learnt, random, strict=True):
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.7


def test_what_cannot_be_explained_is_said(trained, clip, tmp_path):
    scorer = Scorer(str(trained))
    with pytest.raises(ValueError, match="--label"):
        occlusion_saliency(scorer, clip, "joy")
    with pytest.raises(ValueError, match="silence"):
        occlusion_saliency(scorer, {"array": np.zeros(RATE, np.float32), "sampling_rate": RATE})
    waveform = Scorer(str(write_checkpoint(tmp_path / "mlp", "mlp")))
    with pytest.raises(ValueError, match="expected a model that takes a mel spectrogram, found one with Waveform"):
        gradient_saliency(waveform, clip)
    assert occlusion_saliency(waveform, clip).losses.shape == (1,)  # it takes 2000 samples
