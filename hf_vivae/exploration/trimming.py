"""Effect of trimming on a corpus: cuts, statistics and figures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
import numpy as np

from .. import audio
from ..audio import load
from ..corpus.schema import Corpus
from ..models.silence import frame_energies, frame_length, non_silent_range
from ..reporting.plots import BLACK, BLUE, VERMILION, blank_figure
from .figures import BELOW, Example

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Cuts:
    """What trimming cuts off the clips of a corpus, an entry for each clip in the corpus's order.

    Attributes:
        files: names as in the column `file`.
        seconds: `(clips,)`, lengths before.
        start: `(clips,)`, seconds that are cut off the beginning.
        end: `(clips,)`, seconds that are cut off the end.
    """

    files: tuple[str, ...]
    seconds: np.ndarray
    start: np.ndarray
    end: np.ndarray

    @property
    def total(self) -> np.ndarray:
        """Seconds that are cut off each clip, `(clips,)`."""
        return self.start + self.end

    def select(self, rows: Sequence[int]) -> "Cuts":
        """Those of some clips."""
        rows = np.asarray(rows)
        files = tuple(self.files[row] for row in rows)
        return Cuts(files, self.seconds[rows], self.start[rows], self.end[rows])


def measure_cuts(dataset: datasets.Dataset, trim: dict[str, float]) -> Cuts:
    """What trimming would cut off each clip; all of them are decoded, at their own rates.

    Args:
        dataset: a corpus.
        trim: of `TrimArguments.trim`.
    """
    files = tuple(dataset["file"])
    parts = []
    for source, name in zip(dataset["audio"], files, strict=True):
        samples, rate = audio.load(source, name=name)
        first, last = non_silent_range(samples, rate, **trim)
        parts.append((len(samples) / rate, first / rate, (len(samples) - last) / rate))
    return Cuts(files, *np.array(parts).T)


def trim_statistics(cuts: Cuts) -> dict[str, Any]:
    """How many of some clips are cut and by how much, ready for JSON; seconds, and shares of 1.

    `mean_start` and `mean_end` are over all the clips, also those that are not cut.
    """
    longest = int(cuts.total.argmax())
    before, cut = float(cuts.seconds.sum()), float(cuts.total.sum())
    return {
        "clips": len(cuts.files),
        "clips_cut": int((cuts.total > 0).sum()),
        "seconds_before": before,
        "seconds_after": before - cut,
        "share_cut": cut / before,
        "mean_cut": float(cuts.total.mean()),
        "mean_start": float(cuts.start.mean()),
        "mean_end": float(cuts.end.mean()),
        "longest_cut": {"file": cuts.files[longest], "seconds": float(cuts.total[longest])},
        "shortest_left": float((cuts.seconds - cuts.total).min()),
    }


FIGURES = {
    "trimming_clips": "Clips before and after trimming: what is cut is shaded, and lies below the threshold.",
    "trimming_seconds": "Seconds that trimming cuts off the beginnings and ends of the clips.",
}
BINS = 30
SHORTEST_AXIS = 0.01  # seconds, where nothing is cut
LOWEST = -100.0  # dB, where digital silence is drawn


def save_trimming_figures(
    folder: Path, corpus: Corpus, cuts: Cuts | None, trim: dict[str, float] | None
) -> dict[str, Path]:
    """Save the pictures of trimming as PNG, by the keys of `FIGURES`; none without cuts.

    Args:
        folder: where they go; those of an earlier exploration are gone afterwards.
        corpus: whose clips are shown.
        cuts: of all its clips.
        trim: what they were measured with.
    """
    import matplotlib

    paths = {key: folder / f"{key}.png" for key in FIGURES}
    for path in paths.values():
        path.unlink(missing_ok=True)
    if cuts is None:
        return {}
    shown = {
        what: Example(corpus.name, cuts.files[row], *load(corpus.dataset[row]["audio"], name=cuts.files[row]))
        for what, row in telling_rows(cuts).items()
    }
    with matplotlib.rc_context({"text.parse_math": False}):  # a dollar in a file name is a dollar
        draw_cut_clips(shown, trim).savefig(paths["trimming_clips"])
        draw_cut_seconds(corpus.name, cuts, trim).savefig(paths["trimming_seconds"])
    return paths


def telling_rows(cuts: Cuts) -> dict[str, int]:
    """Rows of the clips with the longest cut, with the median one, and without one (else with the shortest).

    The median is that of the clips that are cut. Where fewer clips differ, there are fewer rows.
    """
    order = np.argsort(cuts.total, kind="stable").tolist()
    uncut = int((cuts.total == 0).sum())
    telling = [("no cut" if uncut else "shortest cut", order[0])]
    if uncut < len(order):
        telling = [("longest cut", order[-1]), ("median cut", order[(uncut + len(order) - 1) // 2]), *telling]
    names: dict[int, str] = {}
    for what, row in telling:
        names.setdefault(row, what)
    return {what: row for row, what in names.items()}


def draw_cut_clips(clips: dict[str, Example], trim: dict[str, float]) -> "Figure":
    """A row for each clip: its waveform, its level in frames of 10 ms with the threshold, and what is left of it.

    Args:
        clips: by what they are examples of.
        trim: of `TrimArguments.trim`.
    """
    figure = blank_figure(13, 0.9 + 2.4 * len(clips))
    rows = figure.subplots(len(clips), 3, squeeze=False)
    for panels, (what, example) in zip(rows, clips.items(), strict=True):
        _draw_clip(panels, what, example, trim)
    handles = {label: handle for handle, label in zip(*rows[0][1].get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), **BELOW)
    return figure


def draw_cut_seconds(corpus: str, cuts: Cuts, trim: dict[str, float]) -> "Figure":
    """Histograms of the seconds cut off beginnings and ends, of those clips that are cut there."""
    figure = blank_figure(9, 3.8)
    edges = np.linspace(0, max(cuts.start.max(), cuts.end.max(), SHORTEST_AXIS), BINS + 1)
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    for axes, side, seconds in zip(panels, ("beginning", "end"), (cuts.start, cuts.end), strict=True):
        cut = seconds[seconds > 0]
        axes.hist(cut, edges, color=BLUE, alpha=0.6, edgecolor="white")
        axes.axvline(seconds.mean(), color=VERMILION, label=f"mean of all clips {seconds.mean():.3f} s")
        axes.yaxis.get_major_locator().set_params(integer=True)
        axes.set(xlabel=f"cut off the {side} (s)", title=f"{side}: {len(cut):,} of {len(seconds):,} clips are cut")
        axes.legend()
    panels[0].set_ylabel("clips")
    figure.suptitle(f"{corpus} clips, trimmed {trim['trim_db']:g} dB below their loudest 10 ms")
    return figure


def _draw_clip(panels: "np.ndarray", what: str, example: Example, trim: dict[str, float]) -> None:
    before, level, after = panels
    samples, rate = example.samples, example.sampling_rate
    length = len(samples) / rate
    first, last = non_silent_range(samples, rate, **trim)
    before.plot(np.arange(len(samples)) / rate, samples, color=BLUE, linewidth=0.5)
    _draw_level(level, samples, rate, trim["trim_db"])
    after.plot(np.arange(last - first) / rate, samples[first:last], color=BLUE, linewidth=0.5)
    for axes in (before, level):
        for left, right in ((0, first), (last, len(samples))):
            if left < right:
                axes.axvspan(left / rate, right / rate, color=VERMILION, alpha=0.25, linewidth=0, label="cut off")
    title = f"{what}: {example.title}, {length:.3f} s before and {(last - first) / rate:.3f} s after"
    before.set_title(title, loc="left", fontsize="medium")
    before.set(xlabel="time (s), before", ylabel="amplitude")
    level.set(xlabel="time (s), before", ylabel="level (dB)")
    after.set(xlabel="time (s), after", ylabel="amplitude", ylim=before.get_ylim())
    for axes in panels:
        axes.set_xlim(0, length)


def _draw_level(axes: "Axes", samples: np.ndarray, rate: int, trim_db: float) -> None:
    energies = frame_energies(samples, rate)
    loudest = max(energies.max(), np.finfo(float).tiny)  # of a clip of zeros
    levels = 10 * np.log10(np.maximum(energies / loudest, 10 ** (LOWEST / 10)))
    edges = np.append(np.arange(len(levels)) * frame_length(rate), len(samples)) / rate
    axes.stairs(levels, edges, baseline=None, color=BLUE, label="level of each 10 ms, the loudest at 0 dB")
    axes.axhline(-trim_db, color=BLACK, linestyle="--", label=f"threshold, {trim_db:g} dB below the loudest")
