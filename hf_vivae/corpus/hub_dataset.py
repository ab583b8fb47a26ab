"""Audio datasets of the Hub, or of a folder or Parquet file that `datasets` loads: their columns, clips and name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from ..audio import BadAudio, split_fragment
from ..validation import UserError, check_choice, did_you_mean, printable
from .decoded import load_with_info
from .folder import ABSENT
from .hub_splits import NO_SPLITS, audio_columns, load_splits, read_card
from .listing import normalize, real_folders
from .manifest import SAMPLING_RATE, compare_lengths, read_manifest
from .schema import (
    BAD_AUDIO,
    GENERATED,
    ON_BAD_AUDIO,
    Corpus,
    CorpusError,
    Problems,
    features,
    first_names,
)
from .vivae import CORE_CLIPS

if TYPE_CHECKING:
    from datasets import Dataset, Features
    from huggingface_hub import DatasetCardData


# usual names of columns in lower case; columns of labels may also have the type `ClassLabel`
LABELS = frozenset({"label", "labels", "emotion", "emotions", "category", "class", "class_name", "cls", "target"})
SPEAKERS = frozenset({
    "speaker", "speaker_id", "speakerid", "spk", "spk_id", "subject", "subject_id", "actor", "actor_id", "participant",
    "participant_id", "client_id",
})  # fmt: skip
BATCH_CLIPS = 16  # in memory at a time
OUTSIDE = "outside the dataset"  # the kind of problem of paths to other files
RESERVED = frozenset(
    {"vivae", "vivae-core", "emogator", "hub", "folder", "segments", *GENERATED}
)  # names of other corpora
OF_OUR_CARDS = "nonverbal-vocalization"  # tag of every card of push.py --dataset


@dataclass(frozen=True)
class Columns:
    """Names of the columns that are read; `speaker` is None where there is none."""

    audio: str
    label: str
    speaker: str | None


@dataclass(frozen=True)
class Measured:
    """Length (seconds) and rate (Hz) of a clip, and the two measures of `generated.recognize_generated`."""

    duration: float
    sampling_rate: int
    deviation: float
    step: float


def load_hub_dataset(
    name: str,
    config: str | None = None,
    split: str | None = None,
    revision: str | None = None,
    audio_column: str | None = None,
    label_column: str | None = None,
    speaker_column: str | None = None,
    on_bad_audio: str = "error",
) -> Dataset:
    """Return the `Dataset` of `read_hub_dataset`, with one warning for clips that are left out."""
    corpus = read_hub_dataset(name, config, split, revision, audio_column, label_column, speaker_column, on_bad_audio)
    corpus.log_problems()
    return corpus.dataset


def read_hub_dataset(
    name: str | None,
    config: str | None = None,
    split: str | None = None,
    revision: str | None = None,
    audio_column: str | None = None,
    label_column: str | None = None,
    speaker_column: str | None = None,
    on_bad_audio: str = "error",
) -> Corpus:
    """Read an audio dataset that `datasets` loads, without FFmpeg, at any rate and in any format of libsndfile.

    The rows of all splits are joined in the order of their file names: the column `file`, or else the names of the
    audio files, or else split and number of the row. The audio stays in the memory-mapped table of the cache. The
    corpus has the column `split` where the dataset has splits. Datasets that `recipes/push.py --dataset` has written
    keep all of their columns, and those of VIVAE's or generated clips their name: vivae, synthetic or noise.

    Args:
        name: Hub id (owner/name), folder, or Parquet file.
        config: configuration of the dataset; by default the only or default one.
        split: name of a split; all by default.
        revision: branch, tag or commit of a Hub id.
        audio_column: column of the clips; by default the only one of audio.
        label_column: column of labels: `ClassLabel`, text or whole numbers; by default the only `ClassLabel` or column
            of a usual name. Labels that no clip has are left out.
        speaker_column: column of speakers; by default the only one of a usual name, if there is one.
        on_bad_audio: "skip" leaves out clips whose sound cannot be used, and lists them in `Corpus.problems`.

    Raises:
        CorpusError: for clips that cannot be used; its `problems` names all of them.
        UserError: see `load_splits`; and for an unknown split, columns that are absent, ambiguous or of another type,
            clips without a label, and fewer than two labels.
    """
    check_choice("--on_bad_audio", on_bad_audio, ON_BAD_AUDIO)
    if not name:
        raise UserError(
            "expected a Hub id, folder or Parquet file with --data hub, found none; give it with --dataset_name."
        )
    dataset, splits = _join_splits(name, load_splits(name, config, revision), split)
    ours = is_ours(dataset.features)
    columns = choose_columns(name, dataset.features, ours, audio_column, label_column, speaker_column)
    sounds = dataset.select_columns([columns.audio])
    if columns.audio != "audio":
        sounds = sounds.rename_column(columns.audio, "audio")
    paths = _paths(sounds)
    files = file_names(dataset, paths, splits)
    sounds = _embed_members(name, sounds, paths, files)
    labels, label_names = _read_labels(name, dataset, columns.label, files, splits, keep_all=ours)
    clips, problems = _check_clips(sounds, files)
    if problems and on_bad_audio == "error":
        raise CorpusError(
            f"expected only usable clips in {name}, found {problems}; correct them, or leave out those that cannot be "
            "read with --on_bad_audio skip.",
            problems.lines(),
        )
    used = sorted(clips, key=files.__getitem__)
    present = sorted({label_names[labels[row]] for row in used})
    if len(present) < 2:
        raise UserError(
            f"expected clips of at least two labels in the column {columns.label} of {name}, found "
            f"{', '.join(present) or 'no clips'}; name another with --label_column."
        )
    values = {
        "file": files,
        "speaker": None if columns.speaker is None else column_texts(dataset, columns.speaker),
        "emotion": labels,
        "intensity": dataset["intensity"][:] if ours else None,
        "item": dataset["item"][:] if ours else [PurePosixPath(file).stem for file in files],
        "duration": [clips[row].duration if row in clips else None for row in range(len(files))],
        "core": dataset["core"][:] if ours else None,
        "split": None if set(splits) == {NO_SPLITS} else splits,
        "recording": dataset["recording"][:] if ours and "recording" in dataset.column_names else None,
    }
    rates = {clip.sampling_rate for clip in clips.values()}
    rate = rates.pop() if len(rates) == 1 else None
    card = read_card(name, revision)
    license = card and card.license
    return Corpus(
        _corpus_name(
            name,
            [clips[row] for row in used],
            [files[row] for row in used],
            ours and all(values["core"][row] for row in used),
            card if ours else None,
        ),
        _build(sounds, values, label_names, rate).select(used),
        problems.lines(),
        license=license if isinstance(license, str) else None,
    )


def dataset_title(name: str) -> str:
    """Return a Hub id, or the name of a folder or file without its suffix; not one that another corpus has."""
    if not os.path.exists(name) and name.count("/") == 1:
        return name
    path = Path(name)
    title = printable(path.stem if path.suffix == ".parquet" else path.name)
    return f"{title}-dataset" if title in RESERVED else title


def _join_splits(name: str, splits: dict[str, Dataset], split: str | None) -> tuple[Dataset, list[str]]:
    """Return the rows of one or all splits, and the name of each row's split, `(rows,)`."""
    from datasets import concatenate_datasets

    if split is not None:
        if split not in splits:
            raise UserError(
                f"expected one of the splits {', '.join(splits)} of {name} as --dataset_split, found {split!r}"
                f"{did_you_mean(split, splits)}; name one of them, or leave it out for all."
            )
        splits = {split: splits[split]}
    first, *others = splits
    if unequal := [other for other in others if splits[other].features != splits[first].features]:
        raise UserError(
            f"expected the same columns in all splits of {name}, found others in {', '.join(unequal)} than in "
            f"{first}; choose one with --dataset_split."
        )
    return concatenate_datasets([*splits.values()]), [split for split in splits for _ in range(len(splits[split]))]


