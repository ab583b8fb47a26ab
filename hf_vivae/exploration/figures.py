"""Figures of a corpus: the exploratory figures of the paper, numbered as there, and clips by speaker and intensity."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..audio import resample
from ..models import LogMelFeatureExtractor, WaveformFeatureExtractor
from ..reporting.plots import BLACK, BLUE, GREY, SKY, VERMILION, blank_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


FIGURES = {
    "figure_1_lengths": "Histogram of the clips' lengths in 16 bins, with mean and median (the paper's Figure 1).",
    "figure_2_waveform": "A clip's waveform, cut or padded with zeros to 44,100 samples (the paper's Figure 2).",
    "figure_4_mel": "Mel spectrogram of the same padded waveform: 64 bands, 690 frames (the paper's Figure 4).",
    "figure_5_labels": "Clips of each label, and the accuracy of guessing (the paper's Figure 5).",
    "figure_6_resampled": "The first second of the same clip as recorded and at 16 kHz (the paper's Figure 6).",
    "by_speaker": "Clips of each label and speaker; lengths by speaker, whiskers up to 1.5 quartile ranges.",
    "by_intensity": "Clips of each label and intensity; lengths by intensity, drawn as by speaker.",
}
MOST_GROUPS = 30  # maximum number of columns with readable numbers
HERTZ = (0, 250, 500, 1000, 2000, 4000, 8000, 16000)
ZOOM_SECONDS = 0.004
AMPLITUDE = "amplitude (full scale = 1)"
RESAMPLED_RATE, RESAMPLED_SAMPLES = 16_000, 16_000  # of the paper's wav2vec2
BELOW = {"loc": "outside lower center", "ncols": 3, "frameon": False}  # a legend that covers nothing


@dataclass(frozen=True)
class Example:
    """A clip: name of its corpus, name of its file, samples `(samples,)`, sampling rate in Hz."""

    corpus: str
    file: str
    samples: np.ndarray
    sampling_rate: int

    @property
    def title(self) -> str:
        """Corpus and file; of a long file name, the end."""
        return f"{self.corpus} clip {self.file if len(self.file) <= 60 else '…' + self.file[-59:]}"


def save_figures(
    folder: Path, numbers: dict[str, Any], example: Example, seconds: dict[str, dict[str, np.ndarray]]
) -> dict[str, Path]:
    """Save the figures of a corpus as PNG, and return their paths by the keys of `FIGURES`.

    Args:
        folder: output folder.
        numbers: numbers of `describe.describe`.
        example: clip to draw.
        seconds: lengths `(clips,)` by speaker and by intensity; a figure is drawn for each of the two that is present.
    """
    import matplotlib

    with matplotlib.rc_context({"text.parse_math": False}):  # show a dollar sign in a name as it is
        figures = {
            "figure_1_lengths": draw_lengths(numbers),
            "figure_2_waveform": draw_waveform(example),
            "figure_4_mel": draw_mel(example),
            "figure_5_labels": draw_labels(numbers),
            "figure_6_resampled": draw_resampled(example),
            **{f"by_{by}": draw_groups(numbers, by, lengths) for by, lengths in seconds.items()},
        }
        paths = {key: folder / f"{key}.png" for key in figures}
        for key, figure in figures.items():
            figure.savefig(paths[key])
    return paths


def draw_lengths(numbers: dict[str, Any]) -> "Figure":
    """Draw a histogram of lengths: in samples with a second axis in seconds, or in seconds if the rates differ."""
    figure, axes = _figure(7, 4.2)
    histogram, unit = numbers["histogram"], numbers["histogram"]["unit"]
    edges = np.array(histogram["edges"])
    axes.bar(edges[:-1], histogram["counts"], np.diff(edges), align="edge", color=BLUE, alpha=0.6, edgecolor="white")
    number = "{:,.0f}" if unit == "samples" else "{:.2f}"
    for name, colour, line in (("mean", VERMILION, "-"), ("median", BLACK, "--")):
        value = numbers["lengths"][unit][name]
        axes.axvline(value, color=colour, linestyle=line, label=f"{name} {number.format(value)} {unit}")
    axes.xaxis.set_major_formatter("{x:,.0f}" if unit == "samples" else "{x:.2f}")
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.set(xlabel=f"length ({unit})", ylabel="clips", title=f"Length of {_clips(numbers)}")
    if unit == "samples":
        rate = int(next(iter(numbers["sampling_rates"])))
        above = axes.secondary_xaxis("top", functions=(lambda x: x / rate, lambda x: x * rate))
        above.set_xlabel(f"length (s at {rate:,} Hz)")
    axes.legend()
    return figure


def draw_waveform(example: Example) -> "Figure":
    """Draw the waveform that the paper's waveform models take, with the zeros of the padding shaded."""
    extractor = WaveformFeatureExtractor()
    waveform, sound = model_input(example, extractor)
    figure, axes = _figure(8, 3.6)
    seconds = np.arange(len(waveform)) / extractor.sampling_rate
    axes.plot(seconds, waveform, color=BLUE, linewidth=0.5)
    padding = (seconds < sound[0]) | (seconds >= sound[1])
    if padding.any():
        across = axes.get_xaxis_transform()
        axes.fill_between(
            seconds, 0, 1, padding, transform=across, color=GREY, alpha=0.4, label="zeros of the padding"
        )
        figure.legend(**BELOW)
    axes.set(xlabel="time (s)", ylabel=AMPLITUDE, title=_model_input_title(example, extractor))
    axes.set_xlim(0, len(waveform) / extractor.sampling_rate)
    return figure


