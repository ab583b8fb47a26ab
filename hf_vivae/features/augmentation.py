"""Waveform augmentation, and the dataset that applies it to the training clips of each epoch."""

import copy
import functools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import datasets
import numpy as np
import torch
from transformers import TrainerCallback
from transformers.feature_extraction_utils import FeatureExtractionMixin

from ..corpus.schema import corpus_key
from ..validation import UserError, did_you_mean
from .cache import cached_map, decode_batch
from .extraction import bands_first, extract_features, trims

# largest value, unit, and why not more
LIMITS = {
    "gain_db": (20, "dB to either side", "level expresses intensity"),
    "shift_seconds": (1, "seconds", "a longer pause drowns a short clip"),
    "time_stretch": (0.3, "of the speed to either side", "tempo carries emotion"),
    "pitch_semitones": (4, "semitones to either side", "pitch carries emotion"),
    "time_mask_share": (0.5, "of the clip", "half of it must stay"),
    "mel_mask_share": (0.5, "of the mel bands", "half of them must stay"),
    "mixup": (1, "as alpha", "above it most clips are even mixtures"),
    "probability": (1, "as a chance", "1 is always"),
}
AMOUNTS = {
    "time_mask_share",
    "mel_mask_share",
    "probability",
}  # of other changes, which they do not turn on
REVERSALS = (
    "backward",
    "flip",
    "revers",
    "timeinver",
    "invertime",
)  # in the names of such changes


