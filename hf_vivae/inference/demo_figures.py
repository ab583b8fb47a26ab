"""A clip as a picture: waveform and mel spectrogram, with axes."""

from typing import TYPE_CHECKING

import numpy as np

from ..evaluation.figures import blank_figure
from ..models import LogMelFeatureExtractor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MEL_BANDS, FFT, HOP = 64, 1024, 256
RANGE_DB = 80


def clip_figure(samples: np.ndarray, rate: int) -> "Figure":
    """Waveform above, mel spectrogram below.

    Args:
        samples: `(samples,)`.
        rate: in Hz.
    """
    figure = blank_figure(5.5, 4)
    above, below = figure.subplots(2, 1, sharex=True)
    seconds = len(samples) / rate
    above.plot(np.arange(len(samples)) / rate, samples, color="#0072B2", linewidth=0.5)
    above.set(ylabel="amplitude", xlim=(0, seconds))
    extractor = LogMelFeatureExtractor(
        sampling_rate=rate, num_samples=max(len(samples), FFT), hop_length=HOP, fft_length=FFT, num_mel_bins=MEL_BANDS,
        top_db=RANGE_DB,
    )  # fmt: skip
    image = extractor.extract([samples])[0, 0]
    shown = below.imshow(image, origin="lower", aspect="auto", extent=(0, seconds, 0, MEL_BANDS), cmap="magma")
    below.set(xlabel="time (s)", ylabel="mel band")
    figure.colorbar(shown, ax=[above, below], label="dB")
    return figure
