"""Columns, labels, problems and digests of a corpus, the same for every source of clips.

The audio column is stored with `decode=False`: a row holds the bytes or the path of the file, which
`hf_vivae.audio.load` decodes.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ..validation import UserError, first_names
from .decoded import clip_digest

if TYPE_CHECKING:
    from datasets import Dataset, Features


logger = logging.getLogger(__name__)

EMOTIONS = ("achievement", "anger", "fear", "pain", "pleasure", "surprise")
INTENSITIES = ("low", "moderate", "strong", "peak")
GENERATED = ("synthetic", "noise")  # corpora without recordings of people
BAD_AUDIO = "bad audio"  # the kind of problem that on_bad_audio="skip" accepts
ON_BAD_AUDIO = ("error", "skip")


@dataclass(frozen=True)
class LabelMap:
    """A map from the labels of one corpus to those of another.

    Args:
        name: name in tables and on cards.
        targets: label of the corpus -> new label; None leaves the label's clips out.
    """

    name: str
    targets: Mapping[str, str | None]

    @property
    def text(self) -> str:
        """Name and lines of the map, to follow the word "labels"."""
        kept = [f"{label} -> {target}" for label, target in self.targets.items() if target is not None]
        left_out = [label for label, target in self.targets.items() if target is None]
        return f"by the map {self.name}: {', '.join(kept)}; left out: {', '.join(left_out) or 'none'}"


@dataclass(frozen=True)
class Corpus:
    """Labelled clips from one source.

    Args:
        name: name of the source in tables and run folders.
        dataset: one row per clip, with the columns of `features`.
        problems: one line per file that was missing, left out or not as expected; empty for a complete corpus.
        label_map: map by which the labels of the clips replaced those of the source; None for the source's own labels.
        license: identifier of the Hub's list that the card of a dataset states; None where none does.
    """

    name: str
    dataset: Dataset
    problems: tuple[str, ...] = ()
    label_map: LabelMap | None = None
    license: str | None = None

    @property
    def title(self) -> str:
        """Its clips, for titles; with the label map, if there is one."""
        return with_label_map(f"{self.name} clips", self.label_map and self.label_map.name)

    def log_problems(self) -> None:
        """Log one warning that counts the problems and shows the first ones; nothing for a complete corpus."""
        if self.problems:
            logger.warning(
                "%s clips: %d files are missing, left out or not as expected (%s).",
                self.name,
                len(self.problems),
                first_names(self.problems),
            )


class CorpusError(UserError):
    """A corpus with missing or unusable files; `problems` names every such file, the message the first ones."""

    def __init__(self, message: str, problems: Iterable[str]) -> None:
        super().__init__(message, tuple(problems))
        self.problems: tuple[str, ...] = self.args[1]

    def __str__(self) -> str:
        return self.args[0]


def with_label_map(clips: str, label_map: str | None) -> str:
    """Return the name of clips, followed by that of their label map, if there is one."""
    return f"{clips} (labels by {label_map})" if label_map else clips


class Problems(dict[str, list[str]]):
    """Problems with the files of a corpus: texts by kind."""

    def note(self, kind: str, texts: Iterable[str]) -> None:
        """Add texts of one kind, if there are any."""
        if texts := list(texts):
            self.setdefault(kind, []).extend(texts)

    def lines(self) -> tuple[str, ...]:
        """Return one line per text."""
        return tuple(f"{kind}: {text}" for kind, texts in self.items() for text in texts)

    def __str__(self) -> str:
        return "; ".join(f"{len(texts)} {kind} ({first_names(texts)})" for kind, texts in self.items())


def features(emotions: Sequence[str] = EMOTIONS, sampling_rate: int | None = 44100) -> Features:
    """Return the columns of every corpus: audio, file, speaker, emotion, intensity, item, duration (seconds), core.

    `core` is true for clips that VIVAE's core set contains as well, and None where this is not known. Datasets with
    splits of their own have the column `split` as well, the name of each clip's split, and segments of recordings the
    column `recording`, the name of each clip's recording.
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
    """Build the `Dataset` of rows that hold emotion and intensity by name.

    Args:
        rows: one dict per clip with every column of `features`; speaker and intensity may be None, core may be absent.
        emotions: names of the emotion column, in the order of their indices.
        sampling_rate: rate in Hz that all clips share, or None where they differ.
    """
    import pyarrow
    from datasets import Dataset

    # `Dataset.from_list` would encode the Audio feature, for which it needs torchcodec; a table is taken as it is.
    schema = features(emotions, sampling_rate).arrow_schema
    emotion = {name: index for index, name in enumerate(emotions)}
    intensity = {name: index for index, name in enumerate(INTENSITIES)} | {None: None}
    coded = [row | {"emotion": emotion[row["emotion"]], "intensity": intensity[row["intensity"]]} for row in rows]
    return Dataset(pyarrow.Table.from_pylist(coded, schema=schema))


def corpus_digest(corpus: Corpus, labels: Sequence[int]) -> str:
    """Return a digest of the content and name of all clips, their speakers and labels; it differs between corpora."""
    content = [corpus_key(corpus.dataset), corpus.dataset["speaker"][:], list(labels)]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def corpus_record(corpus: Corpus, digest: str) -> dict[str, Any]:
    """Return the entry `corpus` of `run.json`, with `label_map` and `license` where they are known."""
    record = {"name": corpus.name, "clips": len(corpus.dataset), "digest": digest, "problems": list(corpus.problems)}
    if corpus.label_map is not None:
        record["label_map"] = asdict(corpus.label_map)
    return record | {"license": corpus.license} if corpus.license else record


def corpus_key(dataset: Dataset) -> str:
    """Return a digest of the name and content of all clips, which does not depend on their folder."""
    digest = hashlib.sha256()
    for name, content in zip(dataset["file"][:], clip_digests(dataset), strict=True):
        digest.update(hashlib.sha256(name.encode()).digest() + bytes.fromhex(content))
    return digest.hexdigest()


# the caches and folds of a run all need the digests of its corpus
@functools.lru_cache(maxsize=1)
def clip_digests(dataset: Dataset) -> tuple[str, ...]:
    """Return the SHA-256 of the file of each clip, as it is stored; of one that was checked, of what was checked.

    That of a part of a file is of the file's digest and the part's times.

    Raises:
        UserError: for a file that has changed since it was checked, or that cannot be read.
    """
    return tuple(
        clip_digest(source["path"], name) if source["bytes"] is None else hashlib.sha256(source["bytes"]).hexdigest()
        for batch in dataset.select_columns(["audio", "file"]).iter(batch_size=256)
        for source, name in zip(batch["audio"], batch["file"], strict=True)
    )


def describe_clips(dataset: Dataset) -> list[dict[str, Any]]:
    """Return file, digest, speaker, intensity and duration of each clip, as `run_folder.write_predictions` needs."""
    described = dataset.select_columns(["file", "speaker", "intensity", "duration"]).to_list()
    intensities = dataset.features["intensity"].names
    for row, digest in zip(described, clip_digests(dataset), strict=True):
        row["intensity"] = None if row["intensity"] is None else intensities[row["intensity"]]
        row["digest"] = digest[:16]
    return described
