"""Feature extractors that fit their model and the clips' length, and what they make of clips."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedConfig, SeamlessM4TFeatureExtractor, Wav2Vec2FeatureExtractor
from transformers.feature_extraction_utils import FeatureExtractionMixin

from .models import WaveformFeatureExtractor, build_feature_extractor
from .models.features_whisper import MaskedWhisperFeatureExtractor


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


def hears_own_length(extractor: FeatureExtractionMixin) -> bool:
    """Whether a model takes clips as long as they are, with a mask, rather than all of one length."""
    if isinstance(extractor, MaskedWhisperFeatureExtractor):
        return extractor.cut_to_clips
    return isinstance(extractor, (Wav2Vec2FeatureExtractor, SeamlessM4TFeatureExtractor))


def extract_features(
    extractor: FeatureExtractionMixin, clips: list[np.ndarray], max_seconds: float
) -> dict[str, list[np.ndarray]]:
    """Features of each clip `(samples,)` at the extractor's rate, not yet normalised over a corpus.

    Where the model takes clips as long as they are, each is: `(samples,)`, or `(frames, bins)`, time first.
    """
    if isinstance(extractor, WaveformFeatureExtractor):
        return {extractor.model_input_names[0]: list(extractor.extract(clips))}
    padding = {}
    if isinstance(extractor, Wav2Vec2FeatureExtractor):
        longest = getattr(extractor, "num_samples", math.ceil(max_seconds * extractor.sampling_rate))
        padding = {"padding": True, "max_length": longest, "truncation": True, "return_attention_mask": True}
    elif isinstance(extractor, SeamlessM4TFeatureExtractor):
        longest = 2 * math.ceil(max_seconds * 50)  # frames of 10 ms, stacked in pairs
        padding = {"padding": True, "max_length": longest, "truncation": True}
    features = dict(extractor(clips, sampling_rate=extractor.sampling_rate, return_tensors="np", **padding))
    if not hears_own_length(extractor):
        return {name: list(values) for name, values in features.items()}
    lengths = features.pop("attention_mask").sum(axis=1)
    return {
        name: [_time_first(extractor, clip)[:length] for clip, length in zip(values, lengths, strict=True)]
        for name, values in features.items()
    }


def _time_first(extractor: FeatureExtractionMixin, features: np.ndarray) -> np.ndarray:
    return features.T if isinstance(extractor, MaskedWhisperFeatureExtractor) else features


def by_length(rows: Sequence[int], extractor: FeatureExtractionMixin, durations: Sequence[float]) -> list[int]:
    """Rows in an order in which batches hold little padding, where clips are padded to their batch's longest."""
    return sorted(rows, key=lambda row: durations[row]) if hears_own_length(extractor) else list(rows)


def batch_features(
    extractor: FeatureExtractionMixin, features: dict[str, Sequence[torch.Tensor]]
) -> dict[str, torch.Tensor]:
    """Features of several clips as one batch: stacked, or padded to the longest of them with a mask.

    Args:
        extractor: whose features they are.
        features: of each clip, as `extract_features` gives them.

    Returns:
        What the model takes; `attention_mask` `(batch, longest)` is 1 for what is a clip's.
    """
    if not hears_own_length(extractor):
        return {name: torch.stack(list(clips)) for name, clips in features.items()}
    ((name, clips),) = features.items()
    lengths = torch.tensor([len(clip) for clip in clips])
    mask = (torch.arange(int(lengths.max())) < lengths[:, None]).long()
    padded = torch.nn.utils.rnn.pad_sequence(list(clips), batch_first=True)
    if isinstance(extractor, MaskedWhisperFeatureExtractor):
        padded = padded.mT.contiguous()  # (batch, mel bins, frames)
    return {name: padded, "attention_mask": mask}
