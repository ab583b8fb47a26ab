"""Description of a corpus in numbers: clips, durations, levels, silence."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..audio import inspect, load
from ..corpus.schema import INTENSITIES, Corpus
from ..files import make_folder, write_json
from ..validation import UserError, did_you_mean
from .figures import Example, save_figures
from .trimming import Cuts, measure_cuts, save_trimming_figures, trim_statistics

UNKNOWN = "(none)"  # the group of clips whose speaker or intensity is not known
GROUPS = {"emotion": "labels", "speaker": "speakers", "intensity": "intensities"}  # columns, and their plurals


@dataclass(frozen=True)
class CorpusClips:
    """Lengths and labels of a corpus, an entry for each clip in the corpus's order.

    Attributes:
        name: of the corpus.
        label_names: all names of the emotion column, also of those without clips.
        samples: `(clips,)`, per channel.
        sampling_rates: `(clips,)`, in Hz.
        groups: names of each clip's emotion, speaker and intensity; the latter two only where they are known.
    """

    name: str
    label_names: tuple[str, ...]
    files: tuple[str, ...]
    samples: np.ndarray
    sampling_rates: np.ndarray
    groups: dict[str, tuple[str, ...]]

    @property
    def seconds(self) -> np.ndarray:
        """Lengths `(clips,)` in seconds."""
        return self.samples / self.sampling_rates

    def members(self, by: str) -> dict[str, np.ndarray]:
        """Row indices of the clips of each emotion, speaker or intensity; intensities from low to peak."""
        names = np.asarray(self.groups[by])
        order = {name: rank for rank, name in enumerate(INTENSITIES if by == "intensity" else ())}
        present = sorted(set(names.tolist()), key=lambda name: (name == UNKNOWN, order.get(name, 0), name))
        return {name: np.flatnonzero(names == name) for name in present}


def read_clips(corpus: Corpus) -> CorpusClips:
    """Lengths and labels of all clips of a corpus."""
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


BINS = 16  # of the report's Figure 1


def explore(
    corpus: Corpus, folder: Path, clip: str | None = None, trim: dict[str, float] | None = None
) -> tuple[dict[str, Any], dict[str, Path]]:
    """Write `exploration.json` and the pictures; the numbers, and the path of each picture drawn.

    The paths have the keys of `exploration_figures.FIGURES`, which holds the captions, and those of
    `trimming_figures.FIGURES` where trimming is asked for. Where no clip has a speaker or an intensity that picture
    is left out, and a sentence under "notes" says so.

    Args:
        corpus: of any source.
        folder: where the files go; pictures of an earlier exploration are replaced.
        clip: name of the example clip as in the column `file`; by default the clip whose length is nearest the
            median length (the first such clip in the corpus's order).
        trim: of `TrimArguments.trim`; what it would cut goes under "trimming" and into pictures of its own.

    Raises:
        ValueError: for a clip that the corpus has not, naming the nearest; and where the folder cannot be written to.
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
    cuts = measure_cuts(corpus.dataset, trim) if trim else None
    if cuts:
        numbers["trimming"] = describe_trimming(clips, cuts, trim)
    write_json(folder / "exploration.json", numbers)
    seconds = {
        by: {name: clips.seconds[rows] for name, rows in clips.members(by).items()}
        for by in ("speaker", "intensity")
        if by in clips.groups
    }
    pictures = save_figures(folder, numbers, example, seconds)
    return numbers, pictures | save_trimming_figures(folder, corpus, cuts, trim)


def describe(clips: CorpusClips) -> dict[str, Any]:
    """All numbers of a corpus, ready for JSON.

    `lengths` and `by_emotion`, `by_speaker`, `by_intensity` hold `statistics` in samples and in seconds; `histogram`
    counts samples, or seconds where the sampling rates differ; `majority` and `chance` are the shares that always
    guessing the commonest label, and guessing each as often, would get right.
    """
    shares = _labels(clips)
    majority = max(shares, key=lambda name: shares[name]["count"])
    by = {
        f"by_{name}": {group: _lengths(clips, rows) for group, rows in clips.members(name).items()}
        if name in clips.groups
        else None
        for name in GROUPS
    }
    crossed = {
        f"emotion_by_{name}": _cross(clips, name) if name in clips.groups else None
        for name in ("speaker", "intensity")
    }
    return {
        "corpus": clips.name,
        "clips": len(clips.files),
        "sampling_rates": _counts(clips.sampling_rates.tolist()),
        "lengths": _lengths(clips, np.arange(len(clips.files))),
        "histogram": _histogram(clips),
        "labels": shares,
        "majority": {"label": majority, "share": shares[majority]["share"]},
        "chance": 1 / len(shares),
        **by,
        **crossed,
        "notes": _notes(clips),
    }


def statistics(values: np.ndarray) -> dict[str, float]:
    """Count, extremes, quartiles, mean and standard deviation (of these values themselves: divided by their count).

    Args:
        values: `(clips,)`, one at least.
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
    """The numbers of `explore` for a terminal; the corpus is named beside its shares."""
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


def _histogram(clips: CorpusClips) -> dict[str, Any]:
    unit = "samples" if len(set(clips.sampling_rates.tolist())) == 1 else "seconds"
    counts, edges = np.histogram(getattr(clips, unit), bins=BINS)
    return {"unit": unit, "edges": edges.tolist(), "counts": counts.tolist()}


def _labels(clips: CorpusClips) -> dict[str, dict[str, float]]:
    counts = Counter(clips.groups["emotion"])
    return {name: {"count": counts[name], "share": counts[name] / len(clips.files)} for name in clips.label_names}


def _cross(clips: CorpusClips, by: str) -> dict[str, dict[str, int]]:
    emotions = np.asarray(clips.groups["emotion"])
    members = clips.members(by)
    return {
        name: {group: int((emotions[rows] == name).sum()) for group, rows in members.items()}
        for name in clips.label_names
    }


def _counts(values: Iterable[int]) -> dict[str, int]:
    return {str(value): count for value, count in sorted(Counter(values).items())}


def _notes(clips: CorpusClips) -> list[str]:
    notes = []
    for by in ("speaker", "intensity"):
        if by not in clips.groups:
            notes.append(f"no clip has a known {by}, so there is no by_{by}.png")
        elif unknown := clips.groups[by].count(UNKNOWN):
            notes.append(f"{unknown} of {len(clips.files)} clips have no known {by} and form the group {UNKNOWN}")
    if len(rates := _counts(clips.sampling_rates.tolist())) > 1:
        notes.append(f"the clips have {len(rates)} sampling rates, so the histogram counts seconds and not samples")
    empty = [name for name in clips.label_names if name not in clips.groups["emotion"]]
    if empty:
        notes.append(f"no clip has the label {', '.join(empty)}")
    return notes


def describe_trimming(clips: CorpusClips, cuts: Cuts, trim: dict[str, float]) -> dict[str, Any]:
    """The settings and `trim_statistics`, those of each group in `by_emotion`, `by_speaker` and `by_intensity`.

    Args:
        clips: of the corpus.
        cuts: of the same clips in the same order.
        trim: what they were measured with.
    """
    by = {
        f"by_{name}": {group: trim_statistics(cuts.select(rows)) for group, rows in clips.members(name).items()}
        if name in clips.groups
        else None
        for name in GROUPS
    }
    return {**trim, **trim_statistics(cuts), **by}


def format_trimming(numbers: dict[str, Any]) -> list[str]:
    """The numbers of `describe_trimming` for a terminal, in lines."""
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
