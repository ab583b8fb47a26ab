"""Feature extractors of transformers that first trim silence from both ends of a clip and cut it to a length.

Each saves its settings in `preprocessor_config.json` and is exported with this code, so that `pipeline` gives a model
the same parts of clips as training did.
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
    """Mixin of feature extractors of transformers that trims clips, and cuts them to `num_samples` if it is set."""

    num_samples: int | None = None

    def __call__(self, raw_speech: np.ndarray | list[np.ndarray], *args, **kwargs) -> BatchFeature:
        """Return the features of the trimmed clips.

        Args:
            raw_speech: one clip `(samples,)`, or a list of such clips, or an array `(batch, samples)`.
            args: arguments of the extractor of transformers.
            kwargs: arguments of the extractor of transformers.

        Raises:
            ValueError: for clips that are not one-dimensional, have no samples or hold NaN or infinite ones.
        """
        return super().__call__([self.trim(clip) for clip in as_clips(raw_speech)], *args, **kwargs)

    def trim(self, clip: np.ndarray) -> np.ndarray:
        """Return the clip `(samples,)` without the silence at its ends, cut to `num_samples`."""
        return pad_to_minimum(self, super().trim(clip)[: self.num_samples])


class TrimmedWav2Vec2FeatureExtractor(TrimmedCallMixin, Wav2Vec2FeatureExtractor):
    """Feature extractor of wav2vec2, HuBERT, WavLM and others that take waveforms, with trimming."""


class TrimmedWhisperFeatureExtractor(TrimmedCallMixin, WhisperFeatureExtractor):
    """Feature extractor of Whisper without a mask, with trimming; the model takes the padding after a clip too."""


class TrimmedMaskedWhisperFeatureExtractor(TrimmedCallMixin, MaskedWhisperFeatureExtractor):
    """Feature extractor of Whisper with a mask of the clip's frames, with trimming."""


class TrimmedSeamlessM4TFeatureExtractor(TrimmedCallMixin, SeamlessM4TFeatureExtractor):
    """Feature extractor of w2v-BERT, with trimming."""


class TrimmedASTFeatureExtractor(TrimmedCallMixin, ASTFeatureExtractor):
    """Feature extractor of the audio spectrogram transformer (AST), with trimming."""


TRIMMED: dict[type[FeatureExtractionMixin], type[TrimmedCallMixin]] = {
    Wav2Vec2FeatureExtractor: TrimmedWav2Vec2FeatureExtractor,
    WhisperFeatureExtractor: TrimmedWhisperFeatureExtractor,
    MaskedWhisperFeatureExtractor: TrimmedMaskedWhisperFeatureExtractor,
    SeamlessM4TFeatureExtractor: TrimmedSeamlessM4TFeatureExtractor,
    ASTFeatureExtractor: TrimmedASTFeatureExtractor,
}


def pad_to_minimum(extractor: FeatureExtractionMixin, clip: np.ndarray) -> np.ndarray:
    """Return the clip `(samples,)`, for w2v-BERT padded with silence to two frames, which it joins into one token."""
    if not isinstance(extractor, SeamlessM4TFeatureExtractor):
        return clip
    return np.pad(clip, (0, max(0, TWO_FRAMES - len(clip))))


def trimming_extractor(extractor: FeatureExtractionMixin, trim: dict[str, float]) -> FeatureExtractionMixin:
    """Return a feature extractor with the same settings that trims clips.

    Args:
        extractor: feature extractor of this package, which is changed in place, or of transformers.
        trim: `trim_db`, `trim_margin` and `trim_min_seconds` of `SilenceTrimmingMixin`; or `num_samples`.

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
