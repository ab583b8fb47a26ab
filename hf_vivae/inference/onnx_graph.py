"""A checkpoint as one graph from sound to probabilities, with its feature extractor as torch operators, for export.

Each front end gives the features of the extractor of the same name, up to rounding; the tests compare them.
"""

import math

import torch
from torch import nn
from transformers import (
    ASTFeatureExtractor,
    PreTrainedModel,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2FeatureExtractor,
    WhisperFeatureExtractor,
)
from transformers.feature_extraction_utils import FeatureExtractionMixin

from ..checkpoints.calibration import temperature_of
from ..checkpoints.open_set import output_labels
from ..features.extraction import trims
from ..models import LogMelFeatureExtractor, WaveformFeatureExtractor
from ..models.features_mel import mel_filters
from ..models.features_whisper import MaskedWhisperFeatureExtractor
from ..validation import UserError


class SoundToScores(nn.Module):
    """Module from waveforms `(batch, samples)` at the extractor's rate to probabilities `(batch, labels)`.

    Clips of a batch have one length, so that no padding has to be masked.
    """

    def __init__(self, model: PreTrainedModel, extractor: FeatureExtractionMixin) -> None:
        super().__init__()
        self.model, self.front = model, front_end(extractor)
        self.temperature, self.output = temperature_of(model.config) or 1.0, output_labels(model.config)

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        """Return the probabilities of clips."""
        return self.output.merge(self.model(**self.front(samples)).logits, self.temperature).softmax(dim=-1)


def front_end(extractor: FeatureExtractionMixin) -> nn.Module:
    """Return the front end that computes the features of an extractor.

    Raises:
        UserError: for an extractor without one.
    """
    if trims(extractor):
        raise UserError(
            "expected a checkpoint that takes whole clips, found one that trims silence, which a graph cannot; train "
            "without --trim_db to export it."
        )
    if type(extractor) not in FRONT_ENDS:
        raise UserError(
            f"expected one of the feature extractors {', '.join(kind.__name__ for kind in FRONT_ENDS)}, found "
            f"{type(extractor).__name__}, for which there is no graph; use hf-vivae predict with torch."
        )
    return FRONT_ENDS[type(extractor)](extractor)


