"""Augmented training clips: the same for a seed, epoch and clip, whatever reads them, and true to their labels."""

import random

import datasets
import numpy as np
import pytest
import torch
from tiny import clips
from torch.utils.data import DataLoader
from transformers import (
    ASTFeatureExtractor,
    SeamlessM4TFeatureExtractor,
    Trainer,
    TrainingArguments,
    Wav2Vec2FeatureExtractor,
    WhisperFeatureExtractor,
)
from transformers.feature_extraction_utils import FeatureExtractionMixin

from hf_vivae import audio, load_vivae
from hf_vivae.features.augmentation import Augmentation, AugmentedDataset, SetEpochCallback, build_waveforms, mix
from hf_vivae.features.extraction import extract_features
from hf_vivae.models import LogMelFeatureExtractor, WaveformFeatureExtractor
from hf_vivae.models.features_trimmed import trimming_extractor
from hf_vivae.models.features_whisper import MaskedWhisperFeatureExtractor

RATE = 16000
LABELS = [0, 1, 2, 0, 1]
ROWS = [4, 0, 2]
SOUND = Augmentation(6, (10, 40), 0.1, 0.1, 2, time_masks=1, probability=0.7)
EXTRACTORS = {
    "waveform": lambda: WaveformFeatureExtractor(RATE, RATE),
    "mel": lambda: LogMelFeatureExtractor(num_samples=RATE, sampling_rate=RATE),
    "wav2vec2": lambda: Wav2Vec2FeatureExtractor(return_attention_mask=True, do_normalize=True),
    "whisper": lambda: MaskedWhisperFeatureExtractor(chunk_length=2),
    "whisper-window": lambda: WhisperFeatureExtractor(chunk_length=2),
    "w2v-bert": lambda: SeamlessM4TFeatureExtractor(),
    "ast": lambda: ASTFeatureExtractor(max_length=100),
}


def as_dataset(name: str, values: list[np.ndarray]) -> datasets.Dataset:
    """Arrays of own lengths, as the caches of `features` hold them."""
    kind = datasets.Value("float32")
    if values[0].ndim > 1:
        first = values[0].shape[0] if len({len(value) for value in values}) == 1 else None
        types = getattr(datasets, f"Array{values[0].ndim}D")((first, *values[0].shape[1:]), "float32")
    else:
        types = datasets.List(kind)
    return datasets.Dataset.from_dict({name: values}, features=datasets.Features({name: types}))


def training_clips(
    augmentation: Augmentation,
    extractor: FeatureExtractionMixin | None = None,
    seed: int = 7,
    rows: list[int] = ROWS,
    sounds: list[np.ndarray] | None = None,
) -> AugmentedDataset:
    extractor, sounds = extractor or EXTRACTORS["mel"](), sounds or clips(RATE, len(LABELS))
    name = extractor.model_input_names[0]
    features = as_dataset(name, extract_features(extractor, sounds, 2.0)[name])
    waveforms = as_dataset("waveform", sounds)
    return AugmentedDataset(features, lambda: waveforms, LABELS, 3, extractor, 2.0, augmentation, seed, rows)


def row(dataset: AugmentedDataset, index: int) -> tuple[torch.Tensor, torch.Tensor]:
    values, labels, _ = dataset[index].values()
    return values, labels


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one, other)


@pytest.mark.parametrize("extractor", EXTRACTORS)
def test_every_kind_of_feature_is_augmented_and_keeps_its_layout(extractor):
    extractor = EXTRACTORS[extractor]()
    shortest = 1600 if isinstance(extractor, SeamlessM4TFeatureExtractor) else 400  # which takes 35 ms at least
    sounds = [*clips(RATE, 3), clips(RATE, 1)[0][:shortest], np.zeros(RATE, np.float32)]
    clean = training_clips(Augmentation(), extractor, rows=[0, 1, 2, 3, 4], sounds=sounds)
    changed = training_clips(SOUND, extractor, rows=[0, 1, 2, 3, 4], sounds=sounds)
    for index in range(5):
        before, after = row(clean, index)[0], row(changed, index)[0]
        assert after.dtype == before.dtype == torch.float32
        assert torch.isfinite(after).all()
        assert after.shape[1:] == before.shape[1:]
        assert after.is_contiguous()
        assert index == 4 or not same(before, after)


