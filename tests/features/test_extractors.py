"""Lengths that extractors take of a clip, as many as in training, and the order of clips by that length."""

import datasets
import numpy as np
import pytest
import torch
from encoders import LABELS, SECONDS, WHISPER, write_encoder
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    ASTFeatureExtractor,
    AutoFeatureExtractor,
    AutoModelForAudioClassification,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2FeatureExtractor,
    WhisperConfig,
    WhisperFeatureExtractor,
)

from hf_vivae.checkpoints.load import load_checkpoint, load_encoder
from hf_vivae.features.cache import by_length, feature_lengths
from hf_vivae.features.extraction import clip_threads, extract_features, max_input_seconds, set_max_length
from hf_vivae.models import LogMelFeatureExtractor, WaveformFeatureExtractor
from hf_vivae.models.features_whisper import MaskedWhisperFeatureExtractor

RATE = 16000
KINDS = (Wav2Vec2FeatureExtractor, SeamlessM4TFeatureExtractor, WhisperFeatureExtractor,
         MaskedWhisperFeatureExtractor, ASTFeatureExtractor)  # fmt: skip


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, samples).astype(np.float32)


def features_of(extractor, *clips: np.ndarray, max_seconds: float = SECONDS) -> list[np.ndarray]:
    return extract_features(extractor, list(clips), max_seconds)[extractor.model_input_names[0]]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(400, 40000), min_size=1, max_size=3))
def test_whispers_frames_are_those_of_its_whole_window(lengths):
    extractor = MaskedWhisperFeatureExtractor()
    clips = [noise(length, seed) for seed, length in enumerate(lengths)]
    whole = extractor(clips, sampling_rate=RATE, return_tensors="np")
    assert whole["input_features"].shape[2] == 3000
    for features, window, mask in zip(features_of(extractor, *clips, max_seconds=30), *whole.values(), strict=True):
        np.testing.assert_allclose(features, window[:, mask.astype(bool)].T, atol=1e-4)


def test_whispers_window_ends_where_it_ends():
    extractor = MaskedWhisperFeatureExtractor(chunk_length=1)
    assert [len(frames) for frames in features_of(extractor, noise(RATE - 100), noise(2 * RATE))] == [100, 100]


@pytest.mark.parametrize(
    ("extractor", "seconds"),
    [
        (WhisperFeatureExtractor(), 30),
        (MaskedWhisperFeatureExtractor(chunk_length=2), 2),
        (ASTFeatureExtractor(), 10.24),
        (WaveformFeatureExtractor(RATE, 4000), 0.25),
        (Wav2Vec2FeatureExtractor(), np.inf),
        (SeamlessM4TFeatureExtractor(), np.inf),
    ],
)
def test_an_extractor_takes_nothing_after_its_window(extractor, seconds):
    assert max_input_seconds(extractor) == seconds
    if seconds < np.inf:
        before, after = noise(round(seconds * RATE) + 240), noise(8000, 1)  # AST's last frame reaches 15 ms further
        clips = np.concatenate([before, after]), np.concatenate([before, -after])
        features, others = (features_of(extractor, clip, max_seconds=60) for clip in clips)
        np.testing.assert_array_equal(features, others)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("with_code", [False, True])
