"""Anybody's labelled clips: one folder per class, or a metadata file with a label for each file."""

from __future__ import annotations

import dataclasses
import logging
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..audio import BadAudio, inspect, load
from ..text import readable
from ..validation import UserError
from .listing import Listing
from .metadata import NO_LABEL, NOT_LISTED, OUTSIDE, TWICE, Clip, metadata_file, read_metadata
from .schema import (
    BAD_AUDIO,
    ON_BAD_AUDIO,
    Corpus,
    CorpusError,
    Problems,
    build_dataset,
    check_choice,
    first_names,
)

if TYPE_CHECKING:
    from datasets import Dataset
    from regex import Pattern

# What lies beside clips and is none, in lower case: suffixes, and names that have none. Any other file counts as a
# clip, so that sound in a format that nobody thought of is read or named as unreadable, not passed over.
NOT_CLIPS = frozenset({
    ".txt", ".md", ".rst", ".pdf", ".doc", ".docx", ".odt", ".rtf", ".html", ".htm", ".log",
    ".csv", ".tsv", ".xls", ".xlsx", ".ods", ".json", ".jsonl", ".parquet",
    ".xml", ".yaml", ".yml", ".toml", ".cfg", ".ini", ".db",
    ".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".svg",
    ".lab", ".textgrid", ".eaf", ".trs", ".rttm", ".srt", ".vtt", ".pkf", ".asd", ".reapeaks",
    ".npy", ".npz", ".mat", ".h5", ".hdf5", ".pkl", ".pt", ".arff", ".py", ".ipynb", ".m", ".r", ".sh",
    ".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".md5", ".sha1", ".sha256", ".bak", ".tmp",
    "readme", "license", "licence", "copying",
})  # fmt: skip

logger = logging.getLogger(__name__)


def load_folder(path: str | Path, speaker_pattern: str | None = None, on_bad_audio: str = "error") -> Dataset:
    """`Dataset` of `read_folder`; what was left out goes to the log as one warning."""
    corpus = read_folder(path, speaker_pattern, on_bad_audio)
    if corpus.problems:
        logger.warning("%s, %d problems: %s.", path, len(corpus.problems), first_names(corpus.problems))
    return corpus.dataset


def read_folder(path: str | Path, speaker_pattern: str | None = None, on_bad_audio: str = "error") -> Corpus:
    """Clips of a folder, of any format of libsndfile and any rate, in the order of their paths.

    With `metadata.csv`, `metadata.jsonl` or `metadata.parquet` in the folder, its rows are the clips: columns
    `file` (or `file_name`) and `label` (or `emotion`), and where known `speaker`, `intensity`, `item`. Else each
    subfolder is a class, and every file below it is a clip of that class, except hidden files and those of
    `NOT_CLIPS` (texts, tables, pictures, annotations, archives). Labels become the names of the emotion column,
    sorted. Names and labels are in Unicode's NFC, whichever form they have on the disk. Nothing outside the folder is
    read: links may lead to other places in it, and to the blobs beside a snapshot in the Hub's cache.

    Args:
        path: the folder.
        speaker_pattern: regular expression that is searched in each file's name, without its folders; its one
            group, or its group named `speaker`, is the speaker.
        on_bad_audio: "skip" leaves out clips whose sound cannot be used, and lists them in `Corpus.problems`, where
            clips that the metadata file does not name are listed, too.

    Raises:
        CorpusError: where files or rows are not usable; its `problems` names all of them.
        ValueError: where there is no such folder, no clip or only one class, or the pattern has no one group or is too
            slow.
    """
    check_choice("--on_bad_audio", on_bad_audio, ON_BAD_AUDIO)
    root = Path(path)
    problems = Problems()
    listing = Listing(root, may_be_clip)
    metadata = metadata_file(root)
    clips = read_metadata(metadata, listing, problems) if metadata else _from_classes(listing, problems)
    problems.note(
        "with a name that is not UTF-8", [clip.file for clip in clips if readable(str(clip.path)) != str(clip.path)]
    )
    if speaker_pattern is not None:
        clips = _with_speakers(clips, speaker_pattern, problems)
    clips = sorted(clips, key=lambda clip: clip.file)
    rows = [row for clip in clips if (row := _row(clip, problems))]
    if problems.keys() - {NOT_LISTED} - ({BAD_AUDIO} if on_bad_audio == "skip" else set()):
        raise _error(root, problems)
    rates = {row.pop("sampling_rate") for row in rows}
    rate = rates.pop() if len(rates) == 1 else None
    return Corpus("folder", build_dataset(rows, _labels(root, rows), sampling_rate=rate), problems.lines())


