"""Labelled clips in a folder: one subfolder for each label, or a metadata file (CSV, JSON Lines or Parquet)."""

from __future__ import annotations

import dataclasses
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..audio import BadAudio, ClipInfo
from ..files import read_table
from ..validation import UserError, check_choice, readable
from .checked import check_clip, checked_clips
from .listing import Listing, normalize
from .schema import BAD_AUDIO, INTENSITIES, ON_BAD_AUDIO, Corpus, CorpusError, Problems, build_dataset

if TYPE_CHECKING:
    from datasets import Dataset
    from regex import Pattern


# In lower case: suffixes, and names without one, of files that lie next to clips but hold no sound. Any other file
# counts as a clip, so that a file in a format missing here is read or named as unreadable, never ignored.
NOT_CLIPS = frozenset({
    ".txt", ".md", ".rst", ".pdf", ".doc", ".docx", ".odt", ".rtf", ".html", ".htm", ".log",
    ".csv", ".tsv", ".xls", ".xlsx", ".ods", ".json", ".jsonl", ".parquet",
    ".xml", ".yaml", ".yml", ".toml", ".cfg", ".ini", ".db",
    ".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".svg",
    ".lab", ".textgrid", ".eaf", ".trs", ".rttm", ".srt", ".vtt", ".pkf", ".pfsx", ".asd", ".reapeaks",
    ".npy", ".npz", ".mat", ".h5", ".hdf5", ".pkl", ".pt", ".arff", ".py", ".ipynb", ".m", ".r", ".sh",
    ".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".md5", ".sha1", ".sha256", ".bak", ".tmp",
    "readme", "license", "licence", "copying",
})  # fmt: skip
METADATA_FILES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
# Missing values as Python and pandas write them; as a label, such a text would become a class of unlabelled clips.
ABSENT = frozenset({"", "nan", "NaN", "None", "<NA>"})
# kinds of problems that are noted at several places, or named in a remedy
NO_LABEL = "without a label"
OUTSIDE = "outside the folder"
TWICE = "named twice"
NOT_LISTED = "in no row of the metadata file"


@dataclass(frozen=True)
class LabelledFile:
    """A labelled file: its name below the root with slashes, its path, label, and further columns if known."""

    file: str
    path: Path
    label: str
    speaker: str | None = None
    intensity: str | None = None
    item: str | None = None


def load_folder(path: str | Path, speaker_pattern: str | None = None, on_bad_audio: str = "error") -> Dataset:
    """Return the `Dataset` of `read_folder`, with one warning for clips that were left out."""
    corpus = read_folder(path, speaker_pattern, on_bad_audio)
    corpus.log_problems()
    return corpus.dataset


def read_folder(path: str | Path, speaker_pattern: str | None = None, on_bad_audio: str = "error") -> Corpus:
    """Read the clips of a folder, in any format of libsndfile and at any rate, in the order of their paths.

    If the folder contains `metadata.csv`, `metadata.jsonl` or `metadata.parquet`, each row of it is a clip, with the
    columns `file` (or `file_name`) and `label` (or `emotion`), and if known `speaker`, `intensity` and `item`.
    Otherwise each subfolder is a class, and every file below it is a clip of that class, except hidden files and those
    of `NOT_CLIPS` (texts, tables, pictures, annotations, archives). The sorted labels are the names of the emotion
    column. Names and labels are converted to Unicode's NFC. Nothing outside the folder is read: links may lead to
    other places in it, and to the blobs of a snapshot in the Hub's cache.

    Args:
        path: the folder.
        speaker_pattern: regular expression that is searched in each file's name, without its folders; its only
            group, or its group named `speaker`, is the speaker.
        on_bad_audio: "skip" leaves out clips whose sound cannot be used, and lists them in `Corpus.problems`, together
            with clips that the metadata file does not name.

    Raises:
        CorpusError: for files or rows that cannot be used; its `problems` names all of them.
        UserError: for a missing folder, no clips or only one class, and for a pattern that is too slow or does not
            have exactly one group.
    """
    check_choice("--on_bad_audio", on_bad_audio, ON_BAD_AUDIO)
    root = Path(path)
    problems = Problems()
    listing = Listing(root, may_be_clip)
    tables = [root / name for name in METADATA_FILES if (root / name).is_file()]
    if len(tables) > 1:
        raise UserError(
            f"expected one metadata file in {root}, found {' and '.join(file.name for file in tables)}; "
            "keep one of them."
        )
    clips = _read_metadata(tables[0], listing, problems) if tables else _read_classes(listing, problems)
    if speaker_pattern is not None:
        clips = _add_speakers(clips, speaker_pattern, problems)
    rows = _read_clips(root, clips, problems, on_bad_audio)
    labels = sorted({row["emotion"] for row in rows})
    if len(labels) < 2:
        raise UserError(
            f"expected clips of at least two classes in {root} (one folder per class, or a metadata file "
            f"with the columns file and label), found {f'only {labels[0]}' if labels else 'no clips'}; "
            "correct --data_dir."
        )
    return _build_corpus(rows, labels, problems)


