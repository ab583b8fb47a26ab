"""Feature extractors: lengths, scale and rate, and the mel spectrogram against torchaudio."""

import numpy as np
import pytest
import torch
from tiny import clips
from transformers import Wav2Vec2FeatureExtractor

from hf_vivae.models import LogMelFeatureExtractor, WaveformFeatureExtractor


def test_a_long_clip_keeps_its_first_samples_and_a_short_one_lies_in_the_middle():
    extractor = WaveformFeatureExtractor(num_samples=6)
    features = extractor([np.arange(1, 9), np.array([1, 2, 3])], 44100, return_tensors="np")["input_values"]
    np.testing.assert_array_equal(features, [[1, 2, 3, 4, 5, 6], [0, 1, 2, 3, 0, 0]])  # the odd zero goes right


def test_the_peak_of_the_training_set_scales_to_one():
    extractor = WaveformFeatureExtractor(num_samples=2, peak=0.5)
    np.testing.assert_array_equal(extractor(np.array([0.5, -0.25]), 44100)["input_values"], [[1, -0.5]])


def test_mean_and_std_are_applied_last():
    extractor = WaveformFeatureExtractor(num_samples=2, peak=0.5, mean=1.0, std=2.0)
    np.testing.assert_array_equal(extractor(np.array([0.5, -0.5]), 44100)["input_values"], [[0, -1]])


def test_unit_variance_is_that_of_the_library():
    clip = clips(16000, 1)[0]
    padded = WaveformFeatureExtractor(16000, 16000)(clip, 16000)["input_values"][0]
    library = Wav2Vec2FeatureExtractor(do_normalize=True)(padded, sampling_rate=16000, return_tensors="np")
    ours = WaveformFeatureExtractor(16000, 16000, zero_mean_unit_variance=True)(clip, 16000)["input_values"]
    np.testing.assert_allclose(ours, library["input_values"], atol=1e-5)


@pytest.mark.parametrize(("fft", "hop", "bins"), [(1024, 64, 64), (512, 160, 40)])
def test_mel_spectrogram_equals_torchaudio(fft, hop, bins):
    from torchaudio.transforms import AmplitudeToDB, MelSpectrogram

    padding = WaveformFeatureExtractor()
    extractor = LogMelFeatureExtractor(num_mel_bins=bins, fft_length=fft, hop_length=hop)
    batch = [*clips(44100, 4), 1e-4 * clips(44100, 1, seed=1)[0]]
    ours = extractor(batch, 44100, return_tensors="pt")["input_features"]
    waveforms = padding(batch, 44100, return_tensors="pt")["input_values"][:, None]
    power = MelSpectrogram(44100, n_fft=fft, win_length=fft, hop_length=hop, n_mels=bins)(waveforms)
    torch.testing.assert_close(ours, AmplitudeToDB("power", top_db=80)(power), atol=1e-4, rtol=0)


def test_the_papers_mel_spectrogram_is_64_by_690():
    extractor = LogMelFeatureExtractor()
    assert extractor(clips(44100, 2), 44100, return_tensors="pt")["input_features"].shape == (2, 1, 64, 690)
    assert extractor.num_frames == 690


@pytest.mark.parametrize("extractor", [WaveformFeatureExtractor(), LogMelFeatureExtractor()])
def test_settings_survive_a_round_trip_through_a_folder(extractor, tmp_path):
    extractor.peak, extractor.mean, extractor.std = 0.9, -31.5, 17.25
    extractor.save_pretrained(tmp_path)
    again = type(extractor).from_pretrained(tmp_path)
    clip = clips(44100, 1)[0]
    for name, values in extractor(clip, 44100).items():
        np.testing.assert_array_equal(again(clip, 44100)[name], values)


@pytest.mark.parametrize("rate", [16000, None])
def test_another_sampling_rate_is_refused(rate):
    found = "none" if rate is None else "16000 Hz"
    with pytest.raises(ValueError, match=f"expects audio at 44100 Hz, found {found}; resample the clip and pass"):
        LogMelFeatureExtractor()(np.zeros(100), rate)


@pytest.mark.parametrize(
    ("clip", "sentence"),
    [
        (np.zeros((2, 2, 5)), r"expected mono clips of shape \(samples,\), found shape \(2, 5\) at index 0"),
        ([np.ones(3), np.zeros(0)], r"found shape \(0,\) at index 1"),
        (np.array([0.0, np.nan]), "expected finite samples, found NaN or infinite ones at index 0"),
    ],
)
def test_what_is_no_clip_is_refused(clip, sentence):
    with pytest.raises(ValueError, match=sentence):
        WaveformFeatureExtractor()(clip, 44100)


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="must be positive, found 44100, 0 and 1"):
        WaveformFeatureExtractor(peak=0, std=1)
    with pytest.raises(ValueError, match="must exceed half of fft_length 1024, found 512"):
        LogMelFeatureExtractor(num_samples=512)
