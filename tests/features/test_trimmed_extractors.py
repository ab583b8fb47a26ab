"""Every feature extractor trims first, keeps doing so in a folder, and is otherwise the one that it was."""

import re
import subprocess
import sys

import numpy as np
import pytest
from tiny import CONFIGS, clips
from transformers import (
    AutoFeatureExtractor,
    ClapFeatureExtractor,
    Wav2Vec2FeatureExtractor,
    WhisperFeatureExtractor,
    pipeline,
)

from hf_vivae.models import LogMelFeatureExtractor, WaveformFeatureExtractor, build_model
from hf_vivae.models.features_trimmed import TRIMMED, trimming_extractor
from hf_vivae.models.features_whisper import MaskedWhisperFeatureExtractor
from hf_vivae.models.silence import non_silent_range

RATE = 16000
TRIM = {"trim_db": 40.0, "trim_margin": 0.05, "trim_min_seconds": 0.1}
LIBRARY = [kind() for kind in TRIMMED]


def cut_and_whole(rate: int) -> tuple[np.ndarray, np.ndarray]:
    """A clip in silence, and the same as trimming leaves it."""
    frame = rate // 100
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, 40 * frame).astype(np.float32)
    clip = np.pad(noise, (40 * frame, 80 * frame))
    return clip, clip[35 * frame : 85 * frame]


@pytest.mark.parametrize(
    "kind",
    [
        WaveformFeatureExtractor,
        LogMelFeatureExtractor,
        lambda **trim: LogMelFeatureExtractor(pad_clip=False, **trim),
    ],
)
def test_ours_trim_first_and_not_unless_asked(kind):
    clip, part = cut_and_whole(44100)
    plain, trimming = kind(), kind(**TRIM)
    expected, (name,) = plain(part, 44100), plain.model_input_names
    assert np.array_equal(trimming(clip, 44100)[name], expected[name])
    assert np.array_equal(trimming.extract([clip]), plain.extract([part]))
    assert not np.array_equal(plain(clip, 44100)[name], expected[name])


@pytest.mark.parametrize("library", LIBRARY, ids=lambda one: type(one).__name__)
def test_the_librarys_take_the_trimmed_clip(library):
    clip, part = cut_and_whole(RATE)
    other = clips(RATE, 1)[0]
    trimming = trimming_extractor(library, TRIM)
    assert isinstance(trimming, type(library))
    assert type(trimming).__name__ == f"Trimmed{type(library).__name__}"
    other_part = other[slice(*non_silent_range(other, RATE, **TRIM))]
    for raw_speech, expected in ((clip, part), ([clip, other], [part, other_part])):
        padding = {"padding": True} if isinstance(library, Wav2Vec2FeatureExtractor) else {}
        found = trimming(raw_speech, sampling_rate=RATE, return_tensors="np", **padding)
        wanted = library(expected, sampling_rate=RATE, return_tensors="np", **padding)
        assert found.keys() == wanted.keys()
        for name, values in wanted.items():
            np.testing.assert_array_equal(found[name], values)


def test_settings_of_the_librarys_are_kept():
    library = Wav2Vec2FeatureExtractor(do_normalize=False, return_attention_mask=True, num_samples=9000)
    trimming = trimming_extractor(library, TRIM)
    assert trimming.to_dict() == library.to_dict() | TRIM | {"feature_extractor_type": type(trimming).__name__}
    whisper = trimming_extractor(WhisperFeatureExtractor(feature_size=8, chunk_length=2), TRIM)
    assert (whisper.feature_size, whisper.n_samples, whisper.nb_max_frames) == (8, 32000, 200)


def test_a_waveform_is_trimmed_before_it_is_cut_to_the_length_of_the_training():
    clip, part = cut_and_whole(RATE)
    trimming = trimming_extractor(Wav2Vec2FeatureExtractor(do_normalize=False, num_samples=4000), TRIM)
    (found,) = trimming(clip, sampling_rate=RATE)["input_values"]
    assert np.array_equal(found, part[:4000])


@pytest.mark.parametrize("own", [WaveformFeatureExtractor(peak=0.5), trimming_extractor(LIBRARY[0], TRIM)])
def test_those_that_can_trim_get_other_settings(own):
    again = trimming_extractor(own, TRIM | {"trim_db": 30.0})
    assert again is own
    assert own.trim_db == 30.0


def test_any_other_is_refused():
    sentence = (
        "expected a feature extractor that can trim silence (Wav2Vec2FeatureExtractor, WhisperFeatureExtractor, "
        "MaskedWhisperFeatureExtractor, SeamlessM4TFeatureExtractor, ASTFeatureExtractor, or one of this package), "
        "found ClapFeatureExtractor; leave out --trim_db."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        trimming_extractor(ClapFeatureExtractor(), TRIM)


def test_another_rate_is_refused_as_the_library_does():
    with pytest.raises(ValueError, match="trained using a sampling rate of 16000"):
        trimming_extractor(Wav2Vec2FeatureExtractor(), TRIM)(clips(44100, 1)[0], sampling_rate=44100)


@pytest.mark.parametrize(
    "extractor",
    [
        WaveformFeatureExtractor(**TRIM),
        LogMelFeatureExtractor(**TRIM),
        *(trimming_extractor(one, TRIM) for one in LIBRARY),
    ],
    ids=lambda one: type(one).__name__,
)
def test_a_folder_keeps_the_class_and_the_settings(extractor, tmp_path):
    extractor.save_pretrained(tmp_path)
    again = AutoFeatureExtractor.from_pretrained(tmp_path)
    assert type(again) is type(extractor)
    assert TRIM.items() <= again.to_dict().items()


def test_trimming_is_off_by_default_in_a_folder_too(tmp_path):
    WaveformFeatureExtractor().save_pretrained(tmp_path)
    assert AutoFeatureExtractor.from_pretrained(tmp_path).trim_db is None


@pytest.mark.parametrize(
    ("library", "kind"),
    [
        (Wav2Vec2FeatureExtractor(), "Wav2Vec2FeatureExtractor"),
        (MaskedWhisperFeatureExtractor(), "WhisperFeatureExtractor"),
    ],
)
def test_it_trims_where_this_package_is_not_installed(library, kind, tmp_path):
    clip, part = cut_and_whole(RATE)
    trimming_extractor(library, TRIM).save_pretrained(tmp_path / "saved")
    np.save(tmp_path / "clip.npy", clip)
    name = library.model_input_names[0]
    program = f"""
import sys
sys.modules["hf_vivae"] = None
import numpy, transformers
extractor = transformers.AutoFeatureExtractor.from_pretrained("saved", trust_remote_code=True)
assert isinstance(extractor, transformers.{kind})
numpy.save("found.npy", extractor(numpy.load("clip.npy"), sampling_rate={RATE}, return_tensors="np")["{name}"])
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path)
    expected = library(part, sampling_rate=RATE, return_tensors="np")[name]
    np.testing.assert_array_equal(np.load(tmp_path / "found.npy"), expected)


def test_a_pipeline_trims(tmp_path):
    clip, part = cut_and_whole(RATE)
    model = build_model("wav2vec2", **CONFIGS["wav2vec2"]).eval()
    extractor = Wav2Vec2FeatureExtractor(num_samples=RATE)
    trimming_extractor(extractor, TRIM).save_pretrained(tmp_path)
    model.save_pretrained(tmp_path)
    scores = pipeline("audio-classification", str(tmp_path), top_k=None)(clip)
    untrimmed = pipeline("audio-classification", model=model, feature_extractor=extractor, top_k=None)
    assert scores == untrimmed(part)
    assert scores != untrimmed(clip)