class FixedWaveform(nn.Module):
    """`WaveformFeatureExtractor`: cut or centred in zeros, scaled."""

    def __init__(self, extractor: WaveformFeatureExtractor) -> None:
        super().__init__()
        self.settings = extractor

    def forward(self, samples: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return `input_values` `(batch, num_samples)`."""
        values = self.fit(samples) / self.settings.peak
        if self.settings.zero_mean_unit_variance:
            values = standardize(values)
        return {"input_values": self.settings.normalize(values)}

    def fit(self, samples: torch.Tensor) -> torch.Tensor:
        """Return the first `num_samples`, or all centred in zeros, without a branch that tracing would fix."""
        count = self.settings.num_samples
        missing = torch.sym_max(count - samples.shape[1], 0)
        padded = nn.functional.pad(samples, (missing // 2, missing - missing // 2))
        return padded[:, :count]


class LogMel(FixedWaveform):
    """`LogMelFeatureExtractor`."""

    def __init__(self, extractor: LogMelFeatureExtractor) -> None:
        super().__init__(extractor)
        self.register_buffer("window", torch.hann_window(extractor.fft_length))
        filters = mel_filters(extractor.num_mel_bins, extractor.fft_length // 2 + 1, extractor.sampling_rate)
        self.register_buffer("filters", filters.T.contiguous())

    def forward(self, samples: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return `input_features` `(batch, 1, num_mel_bins, frames)`."""
        settings = self.settings
        spectrum = torch.stft(
            self.fit(samples) / settings.peak, settings.fft_length, settings.hop_length, window=self.window,
            return_complex=True,
        )  # fmt: skip
        power = self.filters @ torch.view_as_real(spectrum).square().sum(-1)
        decibels = 10 * torch.log10(power.clamp(min=1e-10))
        floor = decibels.amax(dim=(1, 2), keepdim=True) - settings.top_db
        return {settings.model_input_names[0]: settings.normalize(torch.maximum(decibels, floor)[:, None])}


class OwnLengthWaveform(nn.Module):
    """The library's `Wav2Vec2FeatureExtractor`, for clips of one length."""

    def __init__(self, extractor: Wav2Vec2FeatureExtractor) -> None:
        super().__init__()
        self.normalizes, self.longest = extractor.do_normalize, getattr(extractor, "num_samples", None)

    def forward(self, samples: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return `input_values` `(batch, samples)`."""
        samples = samples[:, : self.longest]
        return {"input_values": standardize(samples) if self.normalizes else samples}


class WhisperMel(nn.Module):
    """`MaskedWhisperFeatureExtractor`, for clips of one length, without padding after their end."""

    def __init__(self, extractor: WhisperFeatureExtractor) -> None:
        super().__init__()
        self.settings = extractor
        self.register_buffer("window", torch.hann_window(extractor.n_fft))
        self.register_buffer("filters", torch.from_numpy(extractor.mel_filters.T.copy()).float())

    def forward(self, samples: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return `input_features` `(batch, mel bins, frames)` and `attention_mask` `(batch, frames)`."""
        settings = self.settings
        samples = samples[:, : settings.n_samples]
        frames = (samples.shape[1] + settings.hop_length - 1) // settings.hop_length
        reach = math.ceil(settings.n_fft / 2 / settings.hop_length) * settings.hop_length
        padded = nn.functional.pad(samples, (0, reach + settings.hop_length))
        spectrum = torch.stft(padded, settings.n_fft, settings.hop_length, window=self.window, return_complex=True)
        power = self.filters @ torch.view_as_real(spectrum).square().sum(-1)[:, :, :frames]
        logs = torch.log10(power.clamp(min=1e-10))
        logs = torch.maximum(logs, logs.amax(dim=(1, 2), keepdim=True) - 8.0)
        features = (logs + 4.0) / 4.0
        return {"input_features": features, "attention_mask": torch.ones_like(features[:, 0]).long()}


class KaldiMel(nn.Module):
    """Logarithmic mel energies `(batch, frames, bins)` of 25 ms every 10 ms at 16 kHz, as in Kaldi."""

    def __init__(self, filters: torch.Tensor, window: torch.Tensor, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.register_buffer("filters", filters)  # (257, bins)
        self.register_buffer("window", window)  # (400,)

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        """Return the energies of waveforms `(batch, samples)`."""
        frames = (samples * self.scale).unfold(1, 400, 160)  # (batch, frames, 400)
        frames = frames - frames.mean(dim=-1, keepdim=True)
        before = torch.cat((frames[..., :1], frames[..., :-1]), dim=-1)
        spectrum = torch.fft.rfft((frames - 0.97 * before) * self.window, n=512)
        power = torch.view_as_real(spectrum).square().sum(-1)
        return torch.log((power @ self.filters).clamp(min=torch.finfo(torch.float32).eps))


class ASTMel(nn.Module):
    """The library's `ASTFeatureExtractor`: a window of fixed length, zeros after the clip."""

    def __init__(self, extractor: ASTFeatureExtractor) -> None:
        super().__init__()
        from torchaudio.compliance.kaldi import get_mel_banks

        self.settings = extractor
        # as torchaudio's fbank, which the extractor calls: without the band at half the rate
        banks, _ = get_mel_banks(extractor.num_mel_bins, 512, float(extractor.sampling_rate), 20.0, 0.0, 100, -500, 1)
        filters = nn.functional.pad(banks, (0, 1)).T.contiguous()
        self.mel = KaldiMel(filters, torch.hann_window(400, periodic=False), scale=1.0)

    def forward(self, samples: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return `input_values` `(batch, max_length, mel bins)`."""
        settings = self.settings
        energies = self.mel(samples)
        missing = torch.sym_max(settings.max_length - energies.shape[1], 0)
        energies = nn.functional.pad(energies, (0, 0, 0, missing))[:, : settings.max_length]
        if settings.do_normalize:
            energies = (energies - settings.mean) / (2 * settings.std)
        return {"input_values": energies}


class SeamlessMel(nn.Module):
    """The library's `SeamlessM4TFeatureExtractor`, for clips of one length."""

    def __init__(self, extractor: SeamlessM4TFeatureExtractor) -> None:
        super().__init__()
        self.stride = extractor.stride
        filters = torch.from_numpy(extractor.mel_filters).float()
        self.mel = KaldiMel(filters, torch.from_numpy(extractor.window).float(), scale=2.0**15)

    def forward(self, samples: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return `input_features` `(batch, frames, stride * bins)` and `attention_mask` `(batch, frames)`."""
        energies = self.mel(samples)
        centred = energies - energies.mean(dim=1, keepdim=True)
        frames = energies.shape[1]
        features = centred / torch.sqrt(centred.square().sum(dim=1, keepdim=True) / (frames - 1) + 1e-7)
        features = features[:, : frames // self.stride * self.stride]
        features = features.reshape(features.shape[0], frames // self.stride, -1)
        return {"input_features": features, "attention_mask": torch.ones_like(features[..., 0]).long()}


def standardize(values: torch.Tensor) -> torch.Tensor:
    """Return each row with mean 0 and variance 1, with the library's constant."""
    centred = values - values.mean(dim=1, keepdim=True)
    return centred / torch.sqrt(centred.square().mean(dim=1, keepdim=True) + 1e-7)


FRONT_ENDS: dict[type, type[nn.Module]] = {
    WaveformFeatureExtractor: FixedWaveform,
    LogMelFeatureExtractor: LogMel,
    Wav2Vec2FeatureExtractor: OwnLengthWaveform,
    MaskedWhisperFeatureExtractor: WhisperMel,
    ASTFeatureExtractor: ASTMel,
    SeamlessM4TFeatureExtractor: SeamlessMel,
}
