"""Figure of a timeline: strips of labels above the recording's spectrogram, in rows of a minute."""

import math
from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from ..annotations.segment import Segment
from ..reporting.plots import (
    BLUE,
    GREEN,
    GREY,
    LIGHT_GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    YELLOW,
    blank_figure,
    escape_dollars,
)  # fmt: skip
from ..validation import printable
from .timeline import Recording, Timeline

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 1200  # of the spectrogram in a row
MOST_ROWS = 60  # a recording of more than an hour has rows of more than a minute
BANDS = 64
FFT = 1024
RANGE_DB = 80
RATE = 16000  # Hz, of the spectrogram
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION, YELLOW)  # all other labels are grey
DARK = (BLUE, GREEN, VERMILION, GREY)  # colours on which text is white
STRIP, SPECTROGRAM, AXIS, GAP = 0.26, 0.8, 0.26, 0.1  # heights within a row, in inches
PROBABILITIES = 1.2  # height of the panel of a recording with one row
LEFT, RIGHT, TOP = 0.95, 0.25, 0.4  # margins, in inches
CHARACTER = 0.064  # inches, of a label's text


def timeline_figure(
    timeline: Timeline,
    segments: Sequence[Segment],
    reference: Sequence[Segment] | None = None,
    width: float = 12,
) -> "Figure":
    """Return the figure of a timeline, in rows of a minute, or of half a minute below 10 inches.

    A row has a strip of the segments, above it one of the reference, and below both the spectrogram. A recording that
    fits in one row also has the probabilities of all labels; of more than seven, the least likely ones are shown as
    one.

    Args:
        timeline: of a recording, which is read again.
        segments: of the timeline, for instance those of `find_segments`.
        reference: segments by hand, for a strip of their own.
        width: in inches.
    """
    seconds, name = timeline.recording.seconds, printable(timeline.recording.path.name)
    row_seconds = max(60 if width >= 10 else 30, math.ceil(seconds / MOST_ROWS))
    rows = max(1, math.ceil(seconds / row_seconds))
    span = seconds if rows == 1 else row_seconds
    strips = {"labels": segments} if reference is None else {"reference": reference, "labels": segments}
    totals = np.nan_to_num(timeline.probabilities).sum(axis=0)
    # strips do not show `unknown`, of which there are no segments
    order = [
        timeline.labels[index]
        for index in np.argsort(-totals, kind="stable")
        if rows == 1 or index != timeline.unknown
    ]
    # labels that only the reference has come last
    order += sorted({segment.label for segment in chain(*strips.values())} - set(order))
    colours = {label: COLOURS[place] if place < len(COLOURS) else GREY for place, label in enumerate(order)}

    legend = order[: len(COLOURS)]
    column = 0.6 + 0.08 * max(len(printable(label)) for label in legend)
    columns = max(1, min(len(legend), int((width - LEFT) / column)))
    bottom = 0.1 + 0.22 * math.ceil((len(legend) + (len(order) > len(legend))) / columns)
    row_height = STRIP * len(strips) + SPECTROGRAM + AXIS + GAP
    panel = PROBABILITIES + GAP if rows == 1 else 0
    height = TOP + rows * row_height + panel + bottom + 0.15
    figure = blank_figure(width, height)
    figure.set_layout_engine("none")  # that of dozens of axes takes longer than all else; sizes are known here
    figure.suptitle(
        f"Labels of {escape_dollars(name)} over time",
        y=1 - 0.2 / height,
        va="center",
        fontsize=11 if width < 10 else 12,
    )

    def add_axes(top: float, size: float, share: float = 1.0) -> "Axes":
        across = (width - LEFT - RIGHT) * share / width
        return figure.add_axes((LEFT / width, 1 - (top + size) / height, across, size / height))

    image = spectrogram(timeline.recording, RATE, rows * COLUMNS if rows > 1 else COLUMNS)
    loudest = image.max()
    for row in range(rows):
        start, end = row * span, min((row + 1) * span, seconds)
        share, top = (end - start) / span, TOP + row * row_height
        for place, (title, shown) in enumerate(strips.items()):
            axes = add_axes(top + place * STRIP, STRIP, share)
            _draw_strip(axes, shown, start, end, colours, (width - LEFT - RIGHT) / span)
            axes.set_ylabel(title, rotation=0, ha="right", va="center", fontsize=8)
        axes = add_axes(top + STRIP * len(strips), SPECTROGRAM, share)
        first, last = (round(image.shape[1] * edge / seconds) for edge in (start, end))
        axes.imshow(
            image[:, first : max(last, first + 1)], origin="lower", aspect="auto", cmap="magma",
            extent=(start, end, 0, RATE / 2000), vmin=loudest - RANGE_DB, vmax=loudest,
        )  # fmt: skip
        axes.set(xlim=(start, end), yticks=(0, 4, 8))
        axes.tick_params(labelsize=8)
        axes.set_ylabel("kHz", fontsize=8)
        axes.xaxis.set_major_formatter(lambda value, _: _clock(value))
        axes.locator_params(axis="x", nbins=max(2, int(12 * share * width / 12)))
    if panel:
        axes.tick_params(labelbottom=False)
        _draw_probabilities(add_axes(TOP + row_height - AXIS + GAP, PROBABILITIES), timeline, order, colours)
    from matplotlib.patches import Patch

    handles = [Patch(color=colours[label], label=escape_dollars(printable(label))) for label in legend]
    if len(order) > len(legend):
        handles.append(Patch(color=GREY, label=f"{len(order) - len(legend)} others"))
    figure.legend(
        handles=handles, loc="lower center", ncols=columns, frameon=False, fontsize=9,
        bbox_to_anchor=(0.5, 0), borderaxespad=0.2,
    )  # fmt: skip
    return figure


