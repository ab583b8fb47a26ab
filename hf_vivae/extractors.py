"""Feature extractors that fit their model and the clips' length, and what they make of clips."""

import math

import numpy as np
from transformers import PreTrainedConfig, Wav2Vec2FeatureExtractor
from transformers.feature_extraction_utils import FeatureExtractionMixin

from .models import WaveformFeatureExtractor, build_feature_extractor


def matching_extractor(name: str, config: PreTrainedConfig) -> FeatureExtractionMixin:
    """The feature extractor of a model of `MODELS` whose output has the shape that its configuration asks for."""
    extractor = build_feature_extractor(name)
    if hasattr(config, "num_samples"):
        return build_feature_extractor(name, num_samples=config.num_samples)
    if not hasattr(config, "num_frames"):
        return extractor
    settings = {"num_mel_bins": config.num_mel_bins, "pad_clip": getattr(config, "pad_clip", True)}
    if config.num_frames != extractor.num_frames:
        settings["num_samples"] = (config.num_frames - 1) * extractor.hop_length
    return build_feature_extractor(name, **settings)


def fit_extractor_length(
    extractor: FeatureExtractionMixin, settings: PreTrainedConfig, max_seconds: float
) -> FeatureExtractionMixin:
    """The extractor for clips of `max_seconds`, remembering that length where its class can."""
    if settings.model_type == "whisper":
        extractor.chunk_length = min(math.ceil(max_seconds), extractor.chunk_length)
        extractor.n_samples = extractor.chunk_length * extractor.sampling_rate
        extractor.nb_max_frames = extractor.n_samples // extractor.hop_length
    elif isinstance(extractor, Wav2Vec2FeatureExtractor) and settings.model_type in ("sew", "sew-d"):
        extractor = fixed_length(extractor, max_seconds)  # their pooling of frames sees padding, mask or not
    elif isinstance(extractor, Wav2Vec2FeatureExtractor):
        extractor.return_attention_mask = True
        vars(extractor).pop("num_samples", None)  # of an earlier training
    return extractor


def remember_cut(extractor: FeatureExtractionMixin, max_seconds: float) -> None:
    """Have an extractor that takes clips of any length say where the training cuts them, in `num_samples`."""
    if isinstance(extractor, Wav2Vec2FeatureExtractor):
        extractor.num_samples = math.ceil(max_seconds * extractor.sampling_rate)


def fixed_length(extractor: FeatureExtractionMixin, max_seconds: float) -> WaveformFeatureExtractor:
    """Our extractor in place of the library's for waveforms: clips padded on both sides, or cut, to one length."""
    return WaveformFeatureExtractor(
        sampling_rate=extractor.sampling_rate,
        num_samples=math.ceil(max_seconds * extractor.sampling_rate),
        zero_mean_unit_variance=extractor.do_normalize,
    )


def extract_features(
    extractor: FeatureExtractionMixin, clips: list[np.ndarray], max_seconds: float
) -> dict[str, np.ndarray]:
    """Features of clips `(samples,)` at the extractor's rate, all of one shape, not yet normalised over a corpus.

    Raises:
        ValueError: where the extractor gives clips of different shapes.
    """
    if isinstance(extractor, WaveformFeatureExtractor):
        return {extractor.model_input_names[0]: extractor.extract(clips)}
    padding = {}
    if isinstance(extractor, Wav2Vec2FeatureExtractor):
        longest = getattr(extractor, "num_samples", math.ceil(max_seconds * extractor.sampling_rate))
        padding = {"max_length": longest, "return_attention_mask": True}
    elif type(extractor).__name__ == "SeamlessM4TFeatureExtractor":
        padding = {"max_length": 2 * math.ceil(max_seconds * 50)}  # frames of 10 ms, stacked in pairs
    if padding:
        padding |= {"padding": "max_length", "truncation": True}
    features = extractor(clips, sampling_rate=extractor.sampling_rate, return_tensors="np", **padding)
    return dict(features)