def draw_mel(example: Example) -> "Figure":
    """Draw the spectrogram that the paper's spectrogram models take, on the mel scale."""
    from transformers.audio_utils import hertz_to_mel, mel_to_hertz

    extractor = LogMelFeatureExtractor()
    decibels, sound = model_input(example, extractor)
    figure, axes = _figure(8, 4.2)
    times = np.arange(decibels.shape[-1]) * extractor.hop_length / extractor.sampling_rate
    mesh = axes.pcolormesh(times, mel_centres(extractor), decibels[0], shading="nearest", cmap="magma")
    figure.colorbar(mesh, label="power (dB)")
    axes.set_yscale("function", functions=(lambda hz: hertz_to_mel(hz, "htk"), lambda mel: mel_to_hertz(mel, "htk")))
    bottom, top = axes.get_ylim()
    axes.set_yticks([hertz for hertz in HERTZ if bottom <= hertz <= top])
    axes.yaxis.set_major_formatter("{x:,.0f}")
    edges = [edge for edge in sound if times[0] < edge < times[-1]]
    if edges:
        axes.vlines(edges, bottom, top, color=SKY, linestyle="--", label="edge of the padding")
        figure.legend(**BELOW)
    axes.set(xlabel="time (s)", ylabel="frequency (Hz, mel scale)", title=_model_input_title(example, extractor))
    return figure


def draw_labels(numbers: dict[str, Any]) -> "Figure":
    """Draw the clips of each label with their shares, and mark the most frequent label and an equal share."""
    labels, majority = numbers["labels"], numbers["majority"]
    figure, axes = _figure(7, 1.6 + 0.34 * len(labels))
    rows = range(len(labels))
    bars = axes.barh(rows, [entry["count"] for entry in labels.values()], color=BLUE, alpha=0.75)
    commonest = bars[list(labels).index(majority["label"])]
    commonest.set(facecolor=VERMILION, label=f"always {majority['label']}: {majority['share']:.1%} right")
    chance = numbers["chance"]
    axes.axvline(chance * numbers["clips"], color=BLACK, linestyle="--", label=f"equal shares (chance): {chance:.1%}")
    figure.legend(**BELOW)
    axes.set_yticks(rows, list(labels))
    right = axes.secondary_yaxis("right")
    right.set_yticks(rows, [f"{entry['count']:,} ({entry['share']:.1%})" for entry in labels.values()])
    right.tick_params(length=0)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.invert_yaxis()
    axes.set(xlabel="clips", title=f"Labels of {_clips(numbers)}")
    return figure


def draw_resampled(example: Example) -> "Figure":
    """Draw the clip at 16 kHz and as recorded: the first 16,000 samples, and 4 ms around the loudest of them."""
    resampled = resample(example.samples, example.sampling_rate, RESAMPLED_RATE)[:RESAMPLED_SAMPLES]
    original = example.samples[: math.ceil(RESAMPLED_SAMPLES / RESAMPLED_RATE * example.sampling_rate)]
    middle = max(np.abs(original).argmax() / example.sampling_rate, ZOOM_SECONDS / 2)
    zoom = (middle - ZOOM_SECONDS / 2, middle + ZOOM_SECONDS / 2)
    figure, axes = _figure(8, 5.6, rows=2)
    label = f"{RESAMPLED_RATE:,} Hz, {len(resampled):,} samples"
    _trace(axes, original, example.sampling_rate, GREY, ".", f"original, {example.sampling_rate:,} Hz")
    _trace(axes, resampled, RESAMPLED_RATE, BLUE, "o", label)
    axes[0].axvspan(*zoom, color=VERMILION, alpha=0.4, label="shown below")
    title = f"resampled from {example.sampling_rate:,} Hz to {RESAMPLED_RATE:,} Hz"
    if example.sampling_rate == RESAMPLED_RATE:
        title = f"recorded at {RESAMPLED_RATE:,} Hz: nothing is resampled"
    axes[0].set(title=f"{example.title}\n{title}", xlim=(0, len(original) / example.sampling_rate))
    axes[1].set_xlim(zoom)
    for panel in axes:
        panel.set(xlabel="time (s)", ylabel=AMPLITUDE)
    figure.legend(**BELOW)
    return figure


