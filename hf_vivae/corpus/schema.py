"""What every corpus looks like: its columns, its labels, and how rows become a `Dataset`.

The audio column is stored with `decode=False`: a row holds the bytes or the path of the file as it is, and
`hf_vivae.audio.load` decodes it.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets

from ..validation import UserError

if TYPE_CHECKING:
    from datasets import Dataset, Features


EMOTIONS = ("achievement", "anger", "fear", "pain", "pleasure", "surprise")
INTENSITIES = ("low", "moderate", "strong", "peak")
BAD_AUDIO = "bad audio"  # the kind of problem that on_bad_audio="skip" accepts
ON_BAD_AUDIO = ("error", "skip")


@dataclass(frozen=True)
class Corpus:
    """Labelled clips from one source.

    Args:
        name: what tables and run folders call the source.
        dataset: one row per clip, with the columns of `features`.
        problems: one line per file that was missing, skipped or not as expected; empty for a whole corpus.
    """

    name: str
    dataset: Dataset
    problems: tuple[str, ...] = ()


class CorpusError(UserError):
    """A corpus that is not as it should be; `problems` names every file concerned, the message the first
    ones.
    """

    def __init__(self, message: str, problems: Iterable[str]) -> None:
        super().__init__(message, tuple(problems))
        self.problems: tuple[str, ...] = self.args[1]

    def __str__(self) -> str:
        return self.args[0]


class Problems(dict[str, list[str]]):
    """What is wrong with the files of a corpus: texts by kind."""

    def note(self, kind: str, texts: Iterable[str]) -> None:
        """Add texts of one kind, if there are any."""
        if texts := list(texts):
            self.setdefault(kind, []).extend(texts)

    def lines(self) -> tuple[str, ...]:
        """One line per text."""
        return tuple(f"{kind}: {text}" for kind, texts in self.items() for text in texts)

    def __str__(self) -> str:
        return "; ".join(f"{len(texts)} {kind} ({first_names(texts)})" for kind, texts in self.items())


def features(emotions: Sequence[str] = EMOTIONS, sampling_rate: int | None = 44100) -> Features:
    """Columns of every corpus: audio, file, speaker, emotion, intensity, item, duration (seconds), core.

    `core` says whether VIVAE's core set holds the clip, too; None where that is not known.
    """
    from datasets import Audio, ClassLabel, Features, Value

    return Features(
        {
            "audio": Audio(sampling_rate=sampling_rate, decode=False),
            "file": Value("string"),
            "speaker": Value("string"),
            "emotion": ClassLabel(names=list(emotions)),
            "intensity": ClassLabel(names=list(INTENSITIES)),
            "item": Value("string"),
            "duration": Value("float64"),
            "core": Value("bool"),
        }
    )


def build_dataset(
    rows: Sequence[dict[str, Any]], emotions: Sequence[str] = EMOTIONS, sampling_rate: int | None = 44100
) -> Dataset:
    """`Dataset` of rows whose emotion and intensity are still names.

    Args:
        rows: one dict per clip with every column of `features`; speaker and intensity may be None, core absent.
        emotions: names of the emotion column, in the order of their indices.
        sampling_rate: rate in Hz that all clips share, or None where they differ.
    """
    import pyarrow
    from datasets import Dataset

    # `Dataset.from_list` with an Audio feature encodes, and that asks for torchcodec; a table does not.
    schema = features(emotions, sampling_rate).arrow_schema
    emotion = {name: index for index, name in enumerate(emotions)}
    intensity = {name: index for index, name in enumerate(INTENSITIES)} | {None: None}
    coded = [row | {"emotion": emotion[row["emotion"]], "intensity": intensity[row["intensity"]]} for row in rows]
    return Dataset(pyarrow.Table.from_pylist(coded, schema=schema))


def walk_files(root: Path, enters: Callable[[Path], bool] = lambda folder: True) -> Iterator[Path]:
    """Files under a folder in sorted order, links followed once; leaves out hidden ones and `__MACOSX`.

    Pipes, sockets and devices are no files: reading one may never end. A link to nothing is kept for whoever reads it
    to name.

    Args:
        root: the folder.
        enters: whether a subfolder is walked; one that is not is kept as if it were a file, to be named.

    Raises:
        UserError: for a folder that cannot be read.
    """
    seen: set[str] = set()
    for folder, subfolders, names in os.walk(root, onerror=_refuse_folder, followlinks=True):
        if (real := os.path.realpath(folder)) in seen:
            subfolders.clear()
            continue
        seen.add(real)
        inner = sorted(name for name in subfolders if not is_clutter(name))
        subfolders[:] = [name for name in inner if enters(Path(folder, name))]
        closed = {*inner} - {*subfolders}
        for name in sorted(name for name in (*names, *closed) if not is_clutter(name)):
            file = os.path.join(folder, name)
            if name in closed or os.path.isfile(file) or not os.path.exists(file):
                yield Path(file)


def _refuse_folder(error: OSError) -> None:
    raise UserError(
        f"expected a folder that can be read at {error.filename}, found one that cannot ({error.strerror}); change "
        "its permissions, or take it out."
    ) from error


def is_clutter(name: str) -> bool:
    """Whether a file or folder is left there by an operating system or a tool, and is no clip."""
    return name == "__MACOSX" or (name.startswith(".") and name != "..")  # "._x.wav" is the resource fork of x.wav


def first_names(names: Sequence[str], limit: int = 10) -> str:
    """The first names of a list, and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def corpus_key(dataset: datasets.Dataset) -> str:
    """Digest of names and content of all clips, the same wherever they lie."""
    digest = hashlib.sha256()
    for name, content in zip(dataset["file"][:], clip_digests(dataset), strict=True):
        digest.update(hashlib.sha256(name.encode()).digest() + bytes.fromhex(content))
    return digest.hexdigest()


# every cache and fold of a run asks for those of its corpus, and all bytes are read for them
@functools.lru_cache(maxsize=1)
def clip_digests(dataset: datasets.Dataset) -> tuple[str, ...]:
    """SHA-256 of the file of each clip, as it is stored."""
    return tuple(
        hashlib.sha256(Path(source["path"]).read_bytes() if source["bytes"] is None else source["bytes"]).hexdigest()
        for batch in dataset.select_columns(["audio"]).iter(batch_size=256)
        for source in batch["audio"]
    )


def describe_clips(dataset: datasets.Dataset) -> list[dict[str, Any]]:
    """File, digest, speaker, intensity and duration of each clip, as `runs.write_predictions` wants them."""
    described = dataset.select_columns(["file", "speaker", "intensity", "duration"]).to_list()
    intensities = dataset.features["intensity"].names
    for row, digest in zip(described, clip_digests(dataset), strict=True):
        row["intensity"] = None if row["intensity"] is None else intensities[row["intensity"]]
        row["digest"] = digest[:16]
    return described


def corpus_digest(corpus: Corpus, labels: Sequence[int]) -> str:
    """What tells two corpora apart: content and names of all clips, their speakers and labels."""
    content = [corpus_key(corpus.dataset), corpus.dataset["speaker"][:], list(labels)]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
