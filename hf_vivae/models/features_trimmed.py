"""The library's feature extractors with silence cut off both ends of a clip first, and what is behind a length.

Each is one of the library's own, saves its settings in `preprocessor_config.json` and brings this code along, so that
a checkpoint hears in `pipeline` what its training heard.
"""

import numpy as np
from transformers import (
    ASTFeatureExtractor,
    BatchFeature,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2FeatureExtractor,
    WhisperFeatureExtractor,
)
from transformers.feature_extraction_utils import FeatureExtractionMixin

from .features_waveform import as_clips
from .features_whisper import MaskedWhisperFeatureExtractor
from .silence import SilenceTrimmingMixin

TWO_FRAMES = 560  # samples of 16 kHz: frames of 25 ms, every 10 ms


class TrimmedCallMixin(SilenceTrimmingMixin):
    """Trims what a feature extractor of the library is called with, and cuts it to `num_samples` if it has these."""

    num_samples: int | None = None

    def __call__(self, raw_speech: np.ndarray | list[np.ndarray], *args, **kwargs) -> BatchFeature:
        """What the library makes of the trimmed clips.

        Args:
            raw_speech: one clip `(samples,)`, or a list of such clips, or an array `(batch, samples)`.
            args: of the library's extractor.
            kwargs: of the library's extractor.

        Raises:
            ValueError: for clips that are not one-dimensional, have no samples or hold NaN or infinite ones.
        """
        return super().__call__([self.trim(clip) for clip in as_clips(raw_speech)], *args, **kwargs)

    def trim(self, clip: np.ndarray) -> np.ndarray:
        """The clip `(samples,)` without the silence at its ends, and then as far as the training heard it."""
        return pad_to_minimum(self, super().trim(clip)[: self.num_samples])


class TrimmedWav2Vec2FeatureExtractor(TrimmedCallMixin, Wav2Vec2FeatureExtractor):
    """Of wav2vec2, HuBERT, WavLM and others that hear waveforms."""


class TrimmedWhisperFeatureExtractor(TrimmedCallMixin, WhisperFeatureExtractor):
    """Of Whisper as the library has it, which hears the padding behind a clip."""


class TrimmedMaskedWhisperFeatureExtractor(TrimmedCallMixin, MaskedWhisperFeatureExtractor):
    """Of Whisper, with the mask of the frames that hold the clip."""


class TrimmedSeamlessM4TFeatureExtractor(TrimmedCallMixin, SeamlessM4TFeatureExtractor):
    """Of w2v-BERT."""


class TrimmedASTFeatureExtractor(TrimmedCallMixin, ASTFeatureExtractor):
    """Of the audio spectrogram transformer."""


TRIMMED: dict[type[FeatureExtractionMixin], type[TrimmedCallMixin]] = {
    Wav2Vec2FeatureExtractor: TrimmedWav2Vec2FeatureExtractor,
    WhisperFeatureExtractor: TrimmedWhisperFeatureExtractor,
    MaskedWhisperFeatureExtractor: TrimmedMaskedWhisperFeatureExtractor,
    SeamlessM4TFeatureExtractor: TrimmedSeamlessM4TFeatureExtractor,
    ASTFeatureExtractor: TrimmedASTFeatureExtractor,
}


def pad_to_minimum(extractor: FeatureExtractionMixin, clip: np.ndarray) -> np.ndarray:
    """The clip `(samples,)`, for w2v-BERT with silence behind it up to two frames: it makes one of these, or none."""
    if not isinstance(extractor, SeamlessM4TFeatureExtractor):
        return clip
    return np.pad(clip, (0, max(0, TWO_FRAMES - len(clip))))


def trimming_extractor(extractor: FeatureExtractionMixin, trim: dict[str, float]) -> FeatureExtractionMixin:
    """The extractor with clips trimmed first: itself where its class can, else one with all its settings.

    Args:
        extractor: one of this package's or of the library's.
        trim: `trim_db`, `trim_margin` and `trim_min_seconds`, as `SilenceTrimmingMixin` has them; or `num_samples`.

    Raises:
        ValueError: for any other extractor.
    """
    if isinstance(extractor, SilenceTrimmingMixin):
        vars(extractor).update(trim)
        return extractor
    if type(extractor) not in TRIMMED:
        known = ", ".join(library.__name__ for library in TRIMMED)
        raise ValueError(
            f"expected a feature extractor that can trim silence ({known}, or one of this package), found "
            f"{type(extractor).__name__}; leave out --trim_db."
        )
    return TRIMMED[type(extractor)](**(extractor.to_dict() | trim))
