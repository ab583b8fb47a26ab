"""Anybody's labelled clips: one folder per class, or a metadata file with a label for each file."""

from __future__ import annotations

import csv
import json
import logging
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..audio import BadAudio, inspect, load
from .schema import (
    BAD_AUDIO,
    INTENSITIES,
    ON_BAD_AUDIO,
    Corpus,
    CorpusError,
    Problems,
    build_dataset,
    check_choice,
    first_names,
    walk_files,
)

if TYPE_CHECKING:
    from datasets import Dataset

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif", ".au", ".opus", ".w64", ".caf"})

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Clip:
    file: str  # path below the root, with slashes
    label: str
    speaker: str | None = None
    intensity: str | None = None
    item: str | None = None


def load_folder(path: str | Path, speaker_pattern: str | None = None, on_bad_audio: str = "error") -> Dataset:
    """`Dataset` of `read_folder`; what was left out goes to the log as one warning."""
    corpus = read_folder(path, speaker_pattern, on_bad_audio)
    if corpus.problems:
        logger.warning("%s, %d problems: %s.", path, len(corpus.problems), first_names(corpus.problems))
    return corpus.dataset


def read_folder(path: str | Path, speaker_pattern: str | None = None, on_bad_audio: str = "error") -> Corpus:
    """Clips of a folder, of any format of libsndfile and any rate, in the order of their paths.

    With `metadata.csv`, `metadata.jsonl` or `metadata.parquet` in the folder, its rows are the clips: columns
    `file` (or `file_name`) and `label` (or `emotion`), and where known `speaker`, `intensity`, `item`. Else
    each subfolder is a class, and all audio below it belongs to that class. Labels become the names of the
    emotion column, sorted.

    Args:
        path: the folder.
        speaker_pattern: regular expression that is searched in each file's name; its one group, or its group
            named `speaker`, is the speaker.
        on_bad_audio: "skip" leaves out clips whose sound cannot be used and lists them in `Corpus.problems`.

    Raises:
        CorpusError: where files or rows are not usable; its `problems` names all of them.
        ValueError: where there is no such folder, no clip or only one class, or the pattern has no single
            group.
    """
    check_choice("--on_bad_audio", on_bad_audio, ON_BAD_AUDIO)
    root = Path(path)
    if not root.is_dir():
        raise ValueError(f"expected a folder of labelled clips at {root}, found none; correct --data_dir.")
    problems = Problems()
    metadata = _metadata_file(root)
    clips = _from_metadata(metadata, problems) if metadata else _from_classes(root, problems)
    if speaker_pattern is not None:
        clips = _with_speakers(clips, speaker_pattern, problems)
    rows = [row for clip in sorted(clips, key=lambda clip: clip.file) if (row := _row(root, clip, problems))]
    if problems.keys() - ({BAD_AUDIO} if on_bad_audio == "skip" else set()):
        raise CorpusError(
            f"expected only usable clips in {root}, found {problems}; mend them or take them out"
            + (
                ", or leave out those that cannot be read with --on_bad_audio skip."
                if BAD_AUDIO in problems
                else "."
            ),
            problems.lines(),
        )
    labels = _labels(root, rows)
    return Corpus("folder", build_dataset(rows, labels, sampling_rate=None), problems.lines())


def _metadata_file(root: Path) -> Path | None:
    found = [root / name for name in METADATA if (root / name).is_file()]
    if len(found) > 1:
        raise ValueError(
            f"expected one metadata file in {root}, found {' and '.join(file.name for file in found)}; "
            "keep one of them."
        )
    return found[0] if found else None


def _from_classes(root: Path, problems: Problems) -> list[_Clip]:
    files = [file.relative_to(root) for file in walk_files(root) if file.suffix.lower() in SUFFIXES]
    problems.note("outside the class folders", [file.name for file in files if len(file.parts) == 1])
    return [_Clip(file.as_posix(), file.parts[0]) for file in files if len(file.parts) > 1]