def _from_classes(listing: Listing, problems: Problems) -> list[Clip]:
    paths = [(name, path) for name, paths in listing.paths.items() for path in paths]
    outside = {path for _, path in paths if listing.leads_out(path)}
    unlabelled = [name for name, path in paths if "/" not in name and path not in outside]
    problems.note("outside the class folders", unlabelled)
    problems.note(OUTSIDE, dict.fromkeys(_link_outside(listing, path) for path in sorted(outside)))
    twice = [name for name, places in listing.paths.items() if len(places) > 1]
    problems.note(TWICE, [f"{name}, in two Unicode forms" for name in twice])
    return [Clip(name, path, name.partition("/")[0]) for name, path in paths if "/" in name and path not in outside]


def _link_outside(listing: Listing, path: Path) -> str:
    """The first link on the way to a file outside, and where to."""
    steps = (*reversed(path.relative_to(listing.root).parents), path.relative_to(listing.root))
    step = next(step for step in steps if listing.leads_out(listing.root / step))
    return readable(f"{step}, a link to {listing.leads_out(listing.root / step)}")


def may_be_clip(file: Path) -> bool:
    """Whether a file may hold sound, by its name."""
    return (file.suffix or file.name).lower() not in NOT_CLIPS


def _with_speakers(clips: list[Clip], pattern: str, problems: Problems) -> list[Clip]:
    expression, group = _compile(pattern)
    if any(clip.speaker for clip in clips):
        raise UserError(
            "expected speakers from the metadata file or from --speaker_pattern, found both; leave one of them out."
        )
    speakers = _search(expression, group, [clip.file for clip in clips])
    unknown = [clip.file for clip, speaker in zip(clips, speakers, strict=True) if not speaker]
    problems.note(f"without a speaker by {pattern!r}", unknown)
    return [dataclasses.replace(clip, speaker=speaker) for clip, speaker in zip(clips, speakers, strict=True)]


def _search(expression: Pattern[str], group: int | str, files: list[str]) -> list[str | None]:
    """The group in the name of each file, within the time of a second and a millisecond for each."""
    speakers: list[str | None] = []
    end = time.process_time() + 1.0 + 1e-3 * len(files)  # the clock of `timeout`
    for file in files:
        try:
            match = expression.search(Path(file).name, timeout=max(end - time.process_time(), 1e-3))
        except TimeoutError as error:
            raise UserError(
                f"expected a quick regular expression in --speaker_pattern, found that {expression.pattern!r} takes "
                f"more than a second at {file}; write it without a repetition inside a repetition."
            ) from error
        speakers.append(match[group] if match else None)
    return speakers


def _compile(pattern: str) -> tuple[Pattern[str], int | str]:
    import regex  # reads what `re` does, but its searches can be ended

    remedy = "write for example '^([^_]+)_' for names that begin with the speaker and an underscore."
    try:
        re.compile(pattern)
        expression = regex.compile(pattern)
    except (re.error, regex.error) as error:
        raise UserError(
            f"expected a regular expression in --speaker_pattern, found {pattern!r} ({error}); {remedy}"
        ) from error
    if "speaker" in expression.groupindex:
        return expression, "speaker"
    if expression.groups != 1:
        raise UserError(
            "expected one group, or a group named speaker, in --speaker_pattern, "
            f"found {expression.groups} groups in {pattern!r}; {remedy}"
        )
    return expression, 1


def _row(clip: Clip, problems: Problems) -> dict[str, Any] | None:
    path = clip.path.absolute()
    try:
        info = inspect(path, clip.file)
        load(path, name=clip.file)  # damage and NaN show only when the sound is decoded
    except BadAudio as error:
        problems.note(BAD_AUDIO, [f"{clip.file}: expected {error.expected}, found {error.found}"])
        return None
    return {
        "audio": {"bytes": None, "path": str(path)},
        "file": clip.file,
        "speaker": clip.speaker,
        "emotion": clip.label,
        "intensity": clip.intensity,
        "item": clip.item or Path(clip.file).stem,
        "duration": info.duration,
        "sampling_rate": info.sampling_rate,
    }


def _error(root: Path, problems: Problems) -> CorpusError:
    remedy = "mend them or take them out"
    if OUTSIDE in problems:
        remedy = "copy what lies elsewhere into the folder, " + remedy
    if NO_LABEL in problems:
        remedy = "give a label to each clip that has none, " + remedy
    if BAD_AUDIO in problems:
        remedy += ", or leave out those that cannot be read with --on_bad_audio skip"
    return CorpusError(f"expected only usable clips in {root}, found {problems}; {remedy}.", problems.lines())


def _labels(root: Path, rows: list[dict[str, Any]]) -> list[str]:
    labels = sorted({row["emotion"] for row in rows})
    if len(labels) < 2:
        found = f"only {labels[0]}" if labels else "no clips"
        raise UserError(
            f"expected clips of at least two classes in {root} (one folder per class, or a metadata file "
            f"with the columns file and label), found {found}; correct --data_dir."
        )
    return labels
