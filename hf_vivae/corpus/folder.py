"""Labelled clips in a folder: one subfolder for each label, or a metadata file."""

from __future__ import annotations

import csv
import dataclasses
import json
import logging
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..audio import BadAudio, inspect
from ..validation import UserError, check_choice, readable
from .decoded import load_clip
from .listing import Listing, normalize
from .schema import BAD_AUDIO, INTENSITIES, ON_BAD_AUDIO, Corpus, CorpusError, Problems, build_dataset, first_names

if TYPE_CHECKING:
    from datasets import Dataset
    from regex import Pattern


NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
NO_LABEL = "without a label"  # the kind of problem of such rows
OUTSIDE = "outside the folder"  # of files that lie elsewhere
TWICE = "named twice"  # of files with several names, or of one name
NOT_LISTED = "in no row of the metadata file"  # of clips that are left out
# How Python and pandas write an absent value; a label of that name would be a class of clips that have none.
ABSENT = frozenset({"", "nan", "NaN", "None", "<NA>"})


@dataclass(frozen=True)
class LabelledFile:
    """A labelled file: its name below the root with slashes, where it lies, and what is known of it."""

    file: str
    path: Path
    label: str
    speaker: str | None = None
    intensity: str | None = None
    item: str | None = None


def metadata_file(root: Path) -> Path | None:
    """The metadata file of a folder, if it has one.

    Raises:
        ValueError: where it has several.
    """
    found = [root / name for name in NAMES if (root / name).is_file()]
    if len(found) > 1:
        raise UserError(
            f"expected one metadata file in {root}, found {' and '.join(file.name for file in found)}; "
            "keep one of them."
        )
    return found[0] if found else None


def read_metadata(metadata: Path, listing: Listing, problems: Problems) -> list[LabelledFile]:
    """Clips of the rows that name a file of the folder; all other rows and files are added to the problems.

    Columns are `file` (or `file_name`), `label` (or `emotion`), and where known `speaker`, `intensity`, `item`.

    Args:
        metadata: the file.
        listing: the files of its folder.
        problems: where rows that cannot be used are added, and files that no row names.

    Raises:
        ValueError: where the file is not such a table.
    """
    rows = [_text(row) for row in _read_rows(metadata)]
    file = _column(metadata, rows, "file", "file_name")
    label = _column(metadata, rows, "label", "emotion")
    problems.note("without a file", [f"row {number}" for number, row in enumerate(rows, 1) if not row.get(file)])
    rows = [(number, row) for number, row in enumerate(rows, 1) if row.get(file)]
    problems.note(NO_LABEL, [f"{row[file]} in row {number}" for number, row in rows if not row.get(label)])
    places = [listing.find(row[file]) for _, row in rows]
    outside = [listing.leads_out(place) for place in places]
    problems.note(OUTSIDE, [row[file] for (_, row), elsewhere in zip(rows, outside, strict=True) if elsewhere])
    clips = [
        LabelledFile(
            file=listing.name_of(row[file]),
            path=place,
            label=normalize(row.get(label) or ""),
            speaker=row.get("speaker") and normalize(row["speaker"]),
            intensity=row.get("intensity"),
            item=row.get("item") and normalize(row["item"]),
        )
        for (_, row), place, elsewhere in zip(rows, places, outside, strict=True)
        if not elsewhere
    ]
    return _check(clips, listing, problems)


def _check(clips: list[LabelledFile], listing: Listing, problems: Problems) -> list[LabelledFile]:
    present = [clip for clip in clips if os.path.isfile(clip.path)]
    names: dict[str, dict[str, int]] = {}  # of each file, with the number of rows that give it
    for clip in present:
        counts = names.setdefault(os.path.realpath(clip.path), {})
        counts[clip.file] = counts.get(clip.file, 0) + 1
    problems.note(TWICE, [", as ".join(counts) for counts in names.values() if sum(counts.values()) > 1])
    problems.note("absent", [clip.file for clip in clips if not os.path.isfile(clip.path)])
    problems.note(
        f"with an intensity other than {', '.join(INTENSITIES)}",
        [f"{clip.file}: {clip.intensity}" for clip in clips if clip.intensity not in (None, *INTENSITIES)],
    )
    files = sorted((name, path) for name, paths in listing.paths.items() for path in paths)
    problems.note(NOT_LISTED, [name for name, path in files if os.path.realpath(path) not in names])
    return present