def read_unlabelled(path: str | Path, on_bad_audio: str = "error") -> Corpus:
    """Read all clips below a folder, as `read_folder` does, with the label `unknown`; there may be none.

    The type of their column states no sampling rate, so that clips of several folders can be put together.

    Raises:
        CorpusError: as `read_folder`.
        UserError: for a missing folder.
    """
    root, problems = Path(path), Problems()
    clips = _read_classes(Listing(root, may_be_clip), problems, "unknown")
    rows = [row | {"sampling_rate": None} for row in _read_clips(root, clips, problems, on_bad_audio)]
    return _build_corpus(rows, ["unknown"], problems)


def _read_clips(root: Path, clips: list[LabelledFile], problems: Problems, on_bad_audio: str) -> list[dict[str, Any]]:
    problems.note(
        "with a name that is not UTF-8", [clip.file for clip in clips if readable(str(clip.path)) != str(clip.path)]
    )
    clips = sorted(clips, key=lambda clip: clip.file)
    with checked_clips() as checked:
        rows = [row for clip in clips if (row := read_clip(clip, problems, checked))]
    if problems.keys() - {NOT_LISTED} - ({BAD_AUDIO} if on_bad_audio == "skip" else set()):
        raise _error(root, problems)
    return rows


def _build_corpus(rows: list[dict[str, Any]], labels: list[str], problems: Problems) -> Corpus:
    rates = {row.pop("sampling_rate") for row in rows}
    rate = rates.pop() if len(rates) == 1 else None
    return Corpus("folder", build_dataset(rows, labels, sampling_rate=rate), problems.lines())


def may_be_clip(file: Path) -> bool:
    """Return True for a file that may contain sound, judged by its name (see `NOT_CLIPS`)."""
    return (file.suffix or file.name).lower() not in NOT_CLIPS


def read_clip(clip: LabelledFile, problems: Problems, checked: dict[str, ClipInfo]) -> dict[str, Any] | None:
    """Return the row of a clip for `build_dataset`, with its `sampling_rate` (Hz); None where its sound is unusable.

    Args:
        clip: with its path.
        problems: where unusable sound is added, by the name of the file.
        checked: clips that need not be decoded, see `checked_clips`.
    """
    path = clip.path.absolute()
    try:
        info = check_clip(path, clip.file, checked)
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
    remedy = "correct them or remove them"
    if OUTSIDE in problems:
        remedy = "copy files from elsewhere into the folder, " + remedy
    if NO_LABEL in problems:
        remedy = "give a label to each clip that has none, " + remedy
    if BAD_AUDIO in problems:
        remedy += ", or leave out those that cannot be read with --on_bad_audio skip"
    return CorpusError(f"expected only usable clips in {root}, found {problems}; {remedy}.", problems.lines())


def _read_classes(listing: Listing, problems: Problems, label: str | None = None) -> list[LabelledFile]:
    """Return the clips of the class folders; with a label, all clips, with this one."""
    paths = [(name, path) for name, paths in listing.paths.items() for path in paths]
    outside = {path for _, path in paths if listing.target_outside(path)}
    unlabelled = [name for name, path in paths if not label and "/" not in name and path not in outside]
    problems.note("outside the class folders", unlabelled)
    problems.note(OUTSIDE, dict.fromkeys(_link_outside(listing, path) for path in sorted(outside)))
    twice = [name for name, places in listing.paths.items() if len(places) > 1]
    problems.note(TWICE, [f"{name}, in two Unicode forms" for name in twice])
    return [
        LabelledFile(name, path, label or name.partition("/")[0])
        for name, path in paths
        if (label or "/" in name) and path not in outside
    ]


