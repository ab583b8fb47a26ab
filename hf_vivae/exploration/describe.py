"""Description of a corpus in numbers and figures: clips, lengths, labels, and what trimming would cut.

The numbers are written to `exploration.json`; `format_exploration` prints them.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..audio import inspect, load
from ..corpus.schema import INTENSITIES, Corpus
from ..files import make_folder, write_json
from ..validation import UserError, did_you_mean
from .figures import FIGURES, Example, save_figures
from .trimming import FIGURES as TRIMMING_FIGURES
from .trimming import Cuts, measure_cuts, save_trimming_figures, trim_statistics

UNKNOWN = "(none)"  # the group of clips without a known speaker or intensity
GROUPS = {"emotion": "labels", "speaker": "speakers", "intensity": "intensities"}  # columns, and their plurals
BINS = 16  # of the paper's Figure 1


@dataclass(frozen=True)
class CorpusClips:
    """Lengths and labels of a corpus, an entry for each clip in the corpus's order.

    Attributes:
        name: name of the corpus.
        label_names: all names of the emotion column, with and without clips.
        files: names as in the column `file`.
        samples: `(clips,)`, samples per channel.
        sampling_rates: `(clips,)`, in Hz.
        groups: names of each clip's emotion, speaker and intensity; the last two only if any clip has one.
    """

    name: str
    label_names: tuple[str, ...]
    files: tuple[str, ...]
    samples: np.ndarray
    sampling_rates: np.ndarray
    groups: dict[str, tuple[str, ...]]

    @property
    def seconds(self) -> np.ndarray:
        """Lengths in seconds, `(clips,)`."""
        return self.samples / self.sampling_rates

    def members(self, by: str) -> dict[str, np.ndarray]:
        """Return the row indices of the clips of each emotion, speaker or intensity; intensities from low to peak."""
        names = np.asarray(self.groups[by])
        order = {name: rank for rank, name in enumerate(INTENSITIES if by == "intensity" else ())}
        present = sorted(set(names.tolist()), key=lambda name: (name == UNKNOWN, order.get(name, 0), name))
        return {name: np.flatnonzero(names == name) for name in present}


def explore(
    corpus: Corpus, folder: Path, clip: str | None = None, trim: dict[str, float] | None = None
) -> tuple[dict[str, Any], dict[str, Path]]:
    """Write `exploration.json` and the figures, and return the numbers and the path of each figure.

    The paths have the keys of `figures.FIGURES`, and with `trim` those of `trimming.FIGURES`, which contain the
    captions. If no clip has a speaker or an intensity, its figure is left out, and "notes" contains a sentence on it.

    Args:
        corpus: corpus of any source.
        folder: output folder; figures of an earlier exploration are replaced.
        clip: name of the example clip as in the column `file`; by default the clip whose length is nearest the
            median length (the first such clip in the corpus's order).
        trim: settings from `TrimArguments.trim`; the effect of such trimming is described under "trimming" and in two
            more figures.

    Raises:
        UserError: for a clip that is not in the corpus, and for a folder that cannot be written to.
    """
    clips = read_clips(corpus)
    row = _find(clips, clip)
    make_folder(folder)
    example = Example(clips.name, clips.files[row], *load(corpus.dataset[row]["audio"], name=clips.files[row]))
    numbers = describe(clips) | {
        "example": {
            "file": example.file,
            "chosen": "its length is nearest the median" if clip is None else "it was asked for",
            "samples": int(clips.samples[row]),
            "seconds": float(clips.seconds[row]),
            "sampling_rate": example.sampling_rate,
        },
        "problems": list(corpus.problems),
    }
    if corpus.label_map:
        numbers["notes"].append(f"labels {corpus.label_map.text}")
    for key in (*FIGURES, *TRIMMING_FIGURES):
        (folder / f"{key}.png").unlink(missing_ok=True)
    seconds = {
        by: {name: clips.seconds[rows] for name, rows in clips.members(by).items()}
        for by in ("speaker", "intensity")
        if by in clips.groups
    }
    paths = save_figures(folder, numbers, example, seconds)
    if trim:
        cuts = measure_cuts(corpus.dataset, trim)
        numbers["trimming"] = describe_trimming(clips, cuts, trim)
        paths |= save_trimming_figures(folder, corpus, cuts, trim)
    write_json(folder / "exploration.json", numbers)
    return numbers, paths


def read_clips(corpus: Corpus) -> CorpusClips:
    """Read the lengths and labels of all clips of a corpus."""
    dataset = corpus.dataset
    files, names = tuple(dataset["file"]), dataset.features["emotion"].names
    infos = [inspect(source, name) for source, name in zip(dataset["audio"], files, strict=True)]
    intensities = [None if index is None else INTENSITIES[index] for index in dataset["intensity"]]
    columns = {"speaker": list(dataset["speaker"]), "intensity": intensities}
    groups = {by: tuple(name or UNKNOWN for name in column) for by, column in columns.items() if any(column)}
    return CorpusClips(
        name=corpus.name,
        label_names=tuple(names),
        files=files,
        samples=np.array([info.samples for info in infos]),
        sampling_rates=np.array([info.sampling_rate for info in infos]),
        groups={"emotion": tuple(names[index] for index in dataset["emotion"]), **groups},
    )


def describe(clips: CorpusClips) -> dict[str, Any]:
    """Return all numbers of a corpus, ready for JSON.

    `lengths` and `by_emotion`, `by_speaker`, `by_intensity` contain `statistics` in samples and in seconds. The
    `histogram` is of samples, or of seconds where the sampling rates differ. `majority` and `chance` are the
    accuracies of always predicting the most frequent label, and of predicting all labels equally often.
    """
    emotions = np.asarray(clips.groups["emotion"])
    counts = {name: int((emotions == name).sum()) for name in clips.label_names}
    shares = {name: {"count": count, "share": count / len(clips.files)} for name, count in counts.items()}
    majority = max(counts, key=counts.__getitem__)
    crossed = {f"emotion_by_{by}": None for by in ("speaker", "intensity")}
    for by in clips.groups.keys() - {"emotion"}:
        members = clips.members(by)
        crossed[f"emotion_by_{by}"] = {
            name: {group: int((emotions[rows] == name).sum()) for group, rows in members.items()}
            for name in clips.label_names
        }
    rates = Counter(clips.sampling_rates.tolist())
    unit = "samples" if len(rates) == 1 else "seconds"
    histogram, edges = np.histogram(getattr(clips, unit), bins=BINS)
    return {
        "corpus": clips.name,
        "clips": len(clips.files),
        "sampling_rates": {str(rate): count for rate, count in sorted(rates.items())},
        "lengths": _lengths(clips, np.arange(len(clips.files))),
        "histogram": {"unit": unit, "edges": edges.tolist(), "counts": histogram.tolist()},
        "labels": shares,
        "majority": {"label": majority, "share": shares[majority]["share"]},
        "chance": 1 / len(shares),
        **_by_group(clips, lambda rows: _lengths(clips, rows)),
        **crossed,
        "notes": _notes(clips),
    }


def describe_trimming(clips: CorpusClips, cuts: Cuts, trim: dict[str, float]) -> dict[str, Any]:
    """Return the settings and `trim_statistics` of all clips, and of each group in `by_emotion` and so on.

    Args:
        clips: clips of the corpus.
        cuts: cuts of the same clips in the same order.
        trim: settings that the cuts were measured with.
    """
    return {**trim, **trim_statistics(cuts), **_by_group(clips, lambda rows: trim_statistics(cuts.select(rows)))}


def statistics(values: np.ndarray) -> dict[str, float]:
    """Return count, extremes, quartiles, mean and standard deviation (divided by the count) of some values.

    Args:
        values: `(clips,)`, at least one.
    """
    lower, median, upper = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
    return {
        "count": len(values),
        "min": values.min().item(),
        "lower_quartile": lower,
        "median": median,
        "upper_quartile": upper,
        "max": values.max().item(),
        "mean": values.mean().item(),
        "std": values.std().item(),
    }


def format_exploration(numbers: dict[str, Any]) -> str:
    """Format the numbers of `explore` for a terminal; the shares are printed together with the name of the corpus."""
    name, example = numbers["corpus"], numbers["example"]
    rates = ", ".join(f"{int(rate):,}" for rate in numbers["sampling_rates"])
    groups = ", ".join(
        f"{len((numbers[f'by_{by}'] or {}).keys() - {UNKNOWN})} {plural}" for by, plural in GROUPS.items()
    )
    width = max(len("median label"), *map(len, numbers["labels"]))
    lines = [
        f"{numbers['clips']:,} {name} clips at {rates} Hz: {groups}",
        "",
        f"{'':{width}}{'samples':>10}{'seconds':>10}",
    ]
    for key in ("min", "median", "mean", "max", "std"):
        samples, seconds = (numbers["lengths"][unit][key] for unit in ("samples", "seconds"))
        lines.append(f"{key:{width}}{samples:10,.0f}{seconds:10.3f}")
    lines += ["", f"{'':{width}}{'clips':>10}{'share':>10}"]
    lines += [
        f"{label:{width}}{entry['count']:10,}{entry['share']:10.1%}" for label, entry in numbers["labels"].items()
    ]
    majority = numbers["majority"]
    lines += [
        f"always {majority['label']} is right for {majority['share']:.1%} of the {name} clips, "
        f"chance for {numbers['chance']:.1%}",
        "",
        f"example: {example['file']}, {example['seconds']:.3f} s; {example['chosen']}",
        *(f"note: {note}" for note in numbers["notes"]),
        *(format_trimming(numbers["trimming"]) if "trimming" in numbers else ()),
    ]
    return "\n".join(lines)


def format_trimming(numbers: dict[str, Any]) -> list[str]:
    """Format the numbers of `describe_trimming` for a terminal, as lines."""
    longest = numbers["longest_cut"]
    width = max(map(len, numbers["by_emotion"]))
    before, after = numbers["seconds_before"], numbers["seconds_after"]
    return [
        "",
        f"trimmed {numbers['trim_db']:g} dB below the loudest, margin {numbers['trim_margin']:g} s: "
        f"{numbers['clips_cut']:,} of {numbers['clips']:,} clips are cut, "
        f"{before - after:,.1f} of {before:,.1f} s ({numbers['share_cut']:.1%})",
        f"longest cut: {longest['seconds']:.3f} s of {longest['file']}; "
        f"shortest clip that is left: {numbers['shortest_left']:.3f} s",
        f"{'':{width}}{'clips cut':>12}{'share cut':>12}{'mean start':>12}{'mean end':>12}",
        *(
            f"{label:{width}}{entry['clips_cut']:12,}{entry['share_cut']:12.1%}"
            f"{entry['mean_start']:10.3f} s{entry['mean_end']:10.3f} s"
            for label, entry in numbers["by_emotion"].items()
        ),
    ]


def _find(clips: CorpusClips, name: str | None) -> int:
    if name is None:
        return int(np.argmin(np.abs(clips.seconds - np.median(clips.seconds))))
    if name not in clips.files:
        raise UserError(
            f"expected a clip of the corpus as the example, found {name!r}{did_you_mean(name, clips.files)}; "
            "give a name of the column file."
        )
    return clips.files.index(name)


def _lengths(clips: CorpusClips, rows: np.ndarray) -> dict[str, dict[str, float]]:
    return {"samples": statistics(clips.samples[rows]), "seconds": statistics(clips.seconds[rows])}


def _by_group(clips: CorpusClips, measure: Callable[[np.ndarray], Any]) -> dict[str, dict[str, Any] | None]:
    """Return the measure of the rows of each group, by emotion, speaker and intensity; None if all are unknown."""
    return {
        f"by_{by}": {name: measure(rows) for name, rows in clips.members(by).items()} if by in clips.groups else None
        for by in GROUPS
    }


def _notes(clips: CorpusClips) -> list[str]:
    notes = []
    for by in ("speaker", "intensity"):
        if by not in clips.groups:
            notes.append(f"no clip has a known {by}, so there is no by_{by}.png")
        elif unknown := clips.groups[by].count(UNKNOWN):
            notes.append(f"{unknown} of {len(clips.files)} clips have no known {by} and form the group {UNKNOWN}")
    if (rates := len(set(clips.sampling_rates.tolist()))) > 1:
        notes.append(f"the clips have {rates} sampling rates, so the histogram counts seconds and not samples")
    empty = [name for name in clips.label_names if name not in clips.groups["emotion"]]
    if empty:
        notes.append(f"no clip has the label {', '.join(empty)}")
    return notes