def test_a_cut_is_kept_and_applied_to_features(kind, with_code):
    extractor = set_max_length(kind(), 0.3, with_code)
    assert isinstance(extractor, kind)
    assert extractor.num_samples == 4800
    clip = noise(RATE)
    (features,) = features_of(extractor, clip)
    np.testing.assert_array_equal(features, features_of(kind(), clip[:4800])[0])
    assert not np.array_equal(features, features_of(kind(), clip)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_with_code_the_extractor_cuts_by_itself(kind, tmp_path):
    set_max_length(kind(), 0.3, with_code=True).save_pretrained(tmp_path)
    again = AutoFeatureExtractor.from_pretrained(tmp_path)
    clip, name = noise(RATE), kind.model_input_names[0]
    expected = kind()(clip[:4800], sampling_rate=RATE, return_tensors="np")[name]
    np.testing.assert_array_equal(again(clip, sampling_rate=RATE, return_tensors="np")[name], expected)


def test_what_has_one_length_by_itself_keeps_it():
    for own in (WaveformFeatureExtractor(RATE, 4000), LogMelFeatureExtractor()):
        samples = own.num_samples
        assert set_max_length(own, 0.1, with_code=True) is own
        assert own.num_samples == samples


@pytest.mark.parametrize("samples", [400, 479, 559, 560])
@pytest.mark.parametrize("with_code", [False, True])
def test_w2v_bert_takes_a_frame_of_the_shortest_clip(samples, with_code):
    extractor = SeamlessM4TFeatureExtractor()
    extractor = set_max_length(extractor, 1.0, with_code=True) if with_code else extractor
    clip = noise(samples)
    (features,) = features_of(extractor, clip)
    assert features.shape == (1, 160)
    assert np.isfinite(features).all()
    np.testing.assert_array_equal(features, features_of(extractor, np.pad(clip, (0, 560 - samples)))[0])


# --- an earlier training


@pytest.mark.parametrize("kind", ["layer norm", "w2v-bert", "ast"])
@pytest.mark.parametrize("with_code", [False, True])
def test_where_an_earlier_training_has_cut_binds_no_later_one(kind, with_code, tmp_path):
    write_encoder(tmp_path, kind)
    set_max_length(AutoFeatureExtractor.from_pretrained(tmp_path), 0.1, with_code).save_pretrained(tmp_path)
    _, extractor = load_checkpoint(tmp_path, LABELS, {}, SECONDS)
    assert getattr(extractor, "num_samples", None) is None
    clip = noise(RATE)
    np.testing.assert_array_equal(features_of(extractor, clip)[0], features_of(type(extractor)(), clip)[0])


def test_an_encoder_that_is_trained_further_takes_the_whole_of_longer_clips(tmp_path):
    write_encoder(tmp_path / "library", "whisper")
    for part in load_encoder(tmp_path / "library", LABELS, {}, 1.0):  # of clips of 1 s
        part.save_pretrained(tmp_path / "ours")
    model, extractor = load_checkpoint(tmp_path / "ours", LABELS, {}, 3.0)
    clip = noise(3 * RATE)
    assert len(features_of(extractor, clip, max_seconds=3.0)[0]) == 300
    inputs = extractor(clip, sampling_rate=RATE, return_tensors="pt")
    changed = inputs["input_features"].clone()
    changed[..., 299] += 1
    with torch.no_grad():
        before, after = (
            model.eval()(**{**inputs, "input_features": one}).logits for one in (inputs["input_features"], changed)
        )
    assert not torch.equal(before, after)


def test_whispers_own_classifier_gets_a_window_for_the_later_clips(tmp_path):
    write_encoder(tmp_path / "library", "whisper")
    for part in load_checkpoint(tmp_path / "library", LABELS, {}, 0.5):
        part.save_pretrained(tmp_path / "trained")
    model, extractor = load_checkpoint(tmp_path / "trained", LABELS, {}, 2.5)
    assert (extractor.chunk_length, extractor.nb_max_frames, model.config.max_source_positions) == (3, 300, 150)
    whole = AutoModelForAudioClassification.from_config(WhisperConfig(**WHISPER)).encoder.embed_positions.weight
    torch.testing.assert_close(model.encoder.embed_positions.weight.data, whole.data[:150], atol=1e-3, rtol=0)


def test_sew_gets_the_length_of_the_later_clips(tmp_path):
    write_encoder(tmp_path / "library", "squeezed")
    for part in load_encoder(tmp_path / "library", LABELS, {}, 0.5):
        part.save_pretrained(tmp_path / "ours")
    _, extractor = load_checkpoint(tmp_path / "ours", LABELS, {}, 2.0)
    assert (type(extractor), extractor.num_samples) == (WaveformFeatureExtractor, 2 * RATE)


# --- order


def as_dataset(values: list[np.ndarray], kind: datasets.features.features.FeatureType) -> datasets.Dataset:
    features = datasets.Features({"input": kind})
    features = datasets.Dataset.from_dict({"input": values}, features=features)
    return features.add_column("labels", [0] * len(values)).with_format("torch")


@pytest.mark.parametrize(
    ("kind", "shape"),
    [(datasets.List(datasets.Value("float32")), ()), (datasets.Array2D((None, 3), "float32"), (3,))],
)
def test_clips_are_ordered_by_what_is_left_of_them(kind, shape):
    lengths = [7, 2, 9, 4]
    kept = as_dataset([np.zeros((length, *shape), np.float32) for length in lengths], kind)
    both = datasets.concatenate_datasets([kept, kept])  # two chunks of Arrow
    assert feature_lengths(both) == lengths * 2
    assert by_length(kept, [0, 2, 3]) == [3, 0, 2]


@pytest.mark.parametrize("shape", [(5,), (2, 5), (1, 4, 5)])
def test_clips_of_one_length_keep_their_order(shape):
    kind = (
        datasets.List(datasets.Value("float32"), length=5)
        if len(shape) == 1
        else getattr(datasets, f"Array{len(shape)}D")(shape, "float32")
    )
    kept = as_dataset([np.zeros(shape, np.float32)] * 3, kind)
    assert feature_lengths(kept) == [shape[0]] * 3
    assert by_length(kept, [2, 0, 1]) == [2, 0, 1]


def test_each_clip_has_a_thread_of_one_core_and_the_threads_of_torch_stay():
    before = torch.get_num_threads()
    with clip_threads() as pool:
        assert pool.submit(torch.get_num_threads).result() == 1
    assert torch.get_num_threads() == before
