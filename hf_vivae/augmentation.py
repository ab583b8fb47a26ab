"""What is done to a clip that a model trains on, so that it never hears the same clip twice.

Sound is changed by audiomentations, which is faster on a CPU than torch-audiomentations (pitch 6 times, noise 6 times)
and shifts pitch by fractions of a semitone. Nothing here may change what a clip expresses.
"""

import functools
import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any

import numpy as np

from .validation import UserError

# largest value, unit, and why not more
LIMITS = {
    "gain_db": (20, "dB to either side", "level tells how intense a sound is"),
    "shift_seconds": (1, "seconds", "a longer pause drowns a short clip"),
    "time_stretch": (0.3, "of the speed to either side", "tempo carries emotion"),
    "pitch_semitones": (4, "semitones to either side", "pitch carries emotion"),
    "time_mask_share": (0.5, "of the clip", "half of it must stay"),
    "mel_mask_share": (0.5, "of the mel bands", "half of them must stay"),
    "mixup": (1, "as alpha", "above it most clips are even mixtures"),
    "probability": (1, "as a chance", "1 is always"),
}
HOW_MUCH = {"time_mask_share", "mel_mask_share", "probability"}  # of something else, which they do not turn on
REVERSALS = ("backward", "flip", "revers", "timeinver", "invertime")  # in what users or libraries call it


@dataclass(frozen=True)
class Augmentation:
    """What may happen to a training clip each time it is heard; 0 or None leaves it out.

    How much is drawn uniformly up to the value given. What differs for each clip and epoch is drawn from a generator
    that the caller passes: the same generator, the same clip.

    Args:
        gain_db: louder or softer by up to so many dB; without effect where each clip is taken to one level anyway, as
            most encoders of waveforms want it.
        noise_snr_db: white noise so many dB below the clip, `(loudest, softest)`.
        shift_seconds: silence of up to so many seconds before or after the clip. Nothing of it is cut but what leaves
            the model's window; one that has the clip in its middle moves it by half.
        time_stretch: faster or slower by up to this share, at the same pitch; the length changes with it.
        pitch_semitones: higher or lower by up to so many semitones, at the same length.
        time_masks: parts of the clip that are taken out: silence in a waveform, the mean in a spectrogram
            (SpecAugment: Park et al., Interspeech 2019).
        time_mask_share: each is up to this share of the clip.
        mel_masks: groups of neighbouring bands of a spectrogram that are taken out in the same way.
        mel_mask_share: each is up to this share of the bands.
        mixup: alpha of Beta(alpha, alpha), from which comes the weight of a clip beside that of another one (Zhang
            et al., ICLR 2018).
        probability: chance that each of the above, and each mask, happens to a clip.

    Raises:
        ValueError: for values out of range, and for what would change the meaning of a clip's label.
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
            _check_masks(kind, getattr(self, f"{kind}_masks"), getattr(self, f"{kind}_mask_share"))
        if self.noise_snr_db is not None:
            _check_noise(self.noise_snr_db)

    @property
    def changes_sound(self) -> bool:
        """Whether `waveform` does anything."""
        strengths = self.gain_db, self.shift_seconds, self.time_stretch, self.pitch_semitones, self.time_masks
        return self.noise_snr_db is not None or any(strengths)

    def waveform(self, samples: np.ndarray, sampling_rate: int, rng: np.random.Generator) -> np.ndarray:
        """The clip `(samples,)` as it is heard this time, `(other samples,)` float32.

        Args:
            samples: float32, one at least.
            sampling_rate: in Hz.
            rng: decides; the global random numbers of Python and NumPy stay as they are.
        """
        with _seeded(rng):
            for transform in _transforms(self):
                samples = transform(samples, sampling_rate)
        return samples

    def spectrogram(self, spectrogram: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The spectrogram `(..., bands, frames)` with its masks, in the same shape.

        Masks fall where the clip is: frames before the first and after the last whose bands differ are padding.

        Args:
            spectrogram: float32, in dB or on another logarithmic scale.
            rng: decides.
        """
        masked = np.array(spectrogram)
        sounding = np.flatnonzero(np.ptp(masked, axis=-2).reshape(-1, masked.shape[-1]).any(axis=0))
        if len(sounding):
            clip = masked[..., sounding[0] : sounding[-1] + 1]
            mean = clip.mean()
            for axis, masks, share in (
                (-1, self.time_masks, self.time_mask_share),
                (-2, self.mel_masks, self.mel_mask_share),
            ):
                for _ in range(masks):
                    if rng.random() < self.probability:
                        _mask(np.moveaxis(clip, axis, 0), share, mean, rng)
        return masked