def _from_metadata(metadata: Path, problems: Problems) -> list[_Clip]:
    rows = [_text(row) for row in _READERS[metadata.suffix](metadata)]
    file_column = _column(metadata, rows, "file", "file_name")
    label_column = _column(metadata, rows, "label", "emotion")
    clips = [
        _Clip(
            Path(row.get(file_column) or "").as_posix(),
            row.get(label_column) or "",
            row.get("speaker"),
            row.get("intensity"),
            row.get("item"),
        )
        for row in rows
    ]
    counts = Counter(clip.file for clip in clips)
    problems.note("named twice", [file for file, count in counts.items() if count > 1])
    problems.note("without a label", [clip.file for clip in clips if not clip.label])
    problems.note("absent", [clip.file for clip in clips if not (metadata.parent / clip.file).is_file()])
    problems.note(
        f"with an intensity other than {', '.join(INTENSITIES)}",
        [f"{clip.file}: {clip.intensity}" for clip in clips if clip.intensity not in (None, *INTENSITIES)],
    )
    return [clip for clip in clips if (metadata.parent / clip.file).is_file()]


def _read_csv(metadata: Path) -> list[dict[str, Any]]:
    with metadata.open(newline="", encoding="utf-8-sig") as lines:
        return list(csv.DictReader(lines))


def _read_jsonl(metadata: Path) -> list[dict[str, Any]]:
    try:
        rows = [json.loads(line) for line in metadata.read_text("utf-8-sig").splitlines() if line.strip()]
    except json.JSONDecodeError as error:
        raise ValueError(
            f"expected one JSON object per line in {metadata}, found: {error}; mend that line."
        ) from error
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError(
            f"expected one JSON object per line in {metadata}, found other values; mend those lines."
        )
    return rows


def _read_parquet(metadata: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet

    return pyarrow.parquet.read_table(metadata).to_pylist()


_READERS: dict[str, Callable[[Path], list[dict[str, Any]]]] = {
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}


def _text(row: dict[str, Any]) -> dict[str, str | None]:
    return {
        str(key): None if value is None or not str(value).strip() else str(value).strip()
        for key, value in row.items()
    }


def _column(metadata: Path, rows: list[dict[str, str | None]], *names: str) -> str:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    present = [name for name in names if name in columns]
    if len(present) != 1:
        found = " and ".join(present) if present else ", ".join(columns) or "no rows"
        raise ValueError(
            f"expected one column {' or '.join(names)} in {metadata}, found {found}; "
            f"name the column {names[0]}."
        )
    return present[0]


def _with_speakers(clips: list[_Clip], pattern: str, problems: Problems) -> list[_Clip]:
    expression, group = _compile(pattern)
    if any(clip.speaker for clip in clips):
        raise ValueError(
            "expected speakers from the metadata file or from --speaker_pattern, found both; "
            "leave one of them out."
        )
    found = {clip.file: expression.search(Path(clip.file).name) for clip in clips}
    speakers = {file: match[group] for file, match in found.items() if match and match[group]}
    problems.note(f"without a speaker by {pattern!r}", [file for file in found if file not in speakers])
    return [
        _Clip(clip.file, clip.label, speakers.get(clip.file), clip.intensity, clip.item) for clip in clips
    ]


def _compile(pattern: str) -> tuple[re.Pattern[str], int | str]:
    remedy = "write for example '^([^_]+)_' for names that begin with the speaker and an underscore."
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ValueError(
            f"expected a regular expression in --speaker_pattern, found {pattern!r} ({error}); {remedy}"
        ) from error
    if "speaker" not in expression.groupindex and expression.groups != 1:
        raise ValueError(
            "expected one group, or a group named speaker, in --speaker_pattern, "
            f"found {expression.groups} groups in {pattern!r}; {remedy}"
        )
    return expression, "speaker" if "speaker" in expression.groupindex else 1


def _row(root: Path, clip: _Clip, problems: Problems) -> dict[str, Any] | None:
    path = (root / clip.file).absolute()
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
        "item": clip.item or path.stem,
        "duration": info.duration,
    }


def _labels(root: Path, rows: list[dict[str, Any]]) -> list[str]:
    labels = sorted({row["emotion"] for row in rows})
    if len(labels) < 2:
        found = f"only {labels[0]}" if labels else "no clips"
        raise ValueError(
            f"expected clips of at least two classes in {root} (one folder per class, or a metadata file "
            f"with the columns file and label), found {found}; correct --data_dir."
        )
    return labels
