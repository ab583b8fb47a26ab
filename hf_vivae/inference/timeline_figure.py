"""Figure of a timeline: the recording's spectrogram, and the probabilities of its labels."""

from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from ..reporting.plots import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION, YELLOW, blank_figure, escape_dollars
from .timeline import Recording, Timeline

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 2000  # of the spectrogram at most, whatever the recording's length
BANDS = 64
FFT = 1024
RANGE_DB = 80
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION, YELLOW)  # all other labels are grey


def timeline_figure(timeline: Timeline, width: float = 12) -> "Figure":
    """Return the figure of a timeline; of more than seven labels, the least likely ones are shown as one.

    Args:
        timeline: of a recording, which is read again.
        width: in inches.
    """
    figure = blank_figure(width, max(5, width / 2))
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1, 1))
    seconds, name = timeline.recording.seconds, escape_dollars(timeline.recording.path.name)
    rate = 16000
    image = spectrogram(timeline.recording, rate)
    above.imshow(
        image, origin="lower", aspect="auto", extent=(0, seconds, 0, rate / 2000), cmap="magma",
        vmin=image.max() - RANGE_DB, vmax=image.max(),
    )  # fmt: skip
    above.set(ylabel="frequency (kHz)", title=f"Labels of {name} over time")
    starts = np.arange(len(timeline.levels) + 1) * timeline.hop
    starts[-1] = seconds
    heights = np.repeat(np.nan_to_num(timeline.probabilities), 2, axis=0)  # steps, not slopes
    edges = np.repeat(starts, 2)[1:-1]
    order = np.argsort(-heights.sum(axis=0))
    shown, others = order[: len(COLOURS)], order[len(COLOURS) :]
    stacked, names = [*heights[:, shown].T], [escape_dollars(timeline.labels[index]) for index in shown]
    if len(others):
        stacked, names = [*stacked, heights[:, others].sum(axis=1)], [*names, f"{len(others)} others"]
    below.stackplot(edges, stacked, labels=names, colors=(*COLOURS[: len(shown)], GREY), linewidth=0)
    below.set(xlabel="time (s)", ylabel="probability", ylim=(0, 1), xlim=(0, seconds))
    handles, names = below.get_legend_handles_labels()
    column = 0.9 + 0.09 * max(map(len, names))  # inches of the longest name with its colour and gap
    columns = min(len(names), max(1, int(width / column)))
    figure.legend(handles, names, loc="outside lower center", ncols=columns, frameon=False)
    return figure


def spectrogram(recording: Recording, rate: int) -> np.ndarray:
    """Return power in dB, `(bands, columns)`: equal bands up to half the rate, the loudest frame of each column."""
    hop = max(1, round(recording.seconds * rate / COLUMNS / 4))
    window = np.hanning(FFT).astype(np.float32)
    columns, margin = [], np.zeros(FFT // 2, np.float32)
    buffer = margin
    for block in chain(recording.blocks(rate), [margin]):
        buffer = np.concatenate((buffer, block))
        if len(buffer) < FFT:
            continue
        frames = np.lib.stride_tricks.sliding_window_view(buffer, FFT)[::hop]
        power = np.abs(np.fft.rfft(frames * window, axis=1))[:, : FFT // 2] ** 2
        columns.append(power.reshape(len(power), BANDS, -1).mean(axis=2))
        buffer = buffer[len(frames) * hop :]
    power = np.concatenate(columns)
    edges = np.linspace(0, len(power), min(COLUMNS, len(power)) + 1).astype(int)[:-1]
    return 10 * np.log10(np.maximum(np.maximum.reduceat(power, edges), 1e-12)).T
