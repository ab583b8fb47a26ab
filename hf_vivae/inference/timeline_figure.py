"""A recording as a picture: its spectrogram above, the probabilities of the labels over time below."""

from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from ..evaluation.figures import blank_figure, literal
from .recordings import Recording
from .timeline import Timeline

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 2000  # of the spectrogram at most, whatever the recording's length
BANDS = 64
FFT = 1024
RANGE_DB = 80
# those of Okabe and Ito; grey is for all labels beyond
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
OTHERS = "#999999"


def timeline_figure(timeline: Timeline, width: float = 12) -> "Figure":
    """A timeline; where there are more than seven labels, those that are heard least are one.

    Args:
        timeline: of a recording, which is read once more.
        width: in inches.
    """
    figure = blank_figure(width, max(5, width / 2))
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1, 1))
    seconds, name = timeline.recording.seconds, literal(timeline.recording.path.name)
    rate = 16000
    image = spectrogram(timeline.recording, rate)
    above.imshow(
        image, origin="lower", aspect="auto", extent=(0, seconds, 0, rate / 2000), cmap="magma",
        vmin=image.max() - RANGE_DB, vmax=image.max(),
    )  # fmt: skip
    above.set(ylabel="frequency (kHz)", title=f"{name}: what is heard when")
    starts = np.arange(len(timeline.levels) + 1) * timeline.hop
    starts[-1] = seconds
    heights = np.nan_to_num(timeline.probabilities)
    heights = np.repeat(heights, 2, axis=0)  # steps, not slopes
    edges = np.repeat(starts, 2)[1:-1]
    order = np.argsort(-heights.sum(axis=0))
    shown, rest = order[: len(COLOURS)], order[len(COLOURS) :]
    stacked, names = [*heights[:, shown].T], [literal(timeline.labels[place]) for place in shown]
    if len(rest):
        stacked, names = [*stacked, heights[:, rest].sum(axis=1)], [*names, f"{len(rest)} others"]
    below.stackplot(edges, stacked, labels=names, colors=(*COLOURS[: len(shown)], OTHERS), linewidth=0)
    below.set(xlabel="time (s)", ylabel="probability", ylim=(0, 1), xlim=(0, seconds))
    handles, names = below.get_legend_handles_labels()
    column = 0.9 + 0.09 * max(map(len, names))  # inches of the longest name with its colour and the gap beside it
    columns = min(len(names), max(1, int(width / column)))
    figure.legend(handles, names, loc="outside lower center", ncols=columns, frameon=False)
    return figure


def spectrogram(recording: Recording, rate: int) -> np.ndarray:
    """Power in dB, `(bands, columns)`: bands of equal width up to half the rate; of each column its loudest frames."""
    hop = max(1, round(recording.seconds * rate / COLUMNS / 4))
    window = np.hanning(FFT).astype(np.float32)
    columns, rest, margin = [], np.zeros(FFT // 2, np.float32), np.zeros(FFT // 2, np.float32)
    for block in chain(recording.blocks(rate), [margin]):
        rest = np.concatenate((rest, block))
        if len(rest) < FFT:
            continue
        frames = np.lib.stride_tricks.sliding_window_view(rest, FFT)[::hop]
        power = np.abs(np.fft.rfft(frames * window, axis=1))[:, : FFT // 2] ** 2
        columns.append(power.reshape(len(power), BANDS, -1).mean(axis=2))
        rest = rest[len(frames) * hop :]
    power = np.concatenate(columns)
    edges = np.linspace(0, len(power), min(COLUMNS, len(power)) + 1).astype(int)[:-1]
    return 10 * np.log10(np.maximum(np.maximum.reduceat(power, edges), 1e-12)).T
