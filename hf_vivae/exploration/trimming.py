"""Effect of trimming on a corpus: seconds that are cut off each clip, statistics and figures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..audio import load
from ..corpus.schema import Corpus
from ..models.silence import frame_energies, frame_length, non_silent_range
from ..reporting.plots import BLACK, BLUE, VERMILION, blank_figure
from .figures import BELOW, Example

if TYPE_CHECKING:
    from datasets import Dataset
    from matplotlib.figure import Figure


FIGURES = {
    "trimming_clips": "Clips before and after trimming; shaded parts lie below the threshold and are cut off.",
    "trimming_seconds": "Seconds that trimming cuts off the beginnings and ends of the clips.",
}
BINS = 30
SHORTEST_AXIS = 0.01  # seconds, if no clip is cut
LOWEST = -100.0  # dB, the level at which digital silence is drawn


@dataclass(frozen=True)
class Cuts:
    """Seconds that trimming cuts off each clip of a corpus, in the order of the corpus.

    Attributes:
        files: names as in the column `file`.
        seconds: `(clips,)`, lengths before trimming.
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
        """Return the cuts of some clips."""
        rows = np.asarray(rows)
        files = tuple(self.files[row] for row in rows)
        return Cuts(files, self.seconds[rows], self.start[rows], self.end[rows])


def measure_cuts(dataset: "Dataset", trim: dict[str, float]) -> Cuts:
    """Measure the seconds that trimming would cut off each clip; clips are decoded at their own rates.

    Args:
        dataset: a corpus.
        trim: settings from `TrimArguments.trim`.
    """
    files = tuple(dataset["file"])
    parts = []
    for source, name in zip(dataset["audio"], files, strict=True):
        samples, rate = load(source, name=name)
        first, last = non_silent_range(samples, rate, **trim)
        parts.append((len(samples) / rate, first / rate, (len(samples) - last) / rate))
    return Cuts(files, *np.array(parts).T)


def trim_statistics(cuts: Cuts) -> dict[str, Any]:
    """Return number and size of the cuts, in seconds and as shares between 0 and 1, ready for JSON.

    `mean_start` and `mean_end` are means over all clips, with those that are not cut.
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


def save_trimming_figures(folder: Path, corpus: Corpus, cuts: Cuts, trim: dict[str, float]) -> dict[str, Path]:
    """Save the figures of trimming as PNG, and return their paths by the keys of `FIGURES`.

    Args:
        folder: output folder.
        corpus: corpus of the clips to draw.
        cuts: cuts of all its clips.
        trim: settings that the cuts were measured with.
    """
    import matplotlib

    paths = {key: folder / f"{key}.png" for key in FIGURES}
    examples = {
        kind: Example(corpus.name, cuts.files[row], *load(corpus.dataset[row]["audio"], name=cuts.files[row]))
        for kind, row in example_rows(cuts).items()
    }
    with matplotlib.rc_context({"text.parse_math": False}):  # show a dollar sign in a file name as it is
        draw_cut_clips(examples, trim).savefig(paths["trimming_clips"])
        draw_cut_seconds(corpus.name, cuts, trim).savefig(paths["trimming_seconds"])
    return paths


def example_rows(cuts: Cuts) -> dict[str, int]:
    """Return the rows of the clips with the longest cut, the median cut, and no cut (or else the shortest cut).

    The median is taken over the clips that are cut. A clip that would appear twice is returned once.
    """
    order = np.argsort(cuts.total, kind="stable").tolist()
    uncut = int((cuts.total == 0).sum())
    kinds = [("no cut" if uncut else "shortest cut", order[0])]
    if uncut < len(order):
        kinds = [("longest cut", order[-1]), ("median cut", order[(uncut + len(order) - 1) // 2]), *kinds]
    names: dict[int, str] = {}
    for kind, row in kinds:
        names.setdefault(row, kind)
    return {kind: row for row, kind in names.items()}


def draw_cut_clips(clips: dict[str, Example], trim: dict[str, float]) -> "Figure":
    """Draw for each clip its waveform, its level in frames of 10 ms with the threshold, and the trimmed waveform.

    Args:
        clips: clips by kind, such as "longest cut".
        trim: settings from `TrimArguments.trim`.
    """
    figure = blank_figure(13, 0.9 + 2.4 * len(clips))
    rows = figure.subplots(len(clips), 3, squeeze=False)
    for panels, (kind, example) in zip(rows, clips.items(), strict=True):
        _draw_clip(panels, kind, example, trim)
    handles = {label: handle for handle, label in zip(*rows[0][1].get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), **BELOW)
    return figure


def draw_cut_seconds(corpus: str, cuts: Cuts, trim: dict[str, float]) -> "Figure":
    """Draw histograms of the seconds cut off beginnings and ends, for the clips that are cut there."""
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


def _draw_clip(panels: np.ndarray, kind: str, example: Example, trim: dict[str, float]) -> None:
    before, level, after = panels
    samples, rate = example.samples, example.sampling_rate
    length = len(samples) / rate
    first, last = non_silent_range(samples, rate, **trim)
    before.plot(np.arange(len(samples)) / rate, samples, color=BLUE, linewidth=0.5)
    energies, trim_db = frame_energies(samples, rate), trim["trim_db"]
    loudest = max(energies.max(), np.finfo(float).tiny)  # for a clip of zeros
    levels = 10 * np.log10(np.maximum(energies / loudest, 10 ** (LOWEST / 10)))
    edges = np.append(np.arange(len(levels)) * frame_length(rate), len(samples)) / rate
    level.stairs(levels, edges, baseline=None, color=BLUE, label="level of each 10 ms, the loudest at 0 dB")
    level.axhline(-trim_db, color=BLACK, linestyle="--", label=f"threshold, {trim_db:g} dB below the loudest")
    after.plot(np.arange(last - first) / rate, samples[first:last], color=BLUE, linewidth=0.5)
    for axes in (before, level):
        for left, right in ((0, first), (last, len(samples))):
            if left < right:
                axes.axvspan(left / rate, right / rate, color=VERMILION, alpha=0.25, linewidth=0, label="cut off")
    title = f"{kind}: {example.title}, {length:.3f} s before and {(last - first) / rate:.3f} s after"
    before.set_title(title, loc="left", fontsize="medium")
    before.set(xlabel="time (s), before", ylabel="amplitude")
    level.set(xlabel="time (s), before", ylabel="level (dB)")
    after.set(xlabel="time (s), after", ylabel="amplitude", ylim=before.get_ylim())
    for axes in panels:
        axes.set_xlim(0, length)