def parse_augmentation(settings: dict[str, Any]) -> Augmentation:
    """An augmentation from the JSON of `--augment`; null leaves out as 0 does.

    Raises:
        ValueError: for unknown names, with the nearest; for names of which none does anything to a clip; for a clip
            played backwards; and as `Augmentation`.
    """
    known = [field.name for field in fields(Augmentation)]
    for name in settings:
        if any(word in name.lower().replace("_", "") for word in REVERSALS):
            raise UserError(
                f"{name!r} in --augment would change what a clip expresses: backwards, a falling scream is a rising "
                "one, and onset and decay carry emotion; use time_masks or shift_seconds instead."
            )
        if name not in known:
            near = get_close_matches(name, known, 1, cutoff=0.4)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise UserError(
                f"expected names out of {', '.join(known)} in --augment, found {name!r}{hint}; correct it."
            )
    given = {name: value for name, value in settings.items() if value is not None}
    if isinstance(given.get("noise_snr_db"), list):
        given["noise_snr_db"] = tuple(given["noise_snr_db"])
    augmentation = Augmentation(**given)
    if settings and settings.keys() <= HOW_MUCH:
        kinds = ", ".join(name for name in known if name not in HOW_MUCH)
        raise UserError(
            f"expected what is done to clips in --augment, found {' and '.join(settings)} alone; add one of {kinds}, "
            "or leave --augment out."
        )
    return augmentation


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check_masks(kind: str, masks: int, share: float) -> None:
    if not (isinstance(masks, int) and not isinstance(masks, bool) and masks >= 0):
        raise UserError(f"expected a number of {kind}_masks in --augment, 0 or more, found {masks!r}; correct it.")
    if masks * share > 0.5:
        raise UserError(
            f"expected {kind}_masks that leave half of a clip, found {masks} of up to {share:g} of it each in "
            f"--augment; use fewer, or a smaller {kind}_mask_share."
        )


def _check_noise(ratios: Any) -> None:
    pair = isinstance(ratios, tuple) and len(ratios) == 2 and all(_is_number(ratio) for ratio in ratios)
    if not (pair and 0 <= ratios[0] <= ratios[1] < math.inf):
        raise UserError(
            f"expected noise_snr_db in --augment as two numbers of dB such as [10, 40], found {ratios!r}; give the "
            "lower first, and none below 0, where noise is louder than the clip."
        )


@functools.lru_cache
def _transforms(augmentation: Augmentation) -> tuple:
    # TimeStretch and PitchShift by their default, Signalsmith Stretch, which leaves an onset where it was
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
    # not the library's Shift, which cuts off at the other end what it moves
    shift = round(random.uniform(-most, most) * sampling_rate)
    return np.pad(samples, (max(shift, 0), max(-shift, 0)))


@contextmanager
def _seeded(rng: np.random.Generator) -> Iterator[None]:
    """Let audiomentations, which draws from the global random numbers of Python and NumPy, draw from `rng` instead."""
    python, numpy = random.getstate(), np.random.get_state()
    seed = int(rng.integers(2**32))
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def _mask(values: np.ndarray, share: float, filling: float, rng: np.random.Generator) -> None:
    """Fill a part of the first axis, up to a share of it, in place."""
    width = rng.integers(int(share * len(values)) + 1)
    first = rng.integers(len(values) - width + 1)
    values[first : first + width] = filling
