"""Feature extractors of the models, feature extraction of batches, and the data collator."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import (
    ASTFeatureExtractor,
    PreTrainedConfig,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2FeatureExtractor,
    WhisperFeatureExtractor,
)
from transformers.feature_extraction_utils import FeatureExtractionMixin

from ..models import WaveformFeatureExtractor, build_feature_extractor
from ..models.features_trimmed import pad_to_minimum, trimming_extractor
from ..models.features_whisper import MaskedWhisperFeatureExtractor
from ..models.silence import SilenceTrimmingMixin

WHISPER_SECONDS = 30  # which its positions were pretrained for


def matching_extractor(name: str, config: PreTrainedConfig) -> FeatureExtractionMixin:
    """The feature extractor of a model of `MODELS` whose output has the shape that its configuration asks for."""
    extractor = build_feature_extractor(name)
    if hasattr(config, "num_samples"):
        return build_feature_extractor(name, num_samples=config.num_samples)
    if not hasattr(config, "num_frames"):
        return extractor
    settings = {
        name: getattr(config, name) for name in ("num_mel_bins", "pad_clip", "hop_length") if hasattr(config, name)
    }
    hop_length = settings.get("hop_length", extractor.hop_length)
    if (config.num_frames, hop_length) != (extractor.num_frames, extractor.hop_length):
        settings["num_samples"] = (config.num_frames - 1) * hop_length
    return build_feature_extractor(name, **settings)


def configure_length(
    extractor: FeatureExtractionMixin, settings: PreTrainedConfig, max_seconds: float
) -> FeatureExtractionMixin:
    """The extractor for clips of `max_seconds`, whatever an earlier training cut them to.

    Whisper's own classifier gets a window of whole seconds, and SEW, whose pooling of frames sees padding, mask or
    not, gets clips of one length.
    """
    if isinstance(extractor, WaveformFeatureExtractor):
        if type(extractor) is WaveformFeatureExtractor and not hasattr(settings, "num_samples"):  # of SEW
            extractor.num_samples = math.ceil(max_seconds * extractor.sampling_rate)
        return extractor
    vars(extractor).pop("num_samples", None)
    if settings.model_type == "whisper":
        extractor.chunk_length = min(math.ceil(max_seconds), WHISPER_SECONDS)
        extractor.n_samples = extractor.chunk_length * extractor.sampling_rate
        extractor.nb_max_frames = extractor.n_samples // extractor.hop_length
    elif isinstance(extractor, Wav2Vec2FeatureExtractor) and settings.model_type in ("sew", "sew-d"):
        extractor = fixed_length(extractor, max_seconds)
    elif isinstance(extractor, Wav2Vec2FeatureExtractor):
        extractor.return_attention_mask = True
    return extractor


def max_input_seconds(extractor: FeatureExtractionMixin) -> float:
    """Seconds of a clip behind which an extractor cuts it by itself; infinite for most of the library."""
    if isinstance(extractor, WaveformFeatureExtractor):
        return extractor.num_samples / extractor.sampling_rate
    if isinstance(extractor, WhisperFeatureExtractor):
        return extractor.chunk_length
    if isinstance(extractor, ASTFeatureExtractor):
        return extractor.max_length / 100  # frames of 10 ms
    return math.inf


def set_max_length(extractor: FeatureExtractionMixin, max_seconds: float, with_code: bool) -> FeatureExtractionMixin:
    """The extractor for clips that are cut to `max_seconds`, which it keeps in `num_samples`.

    Those of the library do not heed it: this package does, and a model card says so.

    Args:
        extractor: of an encoder.
        max_seconds: less than its window.
        with_code: take one that cuts by itself, wherever the checkpoint is loaded; it brings its code along.
    """
    if isinstance(extractor, WaveformFeatureExtractor):
        return extractor
    cut = {"num_samples": math.ceil(max_seconds * extractor.sampling_rate)}
    if with_code:
        return trimming_extractor(extractor, cut)
    vars(extractor).update(cut)
    return extractor


def fixed_length(extractor: FeatureExtractionMixin, max_seconds: float) -> WaveformFeatureExtractor:
    """Our extractor in place of the library's for waveforms: clips padded on both sides, or cut, to one length."""
    return WaveformFeatureExtractor(
        sampling_rate=extractor.sampling_rate,
        num_samples=math.ceil(max_seconds * extractor.sampling_rate),
        zero_mean_unit_variance=extractor.do_normalize,
    )


