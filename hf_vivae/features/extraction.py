"""Feature extractors of the models, feature extraction of batches, and the data collator."""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

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

WHISPER_SECONDS = 30  # window that its positions were pretrained for


def matching_extractor(name: str, config: PreTrainedConfig) -> FeatureExtractionMixin:
    """Return the feature extractor of a model of `REGISTERED`, with the output shape of the model's configuration."""
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
    """Return the extractor for clips of `max_seconds`; the length of an earlier training is overwritten.

    Whisper's own classifier gets a window of whole seconds. SEW gets clips of one length, since its pooling of frames
    includes padding, with or without a mask.
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
    """Return the length in seconds to which an extractor cuts clips by itself; infinite for most of the library."""
    if isinstance(extractor, WaveformFeatureExtractor):
        return extractor.num_samples / extractor.sampling_rate
    if isinstance(extractor, WhisperFeatureExtractor):
        return extractor.chunk_length
    if isinstance(extractor, ASTFeatureExtractor):
        return extractor.max_length / 100  # frames of 10 ms
    return math.inf


def set_max_length(extractor: FeatureExtractionMixin, max_seconds: float, with_code: bool) -> FeatureExtractionMixin:
    """Return the extractor for clips cut to `max_seconds`, with this length as `num_samples`.

    Extractors of the library ignore it: this package cuts the clips, and the model card states it.

    Args:
        extractor: of an encoder.
        max_seconds: less than its window.
        with_code: return an extractor that cuts by itself wherever the checkpoint is loaded, with its code.
    """
    if isinstance(extractor, WaveformFeatureExtractor):
        return extractor
    cut = {"num_samples": math.ceil(max_seconds * extractor.sampling_rate)}
    if with_code:
        return trimming_extractor(extractor, cut)
    vars(extractor).update(cut)
    return extractor


def fixed_length(extractor: FeatureExtractionMixin, max_seconds: float) -> WaveformFeatureExtractor:
    """Return an extractor of this package in place of the library's, which pads or cuts waveforms to one length."""
    return WaveformFeatureExtractor(
        sampling_rate=extractor.sampling_rate,
        num_samples=math.ceil(max_seconds * extractor.sampling_rate),
        zero_mean_unit_variance=extractor.do_normalize,
    )


def takes_variable_length(extractor: FeatureExtractionMixin) -> bool:
    """Return whether a model takes clips of their own lengths, with a mask, rather than all of one length."""
    if isinstance(extractor, MaskedWhisperFeatureExtractor):
        return extractor.cut_to_clips
    return isinstance(extractor, (Wav2Vec2FeatureExtractor, SeamlessM4TFeatureExtractor))


def needs_scale(extractor: FeatureExtractionMixin) -> bool:
    """Return whether an extractor takes its scale from the training clips (`peak`, `mean` and `std`)."""
    return isinstance(extractor, WaveformFeatureExtractor)


def trims(extractor: FeatureExtractionMixin) -> bool:
    """Return whether an extractor cuts silence off the ends of clips."""
    return isinstance(extractor, SilenceTrimmingMixin) and extractor.trim_db is not None


def bands_first(extractor: FeatureExtractionMixin) -> bool:
    """Return whether spectrograms of an extractor are `(..., bands, frames)`, rather than `(frames, bands)`."""
    if isinstance(extractor, WhisperFeatureExtractor):
        return not takes_variable_length(extractor)
    return isinstance(extractor, WaveformFeatureExtractor)


@contextmanager
def clip_threads() -> Iterator[ThreadPoolExecutor]:
    """Yield as many threads as torch uses, each for one clip at a time on one core.

    This is faster than all cores for one clip, whose steps are too short to be divided.
    """
    count = torch.get_num_threads()
    with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        yield pool
    torch.set_num_threads(count)  # of MKL, it is one setting for all threads


def extract_features(
    extractor: FeatureExtractionMixin, clips: list[np.ndarray], max_seconds: float
) -> dict[str, list[np.ndarray]]:
    """Return the features of each clip, before normalisation over a corpus.

    Of models that take clips of their own lengths, they are `(samples,)` or `(frames, bins)`.

    Args:
        extractor: of the model; one that trims or cuts by itself gets whole clips.
        clips: at least one, `(samples,)` each, at the extractor's rate.
        max_seconds: length to which clips are cut where the extractor has no `num_samples`.
    """
    if isinstance(extractor, WaveformFeatureExtractor):
        return {extractor.model_input_names[0]: list(extractor.extract(clips))}
    is_whisper = isinstance(extractor, MaskedWhisperFeatureExtractor)
    if not isinstance(extractor, SilenceTrimmingMixin):
        end = getattr(extractor, "num_samples", math.ceil(max_seconds * extractor.sampling_rate))
        clips = [pad_to_minimum(extractor, clip[:end]) for clip in clips]
    padding = {}
    if isinstance(extractor, Wav2Vec2FeatureExtractor):
        padding = {"padding": True, "return_attention_mask": True}
    elif is_whisper and extractor.cut_to_clips:
        # as much silence as the spectra at the end of a clip reach into, in place of 30 s
        hop_length, longest = extractor.hop_length, max(map(len, clips))
        frames = -(-longest // hop_length) + math.ceil(extractor.n_fft / 2 / hop_length)
        padding = {"max_length": min(frames * hop_length, extractor.n_samples)}
    features = dict(extractor(clips, sampling_rate=extractor.sampling_rate, return_tensors="np", **padding))
    if not takes_variable_length(extractor):
        return {name: list(values) for name, values in features.items()}
    lengths = features.pop("attention_mask").sum(axis=1)
    return {
        name: [(clip.T if is_whisper else clip)[:length] for clip, length in zip(values, lengths, strict=True)]
        for name, values in features.items()
    }


def batch_features(
    extractor: FeatureExtractionMixin, features: dict[str, Sequence[torch.Tensor]]
) -> dict[str, torch.Tensor]:
    """Return the features of several clips as one batch: stacked, or padded to the longest clip with a mask.

    Args:
        extractor: of the features.
        features: of each clip, as `extract_features` returns them.

    Returns:
        The inputs of the model; `attention_mask` `(batch, longest)` is 1 for the clip and 0 for padding.
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
    """Data collator that stacks or pads features and labels of clips, and normalises them with `mean` and `std`.

    Clips of a model that takes their own lengths are padded to the longest of the batch, with a mask. Since `mean` and
    `std` are applied here, folds whose training clips have the same peak share one cache.

    Args:
        extractor: of the model; those of the library have already normalised.
    """

    def __init__(self, extractor: FeatureExtractionMixin) -> None:
        self.normalized = extractor.model_input_names[0] if needs_scale(extractor) else None
        self.extractor = extractor

    def __call__(self, rows: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """Return the inputs of the model with `labels`, `(batch,)` int64 or, of mixed clips, `(batch, num_labels)`.

        `clip`, where rows have it, is the index of each clip `(batch,)`, which `VivaeTrainer` removes.
        """
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        targets = {
            name: torch.stack(columns.pop(name)) for name in ("labels", "embeddings", "clip") if name in columns
        }
        batch = batch_features(self.extractor, columns) if columns else {}
        if self.normalized in batch:
            batch[self.normalized] = self.extractor.normalize(batch[self.normalized])
        return batch | targets