def choose_columns(
    name: str, types: Features, ours: bool, audio: str | None, label: str | None, speaker: str | None
) -> Columns:
    """Return the columns that the user names, or else the only candidates; those of ours need no choice."""
    from datasets import ClassLabel

    if ours:
        audio, label, speaker = audio or "audio", label or "emotion", speaker or "speaker"
    sounds = audio_columns(types)
    plain = [column for column in types if _is_plain(types[column])]
    speakers = [column for column in plain if column.lower() in SPEAKERS]
    classes = [column for column in plain if isinstance(types[column], ClassLabel) or column.lower() in LABELS]
    labels = [column for column in classes if column not in speakers]
    return Columns(
        _choose(name, types, "audio", "--audio_column", audio, sounds, sounds),
        _choose(name, types, "labels", "--label_column", label, labels, plain),
        _choose(name, types, "speakers", "--speaker_column", speaker, speakers, plain)
        if speakers or speaker
        else None,
    )


def _choose(
    name: str,
    types: Features,
    content: str,
    flag: str,
    chosen: str | None,
    candidates: Sequence[str],
    allowed: Sequence[str],
) -> str:
    """Return the column that the user names, or the only candidate."""
    every = first_names([*types], 30)
    if chosen is not None:
        if chosen not in types:
            raise UserError(
                f"expected a column of {name} with {flag}, found {chosen!r}{did_you_mean(chosen, types)}; its columns "
                f"are {every}."
            )
        if chosen not in allowed:
            raise UserError(
                f"expected a column of {content} with {flag}, found {chosen!r} of {name}, which has the type "
                f"{type(types[chosen]).__name__}; its columns are {every}."
            )
        return chosen
    if not candidates:
        raise UserError(
            f"expected a column of {content} in {name}, found none that looks like one; its columns are {every}, name "
            f"one with {flag} if it has {content}."
        )
    if len(candidates) > 1:
        raise UserError(
            f"expected one column of {content} in {name}, found {len(candidates)} ({', '.join(candidates)}); name one "
            f"with {flag}."
        )
    return candidates[0]


