"""Feature extractor of log-mel spectrograms.

It is computed with torch alone, so that a checkpoint loads without torchaudio, and equals torchaudio's MelSpectrogram
followed by AmplitudeToDB.
"""

from functools import lru_cache

import numpy as np
import torch

from .features_waveform import WaveformFeatureExtractor, fit_length


class LogMelFeatureExtractor(WaveformFeatureExtractor):
    """Feature extractor of log-mel spectrograms in dB.

    Takes clips `(samples,)` and returns `input_features` `(batch, 1, num_mel_bins, frames)`, float32. The waveform is
    scaled and padded first (see `WaveformFeatureExtractor`). The defaults are those of the paper (D. Pak,
    "Emotion Classification using Various Transformer Architectures", 2022): Hann window and FFT of 1024 samples, hop
    64, 64 HTK mel bands, power, decibels no lower than 80 dB below the clip's maximum. 44,100 samples give 690 frames.

    Args:
        num_mel_bins: number of mel bands between 0 Hz and half the sampling rate.
        fft_length: length of window and transform, in samples.
        hop_length: step between frames, in samples.
        top_db: range below the clip's maximum that is kept, in dB.
        pad_clip: cut or pad the waveform to `num_samples`; else transform the whole clip and keep its middle
            `num_frames` (clips shorter than `num_samples` are padded in any case).
        kwargs: arguments of `WaveformFeatureExtractor`.

    Raises:
        ValueError: for clips that are too short for the transform.
    """

    model_input_names = ("input_features",)

    def __init__(
        self,
        num_mel_bins: int = 64,
        fft_length: int = 1024,
        hop_length: int = 64,
        top_db: float = 80.0,
        pad_clip: bool = True,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        if self.num_samples <= fft_length // 2:
            raise ValueError(
                f"num_samples must exceed half of fft_length {fft_length}, found {self.num_samples}; "
                "use longer clips or a shorter transform."
            )
        self.num_mel_bins = num_mel_bins
        self.fft_length = fft_length
        self.hop_length = hop_length
        self.top_db = top_db
        self.pad_clip = pad_clip

    @property
    def num_frames(self) -> int:
        """Number of frames of every output: one at each hop, the first centred on sample 0."""
        return self.num_samples // self.hop_length + 1

    def extract(self, clips: list[np.ndarray]) -> np.ndarray:
        """Return mel spectrograms in dB before `normalize`, `(batch, 1, num_mel_bins, frames)`."""
        if self.pad_clip:
            # one by one, since the spectrum of one clip fits into the processor's cache
            return np.concatenate([self._above_floor(waveform) for waveform in super().extract(clips)])
        spectrograms = []
        for clip in map(self.trim, clips):
            waveform = fit_length(clip, max(len(clip), self.num_samples)) / np.float32(self.peak)
            decibels = self._above_floor(waveform)
            first = (decibels.shape[-1] - self.num_frames) // 2
            spectrograms.append(decibels[..., first : first + self.num_frames])
        return np.concatenate(spectrograms)

    def _above_floor(self, waveform: np.ndarray) -> np.ndarray:
        decibels = self.decibels(torch.from_numpy(waveform)[None])[:, None]
        return torch.maximum(decibels, decibels.amax() - self.top_db).numpy()

    def decibels(self, waveforms: torch.Tensor, center: bool = True) -> torch.Tensor:
        """Return power in mel bands in dB, without the floor of `top_db`: `(batch, num_mel_bins, frames)`.

        Args:
            waveforms: `(batch, samples)`, scaled.
            center: the first frame is centred on sample 0, with a mirror image before it; else it begins there.
        """
        spectrum = torch.stft(
            waveforms,
            self.fft_length,
            self.hop_length,
            window=torch.hann_window(self.fft_length),
            center=center,
            return_complex=True,
        )  # (batch, bins, frames)
        filters = mel_filters(self.num_mel_bins, self.fft_length // 2 + 1, self.sampling_rate)
        squares = spectrum.real.square().addcmul_(spectrum.imag, spectrum.imag)  # without the square root of abs()
        power = filters.T @ squares  # (batch, num_mel_bins, frames)
        return 10 * torch.log10(power.clamp(min=1e-10))


@lru_cache
def mel_filters(num_mel_bins: int, num_bins: int, sampling_rate: int) -> torch.Tensor:
    """Return triangular filters `(num_bins, num_mel_bins)` on the HTK mel scale, peak 1 (torchaudio's default)."""
    frequencies = torch.linspace(0, sampling_rate // 2, num_bins)
    top = 2595 * np.log10(1 + (sampling_rate // 2) / 700)
    corners = 700 * (10 ** (torch.linspace(0, float(top), num_mel_bins + 2) / 2595) - 1)
    widths = corners[1:] - corners[:-1]
    slopes = corners[None] - frequencies[:, None]  # (num_bins, num_mel_bins + 2)
    rising = -slopes[:, :-2] / widths[:-1]
    falling = slopes[:, 2:] / widths[1:]
    return torch.clamp(torch.minimum(rising, falling), min=0)
