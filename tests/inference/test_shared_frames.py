"""Windows of a recording that share frames have the features of their own samples."""

import numpy as np
import pytest
import torch

from hf_vivae.inference import shared_frames
from hf_vivae.inference.shared_frames import shares_frames, window_features
from hf_vivae.models import LogMelFeatureExtractor, WaveformFeatureExtractor


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"peak": 0.3, "top_db": 20.0},
        {"num_samples": 4000, "fft_length": 512, "hop_length": 128, "num_mel_bins": 20},
        {"num_samples": 2048},
        {"num_samples": 4095, "hop_length": 512},
    ],
)
def test_features_of_windows_are_those_of_their_samples(settings, monkeypatch):
    monkeypatch.setattr(shared_frames, "PIECE", 100)
    monkeypatch.setattr(shared_frames, "EDGES", 3)
    extractor = LogMelFeatureExtractor(**settings)
    assert shares_frames(extractor, extractor.num_samples)
    length, hop = extractor.num_samples, extractor.hop_length
    samples = np.random.default_rng(0).normal(0, 0.1, 4 * length + 5).astype(np.float32)
    samples[: length // 2] *= 1e-3  # the floor differs between windows
    starts = [0, hop, 7 * hop, *range(length // hop * hop, 3 * length, 16 * hop)]
    features = window_features(extractor, samples, starts)
    assert len(features) == len(starts)
    for start, of_window in zip(starts, features, strict=True):
        (name, spectrogram), *others = of_window().items()
        assert (name, others) == ("input_features", [])
        expected = extractor.extract([samples[start : start + length]])[0]
        np.testing.assert_allclose(spectrogram, expected, atol=1e-3)  # dB


def test_frames_between_windows_are_not_computed(monkeypatch):
    computed, decibels = [], LogMelFeatureExtractor.decibels

    def count(extractor: LogMelFeatureExtractor, waveforms: torch.Tensor, center: bool = True) -> torch.Tensor:
        result = decibels(extractor, waveforms, center)
        computed.append(result.shape[0] * result.shape[2])
        return result

    extractor = LogMelFeatureExtractor()
    samples = np.ones(100 * extractor.num_samples, np.float32)
    monkeypatch.setattr(LogMelFeatureExtractor, "decibels", count)
    window_features(extractor, samples, [0, 64 * 172, 64 * 40_000])
    assert sum(computed) < 5 * 690
    assert window_features(extractor, samples[:10], []) == []


@pytest.mark.parametrize(
    ("extractor", "samples"),
    [
        (LogMelFeatureExtractor(), 44099),
        (LogMelFeatureExtractor(pad_clip=False), 44100),
        (LogMelFeatureExtractor(trim_db=30.0), 44100),
        (LogMelFeatureExtractor(hop_length=100), 44100),
        (LogMelFeatureExtractor(num_samples=2000), 44100),
        (WaveformFeatureExtractor(), 44100),
    ],
)
def test_other_windows_do_not_share_frames(extractor, samples):
    assert not shares_frames(extractor, samples)