def _is_plain(feature: Any) -> bool:
    """Return True for names of classes, texts and whole numbers."""
    from datasets import ClassLabel, Value

    if isinstance(feature, ClassLabel):
        return True
    return isinstance(feature, Value) and feature.dtype.startswith(("string", "large_string", "int", "uint", "bool"))


def is_ours(types: Features) -> bool:
    """Return True for the columns of every corpus, as `recipes/push.py --dataset` writes them."""
    from datasets import ClassLabel

    schema = features()
    by_corpus = {"audio", "emotion"}  # with the rate and the labels of the corpus
    same = all(types.get(column) == schema[column] for column in schema.keys() - by_corpus)
    return same and "audio" in types and isinstance(types.get("emotion"), ClassLabel)


def column_texts(dataset: Dataset, column: str) -> list[str | None]:
    """Return the values of a column as texts, `(rows,)`; None for missing ones."""
    names = getattr(dataset.features[column], "names", None)
    values = dataset[column][:]
    if names is not None:  # -1 stands for a label that is not published
        return [None if value is None or value < 0 else names[value] for value in values]
    texts = ["" if value is None else normalize(str(value)).strip() for value in values]
    return [None if text in ABSENT else text for text in texts]


def _read_labels(
    name: str, dataset: Dataset, column: str, files: Sequence[str], splits: Sequence[str], keep_all: bool
) -> tuple[list[int], list[str]]:
    """Return label index of each row, `(rows,)`, and the names: classes in their order, others sorted."""
    feature, texts = dataset.features[column], column_texts(dataset, column)
    missing = [row for row, text in enumerate(texts) if text is None]
    if missing:
        concerned = ", ".join(sorted({splits[row] for row in missing}))
        raise UserError(
            f"expected a label in the column {column} of {name} for each of {len(texts)} clips, found none for "
            f"{len(missing)} (first: {files[missing[0]]}, splits: {concerned}); choose a split that has labels with "
            "--dataset_split, or name another --label_column."
        )
    names = order_labels(feature, set(texts), keep_all)
    index = {label: position for position, label in enumerate(names)}
    return [index[text] for text in texts], names


def order_labels(feature: Any, present: set[str], keep_all: bool) -> list[str]:
    """Return the names of the labels that clips have: classes in their order, others sorted.

    Args:
        feature: type of the column.
        present: labels of the clips.
        keep_all: return classes that no clip has, too.
    """
    if hasattr(feature, "names"):  # their order is that of a model's outputs
        return [label for label in feature.names if keep_all or label in present]
    return sorted(present, key=int if feature.dtype.startswith(("int", "uint")) else None)


def _paths(sounds: Dataset) -> list[tuple[str | None, bool]]:
    """Return path of each clip, `(rows,)`, and True where it has no bytes, without reading these."""
    import pyarrow.compute as pc

    return [
        (path, is_path)
        for batch in sounds.with_format("arrow").iter(batch_size=1000)
        for path, is_path in zip(
            pc.struct_field(batch["audio"], "path").to_pylist(),
            pc.is_null(pc.struct_field(batch["audio"], "bytes")).to_pylist(),
            strict=True,
        )
    ]


def file_names(dataset: Dataset, paths: Sequence[tuple[str | None, bool]], splits: Sequence[str]) -> list[str]:
    """Return a name of its own for each clip: its column `file`, its audio file, or its split and row."""
    named = column_texts(dataset, "file") if _is_plain(dataset.features.get("file")) else [None] * len(paths)
    of_audio = [
        path and normalize(PurePosixPath(path.partition("::")[0].replace("\\", "/")).name) for path, _ in paths
    ]
    for names in (named, of_audio):
        inside = all(name and not name.startswith("/") and ".." not in PurePosixPath(name).parts for name in names)
        if inside and len(set(names)) == len(names):
            return names
    digits = len(str(len(splits)))
    first = {split: row for row, split in reversed([*enumerate(splits)])}
    return [f"{split}-{row - first[split]:0{digits}d}" for row, split in enumerate(splits)]