def _draw_strip(
    axes: "Axes", segments: Sequence[Segment], start: float, end: float, colours: dict[str, str], inches: float
) -> None:
    """Draw the segments of a row; `inches` is the width of a second. The paler, the lower the score."""
    for segment in segments:
        left, right = max(segment.start, start), min(segment.end, end)
        if right <= left:
            continue
        colour = colours[segment.label]
        opacity = 1.0 if segment.score is None else 0.35 + 0.65 * segment.score
        axes.barh(0, right - left, left=left, height=1, color=colour, alpha=opacity, edgecolor="white", linewidth=0.4)
        text = printable(segment.label)
        if CHARACTER * (len(text) + 1) <= (right - left) * inches:
            axes.text(
                (left + right) / 2, 0, escape_dollars(text), ha="center", va="center", fontsize=7, clip_on=True,
                color="white" if colour in DARK and opacity > 0.6 else "black",
            )  # fmt: skip
    axes.set(xlim=(start, end), ylim=(-0.5, 0.5), xticks=(), yticks=(), facecolor="#F4F4F4")
    for spine in axes.spines.values():
        spine.set_color(LIGHT_GREY)


def _draw_probabilities(axes: "Axes", timeline: Timeline, order: Sequence[str], colours: dict[str, str]) -> None:
    starts = np.arange(len(timeline.levels) + 1) * timeline.hop
    starts[-1] = timeline.recording.seconds
    heights = np.repeat(np.nan_to_num(timeline.probabilities), 2, axis=0)  # steps, not slopes
    indices = [timeline.labels.index(label) for label in order if label in timeline.labels]
    shown, others = indices[: len(COLOURS)], indices[len(COLOURS) :]
    stacked = [*heights[:, shown].T, *([heights[:, others].sum(axis=1)] if others else [])]
    axes.stackplot(
        np.repeat(starts, 2)[1:-1], stacked, linewidth=0,
        colors=[*(colours[timeline.labels[index]] for index in shown), *([GREY] if others else [])],
    )  # fmt: skip
    axes.set(ylim=(0, 1), xlim=(0, timeline.recording.seconds), yticks=(0, 0.5, 1))
    axes.tick_params(labelsize=8)
    axes.set_ylabel("probability", fontsize=8)
    axes.xaxis.set_major_formatter(lambda value, _: _clock(value))


def _clock(seconds: float) -> str:
    minutes, remainder = divmod(seconds, 60)
    return f"{int(minutes)}:{remainder:04.1f}" if remainder % 1 else f"{int(minutes)}:{int(remainder):02}"


def spectrogram(recording: Recording, rate: int, columns: int = COLUMNS) -> np.ndarray:
    """Return power in dB, `(bands, columns)`: equal bands up to half the rate, the loudest frame of each column.

    Args:
        recording: is read.
        rate: in Hz, to which it is resampled.
        columns: at most.
    """
    hop = max(1, round(recording.seconds * rate / columns / 2))
    window = np.hanning(FFT).astype(np.float32)
    powers, margin = [], np.zeros(FFT // 2, np.float32)
    buffer = margin
    for block in chain(recording.blocks(rate), [margin]):
        buffer = np.concatenate((buffer, block))
        if len(buffer) < FFT:
            continue
        frames = np.lib.stride_tricks.sliding_window_view(buffer, FFT)[::hop]
        power = np.abs(np.fft.rfft(frames * window, axis=1))[:, : FFT // 2] ** 2
        powers.append(power.reshape(len(power), BANDS, -1).mean(axis=2))
        buffer = buffer[len(frames) * hop :]
    power = np.concatenate(powers)
    edges = np.linspace(0, len(power), min(columns, len(power)) + 1).astype(int)[:-1]
    return 10 * np.log10(np.maximum(np.maximum.reduceat(power, edges), 1e-12)).T