def draw_groups(numbers: dict[str, Any], by: str, seconds: dict[str, np.ndarray]) -> "Figure":
    """Draw the counts of each label in each group, and box plots of the lengths in each group below them.

    Only the `MOST_GROUPS` groups with most clips are drawn; if there are more, the title states this.

    Args:
        numbers: numbers of `describe.describe`.
        by: speaker or intensity.
        seconds: lengths `(clips,)` of each group.
    """
    most = sorted(seconds, key=lambda name: -len(seconds[name]))[:MOST_GROUPS]
    shown = [name for name in seconds if name in most]
    crossed = numbers[f"emotion_by_{by}"]
    counts = np.array([[row[name] for name in shown] for row in crossed.values()])
    figure, (above, below) = _figure(
        max(6, 2 + 0.42 * len(shown)), 4.2 + 0.3 * len(counts), rows=2, ratios=(0.3 * len(counts), 2.2), sharex=True
    )
    above.imshow(counts, cmap="Blues", aspect="auto", vmin=0, vmax=1.6 * counts.max())  # light enough for black text
    above.set_yticks(range(len(counts)), list(crossed))
    above.tick_params(axis="x", labelbottom=False)
    for (row, column), count in np.ndenumerate(counts):
        above.text(column, row, f"{count}", ha="center", va="center", fontsize=9, color=BLACK if count else GREY)
    below.boxplot([seconds[name] for name in shown], positions=range(len(shown)), widths=0.6, manage_ticks=False,
                  medianprops={"color": VERMILION, "linewidth": 2}, flierprops={"markersize": 3})  # fmt: skip
    names = [f"{name}\n{len(seconds[name])}" for name in shown]
    below.set_xticks(range(len(shown)), names, rotation=90 if max(map(len, shown)) > 8 else 0, fontsize=8)
    below.set(xlabel=f"{by}, and its number of clips", ylabel="length (s)", xlim=(-0.5, len(shown) - 0.5))
    below.set_ylim(bottom=0)
    below.grid(axis="y", alpha=0.3)
    part = f": the {len(shown)} of {len(seconds)} with most clips" if len(shown) < len(seconds) else ""
    above.set_title(f"{_clips(numbers)} by {by}{part}")
    return figure


def model_input(example: Example, extractor: WaveformFeatureExtractor) -> tuple[np.ndarray, tuple[float, float]]:
    """Return the features of the clip, and the start and end of the sound in them without the padding, in seconds."""
    rate = extractor.sampling_rate
    clip = resample(example.samples, example.sampling_rate, rate)
    before = max(0, extractor.num_samples - len(clip)) // 2
    feature = extractor(clip, sampling_rate=rate)[extractor.model_input_names[0]][0]
    return feature, (before / rate, min(before + len(clip), extractor.num_samples) / rate)


def mel_centres(extractor: LogMelFeatureExtractor) -> np.ndarray:
    """Return the centre frequencies of the extractor's bands in Hz, `(num_mel_bins,)`."""
    from transformers.audio_utils import hertz_to_mel, mel_to_hertz

    top = hertz_to_mel(extractor.sampling_rate // 2, "htk")
    return mel_to_hertz(np.linspace(0, top, extractor.num_mel_bins + 2)[1:-1], "htk")


def _trace(axes: Sequence["Axes"], samples: np.ndarray, rate: int, colour: str, marker: str, label: str) -> None:
    seconds = np.arange(len(samples)) / rate
    axes[0].plot(seconds, samples, color=colour, linewidth=0.6)
    axes[1].plot(seconds, samples, color=colour, linewidth=1, marker=marker, markerfacecolor="none", label=label)


def _figure(width: float, height: float, rows: int = 1, ratios: Sequence[float] | None = None, sharex: bool = False):
    figure = blank_figure(width, height)
    return figure, figure.subplots(rows, height_ratios=ratios, sharex=sharex)


def _clips(numbers: dict[str, Any]) -> str:
    return f"{numbers['clips']:,} {numbers['corpus']} clips"


def _model_input_title(example: Example, extractor: WaveformFeatureExtractor) -> str:
    length, size = len(example.samples) / example.sampling_rate, extractor.num_samples / extractor.sampling_rate
    part = f"first {size:.3f} s of {length:.3f} s" if length > size else f"{length:.3f} s, padded to {size:.3f} s"
    rate = extractor.sampling_rate
    resampled = f", resampled from {example.sampling_rate:,} Hz" if rate != example.sampling_rate else ""
    return f"{example.title}\n{part} at {rate:,} Hz{resampled}"