def _embed_members(
    name: str, sounds: Dataset, paths: Sequence[tuple[str | None, bool]], files: Sequence[str]
) -> Dataset:
    """Return the clips with the bytes of those that are members of archives, which only `datasets` opens by path.

    Raises:
        CorpusError: for paths that lead out of the dataset and the cache, which a Parquet file can contain.
    """
    from datasets import config
    from datasets.table import embed_table_storage
    from huggingface_hub import constants

    caches = (constants.HF_HUB_CACHE, config.HF_DATASETS_CACHE, config.DOWNLOADED_DATASETS_PATH)
    folders = [Path(os.path.realpath(cache)) for cache in caches]
    if os.path.exists(name):
        folders += real_folders(Path(name) if os.path.isdir(name) else Path(os.path.realpath(name)).parent)
    problems = Problems()
    for (path, is_path), file in zip(paths, files, strict=True):
        if not (is_path and path):
            continue
        member, _, place = path.rpartition("::")
        real = Path(os.path.realpath(split_fragment(place)[0]))
        below = os.path.isabs(place) and any(real.is_relative_to(each) for each in folders)
        if not below or (member and (not member.startswith("zip://") or "::" in member)):  # others may lead anywhere
            problems.note(OUTSIDE, [f"{file}, with the path {printable(path)}"])
    if problems:
        raise CorpusError(
            f"expected the sound of each clip in {name}, found {problems}; write the dataset with the bytes of the "
            "files, as `Dataset.push_to_hub` does.",
            problems.lines(),
        )
    if not any(is_path and path and "::" in path for path, is_path in paths):
        return sounds
    return sounds.with_format("arrow").map(embed_table_storage, batched=True, batch_size=BATCH_CLIPS).with_format(None)


def _check_clips(sounds: Dataset, files: Sequence[str]) -> tuple[dict[int, Measured], Problems]:
    """Return the measures of the usable clips by row, and the problems of the others."""
    clips, problems = {}, Problems()
    sources = (source for batch in sounds.iter(batch_size=BATCH_CLIPS) for source in batch["audio"])
    for row, (source, file) in enumerate(zip(sources, files, strict=True)):
        source = source or {"bytes": None, "path": None}
        try:
            samples, info = load_with_info(source, file)  # damage and NaN show only when the sound is decoded
        except BadAudio as error:
            problems.note(BAD_AUDIO, [f"{file}: expected {error.expected}, found {error.found}"])
            continue
        steps = samples[1:] - samples[:-1] if len(samples) > 1 else samples
        clips[row] = Measured(info.duration, info.sampling_rate, float(samples.std()), float(steps.std()))
    return clips, problems


def _build(
    sounds: Dataset, values: dict[str, Sequence[Any] | None], labels: Sequence[str], rate: int | None
) -> Dataset:
    """Return the columns of a corpus; that of the sounds is not copied."""
    import pyarrow
    from datasets import Audio, Dataset, Features, Value, concatenate_datasets

    of_all = features(labels, rate)
    types = {**of_all, "split": Value("string"), "recording": Value("string")}
    types = {column: types[column] for column in values if column in of_all or values[column] is not None}
    nothing = [None] * len(sounds)
    table = pyarrow.Table.from_pydict(
        {column: nothing if values[column] is None else values[column] for column in types},
        schema=Features(types).arrow_schema,
    )
    sounds = sounds.cast_column("audio", Audio(sampling_rate=rate, decode=False))
    return concatenate_datasets([sounds, Dataset(table)], axis=1)


def _corpus_name(
    name: str, clips: Sequence[Measured], files: Sequence[str], in_core: bool, card: DatasetCardData | None
) -> str:
    """Return synthetic, noise, vivae or vivae-core where the clips are of that corpus, else the dataset's title.

    Args:
        name: of the dataset.
        clips: measures of its clips.
        files: their names.
        in_core: true where all of them are in VIVAE's core set.
        card: metadata of the card, of a dataset with the columns of a corpus; None for other datasets.
    """
    from .generated import recognize_generated

    lengths = [round(clip.duration * SAMPLING_RATE) for clip in clips]
    deviations, steps = [clip.deviation for clip in clips], [clip.step for clip in clips]
    published = {row["file_name"] for row in read_manifest()}
    generated = recognize_generated(lengths, deviations, steps)
    if generated == "synthetic" or (generated and {*files} <= published):  # somebody else's noise has other names
        return generated
    if (marked := marked_corpus(card)) is not None:
        return marked  # too few clips to be recognized
    if {*files} == published and compare_lengths(lengths) is None:
        return "vivae"
    if len(files) == CORE_CLIPS and in_core and {*files} < published:
        return "vivae-core"
    return dataset_title(name)


def marked_corpus(card: DatasetCardData | None) -> str | None:
    """Return the generated corpus that a card of `recipes/push.py --dataset` is tagged with; None for other cards."""
    tags = set(card.tags or ()) if card else set()
    marked = [corpus for corpus in GENERATED if corpus in tags] if OF_OUR_CARDS in tags else []
    return marked[-1] if marked else None  # the cards of noise have both tags