def _link_outside(listing: Listing, path: Path) -> str:
    """Return the first link on the path to a file outside the folder, with its target."""
    steps = (*reversed(path.relative_to(listing.root).parents), path.relative_to(listing.root))
    step = next(step for step in steps if listing.target_outside(listing.root / step))
    return readable(f"{step}, a link to {listing.target_outside(listing.root / step)}")


def _read_metadata(metadata: Path, listing: Listing, problems: Problems) -> list[LabelledFile]:
    """Return the clips of the rows that name a file of the folder; add all other rows and files to the problems."""
    rows = [_text(row) for row in read_table(metadata)]
    file = _column(metadata, rows, "file", "file_name")
    label = _column(metadata, rows, "label", "emotion")
    problems.note("without a file", [f"row {number}" for number, row in enumerate(rows, 1) if not row.get(file)])
    rows = [(number, row) for number, row in enumerate(rows, 1) if row.get(file)]
    problems.note(NO_LABEL, [f"{row[file]} in row {number}" for number, row in rows if not row.get(label)])
    paths = [listing.find(row[file]) for _, row in rows]
    outside = [listing.target_outside(path) for path in paths]
    problems.note(OUTSIDE, [row[file] for (_, row), elsewhere in zip(rows, outside, strict=True) if elsewhere])
    clips = [
        LabelledFile(
            file=listing.name_of(row[file]),
            path=path,
            label=normalize(row.get(label) or ""),
            speaker=row.get("speaker") and normalize(row["speaker"]),
            intensity=row.get("intensity"),
            item=row.get("item") and normalize(row["item"]),
        )
        for (_, row), path, elsewhere in zip(rows, paths, outside, strict=True)
        if not elsewhere
    ]
    present = [clip for clip in clips if os.path.isfile(clip.path)]
    names: dict[str, dict[str, int]] = {}  # names of each real path, with the number of rows that contain them
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


def _text(row: dict[str, Any]) -> dict[str, str | None]:
    # JSON may contain single surrogates, which a pyarrow table does not accept
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


def _add_speakers(clips: list[LabelledFile], pattern: str, problems: Problems) -> list[LabelledFile]:
    speakers = find_speakers([clip.file for clip in clips], pattern, problems)
    if any(clip.speaker for clip in clips):
        raise UserError(
            "expected speakers from the metadata file or from --speaker_pattern, found both; leave one of them out."
        )
    return [dataclasses.replace(clip, speaker=speaker) for clip, speaker in zip(clips, speakers, strict=True)]


def find_speakers(files: Sequence[str], pattern: str, problems: Problems) -> list[str | None]:
    """Return the speaker in each file's name, found within a second plus a millisecond for each.

    Args:
        files: names, with or without folders.
        pattern: as in `read_folder`.
        problems: where files without a speaker are added.

    Raises:
        UserError: for a pattern that is too slow or does not have exactly one group.
    """
    expression, group = _compile(pattern)
    speakers: list[str | None] = []
    end = time.process_time() + 1.0 + 1e-3 * len(files)  # the clock of `timeout`
    for file in files:
        try:
            match = expression.search(Path(file).name, timeout=max(end - time.process_time(), 1e-3))
        except TimeoutError as error:
            raise UserError(
                f"expected a quick regular expression in --speaker_pattern, found that {pattern!r} takes more than a "
                f"second at {file}; write it without a repetition inside a repetition."
            ) from error
        speakers.append((match[group] or None) if match else None)
    without = [file for file, speaker in zip(files, speakers, strict=True) if speaker is None]
    problems.note(f"without a speaker by {pattern!r}", without)
    return speakers


def _compile(pattern: str) -> tuple[Pattern[str], int | str]:
    import regex  # takes the same patterns as `re`, but its searches have a timeout

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