def test_without_any_augmentation_rows_are_those_of_the_kept_features():
    dataset = training_clips(Augmentation())
    kept = extract_features(EXTRACTORS["mel"](), clips(RATE, len(LABELS)), 2.0)["input_features"]
    for index, source in enumerate(ROWS):
        assert torch.equal(row(dataset, index)[0], torch.tensor(kept[source]))
        assert row(dataset, index)[1].dtype == torch.int64
        assert row(dataset, index)[1] == LABELS[source]


def test_a_clip_depends_on_seed_epoch_and_itself_alone():
    dataset = training_clips(SOUND)
    first = row(dataset, 1)[0]
    _ = dataset[2], dataset[0]
    torch.rand(3), np.random.rand(3)
    assert same(row(dataset, 1)[0], first)
    assert same(row(training_clips(SOUND, rows=[0, 3]), 0)[0], first), "row 0, whichever others there are"
    assert not same(row(training_clips(SOUND, seed=8), 1)[0], first)
    dataset.set_epoch(1)
    assert not same(row(dataset, 1)[0], first)
    dataset.set_epoch(0)
    assert same(row(dataset, 1)[0], first)


def test_no_random_number_of_the_training_is_used():
    dataset = training_clips(Augmentation(6, (10, 40), mel_masks=2, mixup=0.5, probability=1))
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    _ = dataset[0]
    assert random.getstate() == before[0]
    np.testing.assert_equal(np.random.get_state(), before[1])
    assert torch.equal(torch.get_rng_state(), before[2])


def test_workers_give_what_the_main_process_gives_also_if_they_outlive_an_epoch():
    dataset = training_clips(Augmentation(6, (10, 40), mixup=0.5, probability=0.8))
    workers = DataLoader(dataset, batch_size=2, num_workers=2, persistent_workers=True, multiprocessing_context="fork")
    for epoch in (0, 1):
        dataset.set_epoch(epoch)
        for ours, theirs in zip(DataLoader(dataset, batch_size=2), workers, strict=True):
            assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_masks_alone_start_from_the_kept_features():
    extractor = EXTRACTORS["mel"]()
    clean, masked = (training_clips(augmentation, extractor) for augmentation in (Augmentation(), masks()))
    before, after = row(clean, 0)[0], row(masked, 0)[0]
    changed = before != after
    assert 0 < changed.float().mean() < 0.6
    assert len(after[changed].unique()) == 1


def masks() -> Augmentation:
    return Augmentation(time_masks=1, mel_masks=1, time_mask_share=0.3, mel_mask_share=0.3, probability=1)


@pytest.mark.parametrize(("extractor", "stride"), [("whisper", 1), ("whisper-window", 1), ("ast", 1), ("w2v-bert", 2)])
def test_mel_masks_are_bands_in_every_layout_of_the_library(extractor, stride):
    augmentation = Augmentation(mel_masks=1, mel_mask_share=0.3, probability=1)
    clean, masked = (training_clips(each, EXTRACTORS[extractor]()) for each in (Augmentation(), augmentation))
    for index in range(3):
        before, after = row(clean, index)[0], row(masked, index)[0]
        if extractor == "whisper-window":  # (bands, frames), where the others are (frames, bands)
            before, after = before.T, after.T
        changed = (before != after).reshape(len(before), stride, -1).float()
        sounding = before.std(dim=1) > 0
        bands = changed[sounding].mean(dim=(0, 1))
        assert set(bands.round(decimals=2).tolist()) <= {0.0, 1.0}
        assert bands.mean() <= 0.3
        assert not changed[~sounding].any()


def test_mixed_clips_have_mixed_labels():
    dataset = training_clips(Augmentation(mixup=0.5, probability=1))
    inputs = [row(training_clips(Augmentation()), index)[0] for index in range(3)]
    assert [dataset[index]["clip"] for index in range(3)] == list(ROWS)
    seen = set()
    for epoch in range(20):
        dataset.set_epoch(epoch)
        values, labels = row(dataset, 1)
        assert labels.shape == (3,)
        assert labels.dtype == torch.float32
        assert labels.sum() == pytest.approx(1)
        weights = torch.stack([labels[LABELS[source]] for source in ROWS])  # each of the three has another label
        torch.testing.assert_close(values, sum(w * x for w, x in zip(weights, inputs, strict=True)), atol=1e-3, rtol=0)
        seen |= {round(float(weights[1]), 3)}
    assert len(seen) > 10


def test_a_clip_that_is_not_mixed_has_its_label_for_certain():
    labels = row(training_clips(Augmentation(mixup=0.5, probability=0)), 0)[1]
    assert labels.tolist() == [0, 1, 0]


