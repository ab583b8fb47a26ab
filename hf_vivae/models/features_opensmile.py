"""Feature extractor of acoustic functionals, such as eGeMAPS, by the openSMILE toolkit."""

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from transformers import BatchFeature
from transformers.feature_extraction_utils import FeatureExtractionMixin

from .features_waveform import as_clips, check_sampling_rate, fit_length
from .silence import SilenceTrimmingMixin

FEATURE_SETS = ("eGeMAPSv02", "ComParE_2016")
F0_WINDOW = 0.06  # seconds; openSMILE has no functionals of a clip without one whole window of its pitch
LARGEST = 1 - 2**-15  # the largest sample of 16 bits, where full scale is 1


class OpenSmileFeatureExtractor(SilenceTrimmingMixin, FeatureExtractionMixin):
    """Feature extractor of openSMILE's functionals of whole clips.

    Takes clips `(samples,)` and returns `input_values` `(batch, features)`, float32, not standardised: statistics of
    pitch, loudness, spectrum and voice quality over the clip. Sources: openSMILE, Eyben et al. (ACM Multimedia 2010);
    eGeMAPS, Eyben et al. (IEEE Transactions on Affective Computing 7(2), 2016); ComParE, Schuller et al. (Interspeech
    2016). The package opensmile computes them; its licence, audEERING's research licence, permits no commercial use.

    openSMILE takes samples of 16 bits: those above full scale are clipped. A clip shorter than 60 ms, the window of
    openSMILE's pitch, is padded with zeros on both sides to that length; with this, functionals are finite for every
    clip, also for silence.

    Args:
        feature_set: `eGeMAPSv02`, 88 functionals, or `ComParE_2016`, 6,373 functionals.
        sampling_rate: sampling rate of the clips, in Hz. One rate for all corpora, since functionals depend on it;
            16 kHz holds all bands of eGeMAPS, which end at 8 kHz.
        kwargs: arguments of `SilenceTrimmingMixin`; clips are trimmed first.

    Raises:
        ValueError: for another feature set.
    """

    model_input_names = ("input_values",)

    def __init__(self, feature_set: str = "eGeMAPSv02", sampling_rate: int = 16000, **kwargs) -> None:
        super().__init__(**kwargs)
        if feature_set not in FEATURE_SETS:
            raise ValueError(
                f"expected feature_set out of {', '.join(FEATURE_SETS)}, found {feature_set!r}; give one of them."
            )
        self.feature_set = feature_set
        self.sampling_rate = sampling_rate

    def __call__(
        self,
        raw_speech: np.ndarray | list[np.ndarray],
        sampling_rate: int | None = None,
        return_tensors: str | None = None,
        **kwargs,
    ) -> BatchFeature:
        """Return the functionals of one clip or of several.

        Args:
            raw_speech: one clip `(samples,)`, or a list of such clips, or an array `(batch, samples)`.
            sampling_rate: of the clips, in Hz.
            return_tensors: `"pt"` or `"np"`.
            kwargs: padding arguments of transformers, without effect, since all clips have as many functionals.

        Raises:
            ValueError: for a missing or other sampling rate; for clips that are not one-dimensional, have no samples
                or hold NaN or infinite ones; and where the package opensmile is not installed.
        """
        check_sampling_rate(self, sampling_rate)
        features = np.stack([self.extract(self.trim(clip)) for clip in as_clips(raw_speech)])
        return BatchFeature({self.model_input_names[0]: features}, tensor_type=return_tensors)

    def extract(self, clip: np.ndarray) -> np.ndarray:
        """Return the functionals `(features,)` of a clip `(samples,)`, float32."""
        padded = fit_length(clip, max(len(clip), math.ceil(F0_WINDOW * self.sampling_rate)))
        # the package converts to integers of 16 bits, and a sample above full scale would change its sign there
        functionals = _load_smile(self.feature_set)(np.clip(padded, -1, LARGEST), self.sampling_rate)
        return functionals[0, :, 0].astype(np.float32)  # (channels, features, frames)


@lru_cache
def _load_smile(feature_set: str) -> Callable[[np.ndarray, int], np.ndarray]:
    # transformers takes imports outside of try for requirements, and would end with an error of its own
    try:
        import opensmile
    except ImportError as error:
        raise ValueError(
            "expected the package opensmile, which computes the features of this model, found none; pip install "
            "opensmile (its licence permits no commercial use)."
        ) from error
    return opensmile.Smile(feature_set=opensmile.FeatureSet[feature_set], feature_level="func")
