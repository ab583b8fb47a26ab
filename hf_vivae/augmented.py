"""The training clips as a model hears them in one epoch: augmented and mixed, the same in whatever order."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace

import datasets
import numpy as np
import torch
from transformers import TrainerCallback, WhisperFeatureExtractor
from transformers.feature_extraction_utils import FeatureExtractionMixin

from . import audio
from .augmentation import Augmentation
from .extractors import extract_features, hears_own_length
from .features import cached_map, corpus_key
from .models import WaveformFeatureExtractor
from .models.silence import SilenceTrimmingMixin
from .validation import UserError


def build_waveforms(dataset: datasets.Dataset, sampling_rate: int) -> datasets.Dataset:
    """Every clip as `waveform` `(samples,)` float32 of its own length, in the rows' order; computed once and kept.

    Args:
        dataset: a corpus; its clips have been checked where they were read.
        sampling_rate: of the waveforms, in Hz.
    """

    def decode(batch: dict) -> dict:
        rows = zip(batch["audio"], batch["file"], strict=True)
        return {"waveform": [audio.load(source, sampling_rate, name)[0] for source, name in rows]}

    key = ("waveforms", sampling_rate, corpus_key(dataset))
    return cached_map(dataset, decode, key=key, desc="Waveforms", own_length=True)


class AugmentedClips(torch.utils.data.Dataset):
    """Training clips, each augmented by a generator of its own.

    What a clip becomes depends on the seed, the epoch and the clip alone: not on order, batches, processes or workers.
    No random number of the training is used. Where nothing changes the sound, the kept features are taken.

    Args:
        features: of all clips of the corpus, as `features.build_features` gives them.
        waveforms: gives those of all clips at the extractor's rate, as `build_waveforms` does; called if needed.
        labels: of all clips.
        num_labels: how many labels there are.
        extractor: of the model; its `mean` and `std` are not applied.
        max_seconds: see `features.build_features`.
        augmentation: what may happen to a clip.
        seed: 0 or more.
        rows: of the training clips, which are all that is read, in the order of the indices.

    Raises:
        ValueError: for mel masks where the model hears waveforms, and for silence around clips that are trimmed.
    """

    def __init__(
        self,
        features: datasets.Dataset,
        waveforms: Callable[[], datasets.Dataset],
        labels: Sequence[int],
        num_labels: int,
        extractor: FeatureExtractionMixin,
        max_seconds: float,
        augmentation: Augmentation,
        seed: int,
        rows: Sequence[int],
    ) -> None:
        self._name = extractor.model_input_names[0]
        self._features = features.with_format("numpy", columns=[self._name])
        self._labels, self._num_labels = labels, num_labels
        self._extractor, self._max_seconds = extractor, max_seconds
        self._augmentation, self._seed, self._rows = augmentation, seed, [int(row) for row in rows]
        self._has_bands = self._features[self._rows[0]][self._name].ndim > 1
        # masks of a spectrogram are not also silence in its sound
        self._sound = replace(augmentation, time_masks=0) if self._has_bands else augmentation
        if self._sound.changes_sound:
            self._waveforms = waveforms().with_format("numpy", columns=["waveform"])
        self._hears_trimmed = copy.copy(extractor)  # else the silence of masks would be trimmed off
        self._hears_trimmed.trim_db = None
        # in memory that is shared with workers of the data loader that outlive an epoch
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._check()

    def _check(self) -> None:
        kind = type(self._extractor).__name__
        if self._augmentation.mel_masks and not self._has_bands:
            raise UserError(
                f"mel_masks in --augment need a model of spectrograms, found {kind}, which gives waveforms; use "
                "time_masks, or an encoder's own mask_time_prob and mask_feature_prob in --model_config."
            )
        if self._augmentation.shift_seconds and self._trims:
            raise UserError(
                f"shift_seconds in --augment puts silence around clips, which {kind} has cut off; leave one out."
            )

    @property
    def _bands_first(self) -> bool:
        whole_window = isinstance(self._extractor, WhisperFeatureExtractor) and not hears_own_length(self._extractor)
        return whole_window or isinstance(self._extractor, WaveformFeatureExtractor)

    @property
    def _trims(self) -> bool:
        return isinstance(self._extractor, SilenceTrimmingMixin) and self._extractor.trim_db is not None

    def set_epoch(self, epoch: int) -> None:
        """Augment as in this epoch, counted from 0, from the next pass on."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """A clip as the kept features have it; `labels` is an int64 scalar, with mixup `(num_labels,)` float32, and
        `clip` its number in the corpus.
        """
        row, mixup = self._rows[index], self._augmentation.mixup
        rng = self._generator(row)
        clip, label = self._clip(row, rng), torch.tensor(self._labels[row])
        if mixup:
            label = self._probabilities(row)
            if rng.random() < self._augmentation.probability:
                other, weight = int(rng.choice(self._rows)), float(rng.beta(mixup, mixup))
                clip = mix(clip, self._clip(other, self._generator(other)), weight)
                label = weight * label + (1 - weight) * self._probabilities(other)
        return {self._name: torch.tensor(clip), "labels": label, "clip": torch.tensor(row)}

    def _generator(self, row: int) -> np.random.Generator:
        return np.random.default_rng((self._seed, int(self._epoch), row))

    def _probabilities(self, row: int) -> torch.Tensor:
        return torch.nn.functional.one_hot(torch.tensor(self._labels[row]), self._num_labels).float()

    def _clip(self, row: int, rng: np.random.Generator) -> np.ndarray:
        """The model's input for one clip, with everything but mixup."""
        if self._sound.changes_sound:
            samples = self._waveforms[row]["waveform"]
            if self._trims:  # before noise fills the silence
                samples = self._extractor.trim(samples)
            samples = self._sound.waveform(samples, self._extractor.sampling_rate, rng)
            values = extract_features(self._hears_trimmed, [samples], self._max_seconds)[self._name][0]
        else:
            values = self._features[row][self._name]
        return self._masked(values, rng) if self._has_bands else values

    def _masked(self, values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if self._bands_first:
            return self._augmentation.spectrogram(values, rng)
        # (frames, bands), and for w2v-BERT the bands of two frames in each
        stride = getattr(self._extractor, "stride", 1)
        frames = values.reshape(len(values), stride, values.shape[1] // stride)
        masked = self._augmentation.spectrogram(frames.transpose(1, 2, 0), rng)
        return np.ascontiguousarray(masked.transpose(2, 0, 1).reshape(values.shape))


def mix(clip: np.ndarray, other: np.ndarray, weight: float) -> np.ndarray:
    """`weight` of one clip's input and the rest of another's; the shorter is followed by silence (Zhang et al., 2018).

    Args:
        clip: a waveform `(samples,)`, or a logarithmic spectrogram of two dimensions or more.
        other: of the same kind; one dimension may differ.
        weight: of the first, 0 to 1.
    """
    shape = np.maximum(clip.shape, other.shape)

    def fitted(values: np.ndarray) -> np.ndarray:
        silence = 0 if values.ndim == 1 else values.min()
        missing = [(0, long - short) for long, short in zip(shape, values.shape, strict=True)]
        return np.pad(values, missing, constant_values=silence)

    return (weight * fitted(clip) + (1 - weight) * fitted(other)).astype(np.float32)


class EpochOfClips(TrainerCallback):
    """Tells `AugmentedClips` the epoch, also after a resume.

    accelerate's data loader would, but not where its sampler counts epochs itself: in one of several processes, and in
    an epoch that a resumed run enters in the middle.
    """

    def on_epoch_begin(self, args, state, control, train_dataloader, **kwargs) -> None:
        """Set the epoch before any clip of it is read."""
        train_dataloader.dataset.set_epoch(int(state.epoch))