@dataclass(frozen=True)
class Augmentation:
    """Random changes to a training clip in each epoch; 0 or None leaves one out.

    Amounts are drawn uniformly up to the given value, from a generator that the caller passes: the same generator
    gives the same clip.

    Args:
        gain_db: largest gain or attenuation in dB; without effect for most encoders of waveforms, which normalise
            each clip.
        noise_snr_db: level of the clip above white noise in dB, `(lowest, highest)`.
        shift_seconds: longest silence in seconds before or after the clip. The clip is cut only where it leaves the
            model's window; a window with the clip in its middle moves it by half.
        time_stretch: largest change of speed, as a share, at the same pitch; the length changes with it.
        pitch_semitones: largest change of pitch in semitones, at the same length.
        time_masks: number of masked parts of the clip: silence in a waveform, the mean in a spectrogram (SpecAugment:
            Park et al., Interspeech 2019).
        time_mask_share: largest share of the clip in each.
        mel_masks: number of masked groups of neighbouring bands of a spectrogram.
        mel_mask_share: largest share of the bands in each.
        mixup: alpha of Beta(alpha, alpha), the distribution of the weight of a clip that is mixed with another one
            (Zhang et al., ICLR 2018).
        probability: chance of each of these changes, and of each mask, for a clip.

    Raises:
        UserError: for values out of range, or changes that would alter the meaning of a clip's label.
    """

    gain_db: float = 0.0
    noise_snr_db: tuple[float, float] | None = None
    shift_seconds: float = 0.0
    time_stretch: float = 0.0
    pitch_semitones: float = 0.0
    time_masks: int = 0
    time_mask_share: float = 0.1
    mel_masks: int = 0
    mel_mask_share: float = 0.2
    mixup: float = 0.0
    probability: float = 0.5

    def __post_init__(self) -> None:
        for name, (limit, unit, reason) in LIMITS.items():
            if not (_is_number(value := getattr(self, name)) and 0 <= value <= limit):
                raise UserError(
                    f"expected {name} of 0 to {limit} {unit} in --augment, found {value!r}; stay within that, since "
                    f"{reason}."
                )
        for kind in ("time", "mel"):
            masks, share = getattr(self, f"{kind}_masks"), getattr(self, f"{kind}_mask_share")
            if not (isinstance(masks, int) and not isinstance(masks, bool) and masks >= 0):
                raise UserError(
                    f"expected a number of {kind}_masks in --augment, 0 or more, found {masks!r}; correct it."
                )
            if masks * share > 0.5:
                raise UserError(
                    f"expected {kind}_masks that leave half of a clip, found {masks} of up to {share:g} of it each in "
                    f"--augment; use fewer, or a smaller {kind}_mask_share."
                )
        ratios = (0, 0) if self.noise_snr_db is None else self.noise_snr_db
        pair = isinstance(ratios, tuple) and len(ratios) == 2 and all(_is_number(ratio) for ratio in ratios)
        if not (pair and 0 <= ratios[0] <= ratios[1] < math.inf):
            raise UserError(
                f"expected noise_snr_db in --augment as two numbers of dB such as [10, 40], found {ratios!r}; give "
                "the lower first, and none below 0, where noise is louder than the clip."
            )

    @property
    def changes_sound(self) -> bool:
        """True if `waveform` changes clips."""
        strengths = self.gain_db, self.shift_seconds, self.time_stretch, self.pitch_semitones, self.time_masks
        return self.noise_snr_db is not None or any(strengths)

    def waveform(self, samples: np.ndarray, sampling_rate: int, rng: np.random.Generator) -> np.ndarray:
        """Return a changed clip, `(other samples,)` float32.

        Args:
            samples: the clip, `(samples,)` float32, one at least.
            sampling_rate: in Hz.
            rng: source of all random numbers; the global ones of Python and NumPy stay as they are.
        """
        # audiomentations draws from the global random numbers
        python, numpy = random.getstate(), np.random.get_state()
        seed = int(rng.integers(2**32))
        random.seed(seed)
        np.random.seed(seed)
        try:
            for transform in _transforms(self):
                samples = transform(samples, sampling_rate)
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
        return samples

    def spectrogram(self, spectrogram: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the spectrogram with masks, in the same shape.

        Masks are within the clip: frames before the first and after the last whose bands differ are padding.

        Args:
            spectrogram: `(..., bands, frames)` float32, in dB or on another logarithmic scale.
            rng: source of all random numbers.
        """
        masked = np.array(spectrogram)
        sounding = np.flatnonzero(np.ptp(masked, axis=-2).reshape(-1, masked.shape[-1]).any(axis=0))
        if not len(sounding):
            return masked
        clip = masked[..., sounding[0] : sounding[-1] + 1]
        mean = clip.mean()
        for axis, masks, share in (
            (-1, self.time_masks, self.time_mask_share),
            (-2, self.mel_masks, self.mel_mask_share),
        ):
            values = np.moveaxis(clip, axis, 0)  # a view
            for _ in range(masks):
                if rng.random() < self.probability:
                    width = rng.integers(int(share * len(values)) + 1)
                    first = rng.integers(len(values) - width + 1)
                    values[first : first + width] = mean
        return masked


def parse_augmentation(settings: dict[str, Any]) -> Augmentation:
    """Return the augmentation of the JSON of `--augment`; null leaves out as 0 does.

    Raises:
        UserError: for unknown names, with the nearest; for settings that change no clip; for clips played backwards;
            and as `Augmentation`.
    """
    names = [field.name for field in fields(Augmentation)]
    for name in settings:
        if any(word in name.lower().replace("_", "") for word in REVERSALS):
            raise UserError(
                f"{name!r} in --augment would change what a clip expresses: backwards, a falling scream is a rising "
                "one, and onset and decay carry emotion; use time_masks or shift_seconds instead."
            )
        if name not in names:
            raise UserError(
                f"expected names out of {', '.join(names)} in --augment, found {name!r}{did_you_mean(name, names)}; "
                "correct it."
            )
    values = {name: value for name, value in settings.items() if value is not None}
    if isinstance(values.get("noise_snr_db"), list):
        values["noise_snr_db"] = tuple(values["noise_snr_db"])
    augmentation = Augmentation(**values)
    if settings and settings.keys() <= AMOUNTS:
        kinds = ", ".join(name for name in names if name not in AMOUNTS)
        raise UserError(
            f"expected a change to clips in --augment, found {' and '.join(settings)} alone; add one of {kinds}, or "
            "leave --augment out."
        )
    return augmentation


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


@functools.lru_cache
def _transforms(augmentation: Augmentation) -> tuple:
    # the default method of TimeStretch and PitchShift, Signalsmith Stretch, keeps the time of an onset
    from audiomentations import AddGaussianSNR, Gain, Lambda, PitchShift, TimeMask, TimeStretch

    def symmetric(transform: type, middle: float, most: float, **settings) -> list:
        return [transform(middle - most, middle + most, p=augmentation.probability, **settings)] if most else []

    p = augmentation.probability
    return (
        *symmetric(TimeStretch, 1, augmentation.time_stretch, leave_length_unchanged=False),
        *symmetric(PitchShift, 0, augmentation.pitch_semitones),
        *symmetric(Gain, 0, augmentation.gain_db),
        *(TimeMask(0, augmentation.time_mask_share, p=p) for _ in range(augmentation.time_masks)),
        *([Lambda(_shift, p=p, most=augmentation.shift_seconds)] if augmentation.shift_seconds else []),
        *([AddGaussianSNR(*augmentation.noise_snr_db, p=p)] if augmentation.noise_snr_db else []),
    )


def _shift(samples: np.ndarray, sampling_rate: int, most: float) -> np.ndarray:
    # not the library's Shift, which cuts the clip at the other end
    shift = round(random.uniform(-most, most) * sampling_rate)
    return np.pad(samples, (max(shift, 0), max(-shift, 0)))


def build_waveforms(dataset: datasets.Dataset, sampling_rate: int) -> datasets.Dataset:
    """Return every clip as `waveform` `(samples,)` float32, in the rows' order; computed once and kept.

    Args:
        dataset: a corpus, whose clips were checked when it was loaded.
        sampling_rate: of the waveforms, in Hz.
    """

    def decode(batch: dict) -> dict:
        return {"waveform": decode_batch(batch, sampling_rate)}

    key = ("waveforms", sampling_rate, corpus_key(dataset))
    return cached_map(dataset, decode, key=key, desc="Waveforms", own_length=True)


class AugmentedDataset(torch.utils.data.Dataset):
    """Training clips, each augmented with random numbers of its own.

    The result depends on the seed, the epoch and the clip, and not on order, batches, processes or workers. The random
    numbers of the training are not used. Where the sound stays as it is, the kept features are used.

    Args:
        features: of all clips of the corpus, as `build_features` returns them.
        waveforms: function that returns all clips at the extractor's rate, as `build_waveforms`; called if needed.
        labels: label index of each clip, `(clips,)`.
        num_labels: number of labels.
        extractor: of the model; its `mean` and `std` are not applied.
        max_seconds: see `build_features`.
        augmentation: the changes.
        seed: 0 or more.
        rows: of the training clips, in the order of the items; no other clips are read.

    Raises:
        UserError: for mel masks with a model of waveforms, and for silence around clips that are trimmed.
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
        self._plain_extractor = copy.copy(extractor)  # trimming would remove the silence of masks
        self._plain_extractor.trim_db = None
        # in memory that is shared with persistent workers of the data loader
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        kind = type(extractor).__name__
        if augmentation.mel_masks and not self._has_bands:
            raise UserError(
                f"mel_masks in --augment need a model of spectrograms, found {kind}, whose output is waveforms; use "
                "time_masks, or an encoder's own mask_time_prob and mask_feature_prob in --model_config."
            )
        if augmentation.shift_seconds and trims(extractor):
            raise UserError(
                f"shift_seconds in --augment adds silence around clips, and {kind} trims silence; leave one out."
            )

    @property
    def changes_sound(self) -> bool:
        """True if features are computed for each item."""
        return self._sound.changes_sound

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, counted from 0, of the items from now on."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """Return a clip as a row of `features`; `labels` is an int64 scalar, with mixup `(num_labels,)` float32, and
        `clip` the index in the corpus.
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
        """Return the model's input for one clip, with all changes but mixup."""
        if self._sound.changes_sound:
            samples = self._waveforms[row]["waveform"]
            if trims(self._extractor):  # before noise fills the silence
                samples = self._extractor.trim(samples)
            samples = self._sound.waveform(samples, self._extractor.sampling_rate, rng)
            values = extract_features(self._plain_extractor, [samples], self._max_seconds)[self._name][0]
        else:
            values = self._features[row][self._name]
        if not self._has_bands:
            return values
        if bands_first(self._extractor):
            return self._augmentation.spectrogram(values, rng)
        # (frames, bands), and for w2v-BERT the bands of two frames in each
        stride = getattr(self._extractor, "stride", 1)
        frames = values.reshape(len(values), stride, values.shape[1] // stride)
        masked = self._augmentation.spectrogram(frames.transpose(1, 2, 0), rng)
        return np.ascontiguousarray(masked.transpose(2, 0, 1).reshape(values.shape))


def mix(clip: np.ndarray, other: np.ndarray, weight: float) -> np.ndarray:
    """Return `weight * clip + (1 - weight) * other`, the shorter one padded with silence (Zhang et al., 2018).

    Args:
        clip: a waveform `(samples,)`, or a logarithmic spectrogram of two dimensions or more.
        other: of the same kind; one dimension may differ.
        weight: of the first, 0 to 1.
    """
    shape = np.maximum(clip.shape, other.shape)

    def pad(values: np.ndarray) -> np.ndarray:
        silence = 0 if values.ndim == 1 else values.min()
        return np.pad(values, [(0, missing) for missing in shape - values.shape], constant_values=silence)

    return (weight * pad(clip) + (1 - weight) * pad(other)).astype(np.float32)


class SetEpochCallback(TrainerCallback):
    """Callback that sets the epoch of an `AugmentedDataset`, also after a resume.

    accelerate's data loader does so as well, except where its sampler counts epochs itself: in one of several
    processes, and in an epoch that a resumed run enters in the middle.
    """

    def on_epoch_begin(self, args, state, control, train_dataloader, **kwargs) -> None:
        """Set the epoch before any clip of it is read."""
        train_dataloader.dataset.set_epoch(int(state.epoch))