def _read_rows(metadata: Path) -> list[dict[str, Any]]:
    read = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}[metadata.suffix]
    try:
        return read(metadata)
    except UnicodeDecodeError as error:
        raise UserError(f"expected text in UTF-8 in {metadata}, found {error.reason}; save it anew.") from error
    except OSError as error:  # of a disk, or of pyarrow for damaged pages
        raise UserError(
            f"expected a table that can be read at {metadata}, found {error.strerror or error}; write it anew."
        ) from error


def _read_csv(metadata: Path) -> list[dict[str, Any]]:
    with metadata.open(newline="", encoding="utf-8-sig") as lines:
        try:
            rows = list(csv.DictReader(lines))
        except csv.Error as error:
            raise UserError(f"expected a CSV table at {metadata}, found another file ({error}); mend it.") from error
    for number, row in enumerate(rows, 1):
        if None in row:  # where DictReader keeps the fields that have no column
            raise UserError(f"expected as many fields as columns in {metadata}, found more in row {number}; mend it.")
    return rows


def _read_jsonl(metadata: Path) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(metadata.read_text("utf-8-sig").split("\n"), 1):
        try:
            row = json.loads(line) if line.strip() else None
        except (ValueError, RecursionError):  # no JSON, or numbers and nesting beyond all reason
            row = line
        if isinstance(row, dict):
            rows.append(row)
        elif line.strip():
            raise UserError(
                f"expected one JSON object per line in {metadata}, found {line[:40]!r} in line {number}; mend it."
            )
    return rows


def _read_parquet(metadata: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet

    try:
        return pyarrow.parquet.read_table(metadata).to_pylist()
    except pyarrow.ArrowException as error:
        raise UserError(f"expected a parquet table at {metadata}, found another file; write it anew.") from error


def _text(row: dict[str, Any]) -> dict[str, str | None]:
    # JSON may hold halves of characters, which no table takes
    texts = {key: str(value).strip().encode("utf-8", "backslashreplace").decode() for key, value in row.items()}
    return {key: None if text in ABSENT else text for key, text in texts.items()}


def _column(metadata: Path, rows: list[dict[str, str | None]], *names: str) -> str:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    present = [name for name in names if name in columns]
    if len(present) != 1:
        found = " and ".join(present) or ", ".join(columns) or "no rows"
        raise UserError(
            f"expected one column {' or '.join(names)} in {metadata}, found {found}; name the column {names[0]}."
        )
    return present[0]


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


def _from_classes(listing: Listing, problems: Problems) -> list[LabelledFile]:
    paths = [(name, path) for name, paths in listing.paths.items() for path in paths]
    outside = {path for _, path in paths if listing.leads_out(path)}
    unlabelled = [name for name, path in paths if "/" not in name and path not in outside]
    problems.note("outside the class folders", unlabelled)
    problems.note(OUTSIDE, dict.fromkeys(_link_outside(listing, path) for path in sorted(outside)))
    twice = [name for name, places in listing.paths.items() if len(places) > 1]
    problems.note(TWICE, [f"{name}, in two Unicode forms" for name in twice])
    return [
        LabelledFile(name, path, name.partition("/")[0]) for name, path in paths if "/" in name and path not in outside
    ]


def _link_outside(listing: Listing, path: Path) -> str:
    """The first link on the way to a file outside, and where to."""
    steps = (*reversed(path.relative_to(listing.root).parents), path.relative_to(listing.root))
    step = next(step for step in steps if listing.leads_out(listing.root / step))
    return readable(f"{step}, a link to {listing.leads_out(listing.root / step)}")


def may_be_clip(file: Path) -> bool:
    """Whether a file may hold sound, by its name."""
    return (file.suffix or file.name).lower() not in NOT_CLIPS


def _with_speakers(clips: list[LabelledFile], pattern: str, problems: Problems) -> list[LabelledFile]:
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


def _row(clip: LabelledFile, problems: Problems) -> dict[str, Any] | None:
    path = clip.path.absolute()
    try:
        info = inspect(path, clip.file)
        load_clip(path, name=clip.file)  # damage and NaN show only when the sound is decoded
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
