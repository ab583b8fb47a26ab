"""Effect of augmentation on a clip, measured; repeatability; and refused settings."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_vivae.features.augmentation import Augmentation, parse_augmentation

RATE = 16000
EVERYTHING = Augmentation(6, (10, 40), 0.1, 0.1, 2, time_masks=2, mel_masks=2, probability=1)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def always(**strengths) -> Augmentation:
    return Augmentation(**strengths, probability=1)


def sine(frequency: float = 440, seconds: float = 1.0) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * frequency * np.arange(int(RATE * seconds)) / RATE)).astype(np.float32)


def noise(seconds: float = 1.0) -> np.ndarray:
    return generator(1).normal(0, 0.1, int(RATE * seconds)).astype(np.float32)


def power(samples: np.ndarray) -> float:
    return float(np.square(samples, dtype=np.float64).mean())


def decibels(ratio: float) -> float:
    return 10 * np.log10(ratio)


def frequency(samples: np.ndarray) -> float:
    """The dominant one of the middle half, in Hz."""
    middle = samples[len(samples) // 4 : -len(samples) // 4]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle)), 1 << 18))
    return spectrum.argmax() * RATE / (1 << 18)


def outcomes(augmentation: Augmentation, samples: np.ndarray, count: int = 30) -> list[np.ndarray]:
    return [augmentation.waveform(samples, RATE, generator(seed)) for seed in range(count)]


def test_the_same_generator_gives_the_same_clip_whatever_was_drawn_before():
    first = EVERYTHING.waveform(noise(), RATE, generator(3))
    random.seed(9)
    np.random.seed(9)
    EVERYTHING.waveform(sine(), RATE, generator(4))
    np.testing.assert_array_equal(EVERYTHING.waveform(noise(), RATE, generator(3)), first)
    other = EVERYTHING.waveform(noise(), RATE, generator(4))
    assert other.shape != first.shape or not np.array_equal(other, first)


def test_no_global_random_number_is_used():
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    EVERYTHING.waveform(noise(), RATE, generator())
    EVERYTHING.spectrogram(noise(0.4).reshape(1, 64, 100), generator())
    assert random.getstate() == before[0]
    np.testing.assert_equal(np.random.get_state(), before[1])
    assert torch.equal(torch.get_rng_state(), before[2])


def test_random_numbers_are_put_back_after_an_error():
    before = random.getstate()
    with pytest.raises(TypeError):
        EVERYTHING.waveform(noise(), None, generator())
    assert random.getstate() == before


def test_gain_changes_the_level_alone():
    gains = [decibels(power(clip) / power(noise())) for clip in outcomes(always(gain_db=6), noise())]
    assert -6 <= min(gains) < -3
    assert 3 < max(gains) <= 6
    clip = outcomes(always(gain_db=6), noise(), 1)[0]
    np.testing.assert_allclose(clip / noise(), 10 ** (gains[0] / 20), rtol=1e-5)


def test_noise_lies_so_many_decibels_below_the_clip():
    ratios = [
        decibels(power(sine()) / power(clip - sine())) for clip in outcomes(always(noise_snr_db=(10, 20)), sine())
    ]
    assert 9.5 < min(ratios) < 13
    assert 17 < max(ratios) < 20.5


def test_a_shift_puts_silence_on_one_side_and_cuts_nothing():
    moved = outcomes(always(shift_seconds=0.1), noise())
    silences = [len(clip) - RATE for clip in moved]
    assert min(silences) >= 0
    assert 1000 < max(silences) <= 1600
    before = [clip for clip in moved if not np.array_equal(clip[:RATE], noise())]
    assert 5 < len(before) < 25
    for clip in before:
        np.testing.assert_array_equal(clip[-RATE:], noise())
        assert not clip[:-RATE].any()


def test_stretching_changes_the_length_and_not_the_pitch():
    stretched = outcomes(always(time_stretch=0.2), sine(), 10)
    lengths = [len(clip) / RATE for clip in stretched]
    assert 1 / 1.2 <= min(lengths) < 0.95
    assert 1.05 < max(lengths) <= 1 / 0.8 + 1e-4
    assert [frequency(clip) for clip in stretched] == pytest.approx([440] * 10, rel=0.005)


def test_pitch_moves_by_semitones_at_the_same_length():
    shifted = outcomes(always(pitch_semitones=3), sine(), 10)
    semitones = [12 * np.log2(frequency(clip) / 440) for clip in shifted]
    assert -3.1 < min(semitones) < -1
    assert 1 < max(semitones) < 3.1
    assert {len(clip) for clip in shifted} == {RATE}


def test_an_onset_stays_where_it_was():
    click = np.zeros(RATE, np.float32)
    click[6000] = 1
    assert [np.abs(clip).argmax() for clip in outcomes(always(pitch_semitones=2), click, 5)] == [6000] * 5


def test_time_masks_silence_parts_of_a_waveform():
    silent = [np.mean(clip == 0) for clip in outcomes(always(time_masks=1, time_mask_share=0.3), noise())]
    assert min(silent) < 0.1
    assert 0.2 < max(silent) <= 0.3
    unchanged = [np.mean(clip == noise()) for clip in outcomes(always(time_masks=1, time_mask_share=0.3), noise())]
    assert min(unchanged) >= 0.7


def test_each_happens_with_its_probability():
    clips = outcomes(Augmentation(gain_db=6, probability=0.25), noise(), 200)
    changed = sum(not np.array_equal(clip, noise()) for clip in clips)
    assert 30 < changed < 70  # 50 expected, 6.1 standard deviation


@pytest.mark.parametrize(("settings", "axis"), [({"time_masks": 1}, -1), ({"mel_masks": 1}, -2)])
def test_masks_of_a_spectrogram_are_whole_bands_or_frames_of_its_mean(settings, axis):
    spectrogram = generator(1).normal(-30, 10, (1, 40, 50)).astype(np.float32)
    widths = []
    for seed in range(40):
        masked = always(**settings, time_mask_share=0.3, mel_mask_share=0.3).spectrogram(spectrogram, generator(seed))
        changed = np.flatnonzero((masked != spectrogram).any(axis=(0, -3 - axis)))
        widths.append(len(changed))
        assert (np.diff(changed) == 1).all()
        np.testing.assert_array_equal(np.moveaxis(masked, axis, 0)[changed], spectrogram.mean())
    assert min(widths) == 0
    assert max(widths) == 0.3 * spectrogram.shape[axis]


def test_masks_fall_on_the_clip_and_not_on_its_padding():
    spectrogram = np.full((1, 8, 100), -80, np.float32)
    spectrogram[..., 60:80] = generator(1).normal(-30, 5, (8, 20))
    augmentation = always(time_masks=1, time_mask_share=0.5, mel_masks=1, mel_mask_share=0.5)
    masked = [augmentation.spectrogram(spectrogram, generator(seed)) for seed in range(20)]
    changed = np.any([clip != spectrogram for clip in masked], axis=(0, 1, 2))
    assert set(np.flatnonzero(changed)) == set(range(60, 80))
    assert {float(value) for clip in masked for value in clip[clip != spectrogram]} == {
        float(spectrogram[..., 60:80].mean())
    }


def test_silence_stays_silence():
    assert not EVERYTHING.waveform(np.zeros(RATE, np.float32), RATE, generator()).any()
    floor = np.full((1, 8, 20), -100, np.float32)
    np.testing.assert_array_equal(EVERYTHING.spectrogram(floor, generator()), floor)


@settings(max_examples=25, deadline=None)
@given(length=st.integers(1, 3000), seed=st.integers(0, 2**32), loud=st.booleans())
def test_any_clip_stays_finite_float32(length, seed, loud):
    samples = generator(seed).uniform(-1, 1, length).astype(np.float32) * (1 if loud else 1e-6)
    clip = EVERYTHING.waveform(samples, RATE, generator(seed))
    assert clip.dtype == np.float32
    assert clip.ndim == 1
    assert len(clip)
    assert np.isfinite(clip).all()


def test_settings_are_those_of_the_flag():
    parsed = parse_augmentation({"gain_db": 6, "noise_snr_db": [10, 40], "mixup": None, "mel_masks": 2})
    assert parsed == Augmentation(gain_db=6, noise_snr_db=(10, 40), mel_masks=2)
    assert parsed.changes_sound
    assert not Augmentation(mel_masks=2, mixup=0.2).changes_sound
    assert not parse_augmentation({}).changes_sound


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"pitch_semitone": 2}, r"expected names out of gain_db, .*_semitone' \(did you mean pitch_semitones\?\)"),
        ({"speed": 0.1}, "found 'speed'; correct it"),
        ({"reverse": True}, "'reverse' in --augment would change what a clip expresses: .*; use time_masks or shift"),
        *(({name: 0.5}, f"^'{name}' in .*onset and decay carry emotion")
          for name in ("time_reversal", "reverse_time", "Reverse", "TimeInversion", "play_backwards", "time_flip")),
        ({"reverb": 0.5}, "found 'reverb'; correct it"),
        (
            {"pitch_semitones": 5},
            "expected pitch_semitones of 0 to 4 semitones to either side .* found 5; stay within that, since pitch "
            "carries emotion",
        ),
        ({"time_stretch": 0.5}, "expected time_stretch of 0 to 0.3 .* found 0.5; .* tempo carries emotion"),
        ({"gain_db": -6}, "expected gain_db of 0 to 20 dB to either side in --augment, found -6"),
        ({"gain_db": "6"}, "found '6'"),
        ({"shift_seconds": float("nan")}, "expected shift_seconds of 0 to 1 seconds in --augment, found nan"),
        ({"mixup": True}, "expected mixup of 0 to 1 as alpha in --augment, found True"),
        ({"probability": 2}, "expected probability of 0 to 1"),
        ({"time_masks": 1.5}, "expected a number of time_masks in --augment, 0 or more, found 1.5"),
        ({"mel_masks": 3}, "expected mel_masks that leave half of a clip, found 3 of up to 0.2 of it each"),
        ({"noise_snr_db": 20}, r"two numbers of dB such as \[10, 40\], found 20"),
        ({"noise_snr_db": [40, 10]}, "give the lower first"),
        ({"noise_snr_db": [-5, 10]}, "none below 0, where noise is louder than the clip"),
    ],
)  # fmt: skip
def test_impossible_settings_are_refused(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        parse_augmentation(settings)
