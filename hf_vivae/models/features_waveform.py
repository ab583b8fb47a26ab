"""Feature extractor of waveforms, scaled and cut or centre-padded to a fixed length.

With fixed lengths, a clip's score does not depend on the other clips of its batch, even in models whose padding
cannot be masked (SEW).
"""

import numpy as np
from transformers import BatchFeature
from transformers.feature_extraction_utils import FeatureExtractionMixin

from .silence import SilenceTrimmingMixin


class WaveformFeatureExtractor(SilenceTrimmingMixin, FeatureExtractionMixin):
    """Feature extractor of waveforms of one length.

    Takes clips `(samples,)` and returns `input_values` `(batch, num_samples)`, float32. As in the paper (D. Pak,
    "Emotion Classification using Various Transformer Architectures", 2022), a clip is divided by the largest absolute
    sample of the training set, and cut to its first `num_samples` or zero-padded equally on both sides (the odd
    sample goes right). The paper scales "by the dataset's extremes"; one divisor for both keeps silence at zero, the
    value of the padding.

    Args:
        sampling_rate: sampling rate of the clips, in Hz.
        num_samples: length of every output.
        peak: largest absolute sample of the training set; outputs are divided by it.
        zero_mean_unit_variance: normalise each padded clip by itself, as wav2vec2 needs it.
        mean: mean of the features of the training set, which is subtracted.
        std: standard deviation of the features of the training set, which divides them.
        kwargs: arguments of `SilenceTrimmingMixin`; clips are trimmed first.

    Raises:
        ValueError: unless `num_samples`, `peak` and `std` are positive.
    """

    model_input_names = ("input_values",)

    def __init__(
        self,
        sampling_rate: int = 44100,
        num_samples: int = 44100,
        peak: float = 1.0,
        zero_mean_unit_variance: bool = False,
        mean: float = 0.0,
        std: float = 1.0,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        if num_samples < 1 or peak <= 0 or std <= 0:
            raise ValueError(
                f"num_samples, peak and std must be positive, found {num_samples}, {peak} and {std}; "
                "measure them on clips that are not silent."
            )
        self.sampling_rate = sampling_rate
        self.num_samples = num_samples
        self.peak = peak
        self.zero_mean_unit_variance = zero_mean_unit_variance
        self.mean = mean
        self.std = std

    def __call__(
        self,
        raw_speech: np.ndarray | list[np.ndarray],
        sampling_rate: int | None = None,
        return_tensors: str | None = None,
        **kwargs,
    ) -> BatchFeature:
        """Return the normalised features of one clip or of several.

        Args:
            raw_speech: one clip `(samples,)`, or a list of such clips, or an array `(batch, samples)`.
            sampling_rate: of the clips, in Hz.
            return_tensors: `"pt"` or `"np"`.
            kwargs: padding arguments of transformers, without effect, since the length is fixed.

        Raises:
            ValueError: for a missing or other sampling rate, and for clips that are not one-dimensional, have no
                samples or hold NaN or infinite ones.
        """
        check_sampling_rate(self, sampling_rate)
        features = self.normalize(self.extract(as_clips(raw_speech)))
        return BatchFeature({self.model_input_names[0]: features}, tensor_type=return_tensors)

    def extract(self, clips: list[np.ndarray]) -> np.ndarray:
        """Return features before `normalize`, `(batch, num_samples)`, which all folds can share."""
        waveforms = np.stack([fit_length(self.trim(clip), self.num_samples) for clip in clips])
        if self.peak != 1:
            waveforms /= np.float32(self.peak)
        if self.zero_mean_unit_variance:
            centred = waveforms - waveforms.mean(axis=1, keepdims=True)
            # 1e-7 under the root: the constant of transformers' Wav2Vec2FeatureExtractor
            waveforms = centred / np.sqrt(centred.var(axis=1, keepdims=True) + 1e-7)
        return waveforms

    def normalize(self, features):
        """Return `(features - mean) / std`, for arrays and tensors."""
        if self.mean == 0 and self.std == 1:
            return features
        return (features - self.mean) / self.std


def check_sampling_rate(extractor: FeatureExtractionMixin, sampling_rate: int | None) -> None:
    """Check that clips have the sampling rate of a feature extractor, in Hz.

    Raises:
        ValueError: for a missing or other rate.
    """
    if sampling_rate != extractor.sampling_rate:
        rate = "none" if sampling_rate is None else f"{sampling_rate} Hz"
        raise ValueError(
            f"{type(extractor).__name__} expects audio at {extractor.sampling_rate} Hz, found {rate}; "
            "resample the clip and pass its sampling_rate."
        )


def as_clips(raw_speech: np.ndarray | list[np.ndarray]) -> list[np.ndarray]:
    """Return one clip or several as a list of float32 arrays `(samples,)`.

    Raises:
        ValueError: for clips that are not one-dimensional, have no samples or hold NaN or infinite ones.
    """
    single = not isinstance(raw_speech, (list, tuple)) and np.ndim(raw_speech) == 1
    single = single or (isinstance(raw_speech, (list, tuple)) and len(raw_speech) > 0 and np.ndim(raw_speech[0]) == 0)
    clips = [np.asarray(clip, dtype=np.float32) for clip in ([raw_speech] if single else raw_speech)]
    for index, clip in enumerate(clips):
        if clip.ndim != 1 or clip.size == 0:
            raise ValueError(
                f"expected mono clips of shape (samples,), found shape {clip.shape} at index {index}; "
                "average the channels and leave out empty clips."
            )
        if not np.isfinite(clip).all():
            raise ValueError(f"expected finite samples, found NaN or infinite ones at index {index}; leave it out.")
    return clips


def fit_length(clip: np.ndarray, num_samples: int) -> np.ndarray:
    """Return the first `num_samples` of a clip, or the clip with zeros on both sides; `(num_samples,)`."""
    if len(clip) >= num_samples:
        return clip[:num_samples]
    missing = num_samples - len(clip)
    return np.pad(clip, (missing // 2, missing - missing // 2))