def takes_variable_length(extractor: FeatureExtractionMixin) -> bool:
    """Whether a model takes clips as long as they are, with a mask, rather than all of one length."""
    if isinstance(extractor, MaskedWhisperFeatureExtractor):
        return extractor.cut_to_clips
    return isinstance(extractor, (Wav2Vec2FeatureExtractor, SeamlessM4TFeatureExtractor))


def extract_features(
    extractor: FeatureExtractionMixin, clips: list[np.ndarray], max_seconds: float
) -> dict[str, list[np.ndarray]]:
    """Features of each clip `(samples,)` at the extractor's rate, not yet normalised over a corpus.

    Where the model takes clips as long as they are, each is: `(samples,)`, or `(frames, bins)`, time first.

    Args:
        extractor: of the model; what it trims and cuts by itself is not cut before.
        clips: at least one.
        max_seconds: length that clips are cut to where the extractor has no `num_samples`.
    """
    if isinstance(extractor, WaveformFeatureExtractor):
        return {extractor.model_input_names[0]: list(extractor.extract(clips))}
    if not isinstance(extractor, SilenceTrimmingMixin):
        longest = getattr(extractor, "num_samples", math.ceil(max_seconds * extractor.sampling_rate))
        clips = [pad_to_minimum(extractor, clip[:longest]) for clip in clips]
    padding = _padding(extractor, max(map(len, clips)))
    features = dict(extractor(clips, sampling_rate=extractor.sampling_rate, return_tensors="np", **padding))
    if not takes_variable_length(extractor):
        return {name: list(values) for name, values in features.items()}
    lengths = features.pop("attention_mask").sum(axis=1)
    return {
        name: [_time_first(extractor, clip)[:length] for clip, length in zip(values, lengths, strict=True)]
        for name, values in features.items()
    }


def _padding(extractor: FeatureExtractionMixin, longest: int) -> dict[str, Any]:
    """What an extractor is told of padding, for clips of at most so many samples."""
    if isinstance(extractor, Wav2Vec2FeatureExtractor):
        return {"padding": True, "return_attention_mask": True}
    if isinstance(extractor, MaskedWhisperFeatureExtractor) and extractor.cut_to_clips:
        # no 30 s of silence, but as much as the spectra at the end of a clip reach into
        frames = -(-longest // extractor.hop_length) + math.ceil(extractor.n_fft / 2 / extractor.hop_length)
        return {"max_length": min(frames * extractor.hop_length, extractor.n_samples)}
    return {}


def _time_first(extractor: FeatureExtractionMixin, features: np.ndarray) -> np.ndarray:
    return features.T if isinstance(extractor, MaskedWhisperFeatureExtractor) else features


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
    if not takes_variable_length(extractor):
        return {name: torch.stack(list(clips)) for name, clips in features.items()}
    ((name, clips),) = features.items()
    lengths = torch.tensor([len(clip) for clip in clips])
    mask = (torch.arange(int(lengths.max())) < lengths[:, None]).long()
    padded = torch.nn.utils.rnn.pad_sequence(list(clips), batch_first=True)
    if isinstance(extractor, MaskedWhisperFeatureExtractor):
        padded = padded.mT.contiguous()  # (batch, mel bins, frames)
    return {name: padded, "attention_mask": mask}


class AudioDataCollator:
    """Features and labels of a batch, scaled by what the extractor measured on the training clips.

    Clips of a model that takes them as long as they are are padded to the longest of the batch, with a mask. Scaling
    here rather than in the cache lets folds share one, as long as their training clips have one peak.

    Args:
        extractor: of the model; those of the library have normalised already.
    """

    def __init__(self, extractor: FeatureExtractionMixin) -> None:
        self.normalized = extractor.model_input_names[0] if isinstance(extractor, WaveformFeatureExtractor) else None
        self.extractor = extractor

    def __call__(self, rows: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """What the model takes; `labels` are `(batch,)` int64, or `(batch, num_labels)` where clips are mixed.

        `clip`, where rows have it, is the number of each clip `(batch,)`, which `VivaeTrainer` takes out.
        """
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        targets = {
            name: torch.stack(columns.pop(name)) for name in ("labels", "embeddings", "clip") if name in columns
        }
        batch = batch_features(self.extractor, columns) if columns else {}
        if self.normalized in batch:
            batch[self.normalized] = self.extractor.normalize(batch[self.normalized])
        return batch | targets