def test_the_shorter_of_two_mixed_clips_is_followed_by_silence():
    np.testing.assert_array_equal(mix(np.array([4.0, 4]), np.array([8.0]), 0.25), [7, 1])
    spectrogram = mix(np.zeros((1, 2)), np.array([[-8.0, -4], [-8, -8]]), 0.5)
    np.testing.assert_array_equal(spectrogram, [[-4, -2], [-4, -4]])


def test_trimmed_clips_stay_trimmed_under_noise():
    sounds = [np.pad(clip, RATE // 4) for clip in clips(RATE, len(LABELS))]
    extractor = WaveformFeatureExtractor(RATE, 3 * RATE, trim_db=40, trim_margin=0.0)
    noisy = training_clips(Augmentation(noise_snr_db=(10, 10), probability=1), extractor, sounds=sounds)
    for index, source in enumerate(ROWS):
        sounding = int((row(noisy, index)[0] != 0).sum())
        assert sounding == pytest.approx(len(sounds[source]) - RATE // 2, abs=RATE // 50)


def test_a_mask_at_the_end_of_a_trimmed_clip_is_not_trimmed_off(monkeypatch):
    sounds = clips(RATE, len(LABELS))  # of noise, so that nothing of them is silent before
    extractor = trimming_extractor(EXTRACTORS["wav2vec2"](), {"trim_db": 40.0, "trim_margin": 0.0})
    masked = training_clips(Augmentation(time_masks=1), extractor, sounds=sounds)
    half = lambda self, samples, *_: np.where(np.arange(len(samples)) < len(samples) / 2, samples, 0)  # noqa: E731
    monkeypatch.setattr(Augmentation, "waveform", half)
    assert [len(row(masked, index)[0]) for index in range(3)] == [len(sounds[source]) for source in ROWS]


def test_mel_masks_of_a_waveform_are_refused():
    with pytest.raises(ValueError, match="mel_masks in --augment need a model of spectrograms, found Wav2Vec2Feature"):
        training_clips(Augmentation(mel_masks=1), EXTRACTORS["wav2vec2"]())


def test_silence_around_clips_that_are_trimmed_is_refused():
    extractor = WaveformFeatureExtractor(RATE, RATE, trim_db=40)
    with pytest.raises(ValueError, match=r"shift_seconds .* and WaveformFeatureExtractor trims silence; leave one"):
        training_clips(Augmentation(shift_seconds=0.1), extractor)


def test_waveforms_of_a_corpus_are_its_clips_at_the_rate(tiny_vivae):
    corpus = load_vivae(tiny_vivae, allow_partial=True)
    waveforms = build_waveforms(corpus, RATE).with_format("numpy")
    for index in (0, len(corpus) - 1):
        expected, _ = audio.load(corpus[index]["audio"], RATE)
        np.testing.assert_array_equal(waveforms[index]["waveform"], expected)
        assert waveforms[index]["waveform"].dtype == np.float32


class Nothing(torch.nn.Module):
    """A model that remembers what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.inputs: list[torch.Tensor] = []

    def forward(
        self, input_features: torch.Tensor, labels: torch.Tensor | None = None, clip: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        self.inputs += list(input_features)
        return {"loss": self.weight * 1.0, "logits": torch.zeros(len(input_features), 3)}


def model_inputs(folder, resume: str | None = None) -> list[torch.Tensor]:
    """Inputs of three epochs of three clips, or of what remains of them."""
    model = Nothing()
    arguments = TrainingArguments(
        str(folder), per_device_train_batch_size=1, num_train_epochs=3, save_steps=1, report_to="none", use_cpu=True,
        disable_tqdm=True, logging_strategy="no", remove_unused_columns=False,
    )  # fmt: skip
    trainer = Trainer(model, arguments, train_dataset=training_clips(SOUND), callbacks=[SetEpochCallback()])
    trainer.train(resume_from_checkpoint=resume)
    return model.inputs


def test_a_resumed_run_takes_the_same_inputs_as_an_uninterrupted_one(tmp_path):
    whole = model_inputs(tmp_path)
    assert len(whole) == 9
    assert len({clip.sum().item() for clip in whole}) == 9
    for steps in (3, 4):  # at the end of an epoch, and in the middle of one
        rest = model_inputs(tmp_path, str(tmp_path / f"checkpoint-{steps}"))
        assert len(rest) == 9 - steps
        assert all(same(one, other) for one, other in zip(rest, whole[steps:], strict=True))
