"""Dataset repositories: a corpus as Parquet files with a dataset card."""

from __future__ import annotations

import io
import os
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import soundfile

from ..audio import inspect, load, split_fragment
from ..corpus.schema import INTENSITIES, Corpus, clip_digests, first_names
from ..corpus.tasks import task_labels
from ..files import atomic_file, make_folder, write_text
from ..reporting.tables import Table, escape_markdown
from ..run_folder import check_report_folder
from ..splits import make_folds
from ..splits.folds import PARTS, Fold
from ..splits.protocols import PROTOCOLS
from ..validation import UserError
from ..version import __version__
from .arguments import PushArguments
from .client import show_or_push
from .licenses import confirm_license, known_license
from .model_card import open_templates

if TYPE_CHECKING:
    from datasets import Dataset, DatasetInfo, Features


REST = "rest"  # split of the clips that the first fold leaves out
UNKNOWN = "unknown"
MAY_BE_EMPTY = ("speaker", "intensity", "core")  # columns that may be null in all rows
MOST_SPEAKERS, MOST_PROBLEMS = 40, 50  # listed in a card
TITLES = {
    "vivae": "VIVAE, repackaged as Parquet",
    "vivae-core": "Core set of VIVAE, repackaged as Parquet",
    "emogator": "EmoGator, repackaged as Parquet",
    "synthetic": "Synthetic clips under VIVAE's file names",
    "noise": "White noise under VIVAE's file names",
}
TAGS = {
    "vivae": ["emotion-recognition", "vivae"],
    "vivae-core": ["emotion-recognition", "vivae"],
    "emogator": ["emotion-recognition", "emogator"],
    "synthetic": ["emotion-recognition", "synthetic"],
    "noise": ["emotion-recognition", "synthetic", "noise"],
}
# smallest number of rows -> category (https://github.com/huggingface/hub-docs/blob/main/datasetcard.md)
SIZES = {
    0: "n<1K", 1_000: "1K<n<10K", 10_000: "10K<n<100K", 100_000: "100K<n<1M", 1_000_000: "1M<n<10M",
}  # fmt: skip
# The viewer of the Hub reads the whole row group of a row.
GROUP_CLIPS, GROUP_BYTES = 100, 50_000_000
SHARD_BYTES = 300_000_000  # of audio; an interrupted push repeats the file that it was sending
OF_OURS = re.compile(r"the protocol `[^`]+` of hf_vivae ")  # in every card of `dataset.md`
ABSOLUTE_PATH = re.compile(r"(?<![\w.)])/\S.*")


@dataclass(frozen=True)
class Division:
    """Corpus in splits.

    Args:
        protocol: a key of `PROTOCOLS`.
        seed: seed of the protocol.
        folds: all folds of the protocol.
        rows: row indices of each split: the parts of the first fold and, where it leaves clips out, `rest`.
    """

    protocol: str
    seed: int
    folds: tuple[Fold, ...]
    rows: Mapping[str, tuple[int, ...]]


def push_dataset(arguments: PushArguments, cards: Path) -> None:
    """Write a corpus as Parquet with its card, and show the files; with `yes`, push them.

    Args:
        arguments: as parsed by `parse_push`.
        cards: folder `model_cards/`.

    Raises:
        UserError: for a licence that is not confirmed, and see `write_dataset_repo` and `push`.
    """
    ask = input if sys.stdin.isatty() else None
    # before the clips are read, unless they decide it: only a push requires confirmation
    corpus = arguments.load() if arguments.data == "hub" else None
    of_clips = (arguments.data, None) if corpus is None else (corpus.name, corpus.license)
    shown = None if arguments.yes else known_license(*of_clips)
    license = confirm_license(of_clips[0], arguments.license or shown, ask, of_clips[1])
    output = Path(arguments.output_dir)
    written = write_dataset_repo(
        corpus or arguments.load(), arguments.protocol, arguments.seed, cards, arguments.repo, license, output,
        arguments.duplicates,
    )  # fmt: skip
    files = {str(file.relative_to(output)): file for file in written}
    show_or_push({arguments.repo: files}, "dataset", not arguments.public, arguments.yes)


def write_dataset_repo(
    corpus: Corpus,
    protocol: str,
    seed: int,
    cards: Path,
    repo: str,
    license: str,
    output: Path,
    duplicates: str = "error",
) -> list[Path]:
    """Write `data/<split>-00000-of-0000N.parquet` and `README.md` below a folder, each file in one step.

    Rows have the columns of the corpus, the audio as `Audio` with its rate, and `fold`: the fold of the protocol that
    tests the clip, null if there is none. Splits are the parts of the protocol's first fold for labels of emotion;
    clips that it leaves out are in `rest`. README.md is written last, so the files it lists are complete.

    Args:
        corpus: clips, with their bytes or existing files.
        protocol: a key of `PROTOCOLS`.
        seed: seed of the protocol.
        cards: folder with the card's template, `dataset.md`.
        repo: Hub id of the dataset.
        license: see `confirm_license`.
        output: new or empty folder, or an earlier dataset repository, whose files of the same names are replaced.
        duplicates: as for `make_folds`.

    Returns:
        The written files.

    Raises:
        UserError: for another licence than the corpus's, a protocol that cannot divide the corpus, a missing file, a
            clip's name that is an absolute path, and a folder that cannot be written to or has other files.
    """
    from datasets import Audio, DatasetInfo, Features, SplitDict, SplitInfo, Value

    license = confirm_license(corpus.name, license, of_card=corpus.license)
    dataset = corpus.dataset
    if "split" in dataset.column_names:  # of the dataset that the clips are from, which is divided again
        dataset = dataset.remove_columns("split")
    outside = [file for file in dataset["file"][:] if file.startswith("/") or ".." in PurePosixPath(file).parts]
    if outside:
        raise UserError(
            f"expected names of clips below their folder, found {len(outside)} outside ({first_names(outside, 3)}): "
            "move the clips and correct the metadata file, since names are published."
        )
    sizes = _audio_bytes(dataset)  # first, since it names every missing file
    division = divide(corpus, protocol, seed, duplicates)
    # The corpus has decode=False, with which no viewer plays a clip.
    audio = Audio(sampling_rate=dataset.features["audio"].sampling_rate)
    features = Features({**dataset.features, "audio": audio, "fold": Value("string")})
    make_folder(output)
    check_report_folder(output)
    card = output / "README.md"
    ours = os.path.isfile(card) and OF_OURS.search(card.read_text(encoding="utf-8", errors="replace"))
    if any(output.iterdir()) and not ours:  # which may have a README.md or data/ of its own
        raise UserError(
            "expected a folder as --output_dir that is new, empty or of an earlier push --dataset, found other files "
            f"in {output}; give another."
        )
    make_folder(output / "data")
    files, num_bytes = {}, {}
    for split, rows in division.rows.items():
        shards = _cut(rows, sizes, SHARD_BYTES)
        files[split] = [f"data/{split}-{index:05d}-of-{len(shards):05d}.parquet" for index in range(len(shards))]
        num_bytes[split] = sum(
            _write_shard(output / name, dataset, _cut(shard, sizes, GROUP_BYTES, GROUP_CLIPS), division, features)
            for name, shard in zip(files[split], shards, strict=True)
        )
    paths = [output / name for names in files.values() for name in names]
    info = DatasetInfo(
        features=features,
        splits=SplitDict({name: SplitInfo(name, num_bytes[name], len(rows)) for name, rows in division.rows.items()}),
        download_size=sum(path.stat().st_size for path in paths),
        dataset_size=sum(num_bytes.values()),
    )
    write_text(card, render_dataset_card(cards, repo, license, corpus, division, info, files))
    return [*paths, card]


def divide(corpus: Corpus, protocol: str, seed: int, duplicates: str) -> Division:
    """Return a corpus in the splits of a protocol's first fold, by labels of emotion, with all folds.

    Raises:
        UserError: see `make_folds`.
    """
    labels, _ = task_labels(corpus.dataset, "emotion")
    digests = clip_digests(corpus.dataset)
    folds = make_folds(corpus.dataset, protocol, labels, seed, digests=digests, duplicates=duplicates)
    rows = {part: getattr(folds[0], part) for part in PARTS}
    if rest := sorted(set(range(len(corpus.dataset))).difference(*rows.values())):
        rows[REST] = tuple(rest)
    return Division(protocol, seed, tuple(folds), rows)


def _audio_bytes(dataset: Dataset) -> list[int]:
    """Return the bytes of each clip's file, `(clips,)`; of a part of a file, no less than those that it will have."""
    sizes, missing = [], []
    for batch in dataset.select_columns(["audio", "file"]).with_format("arrow").iter(batch_size=GROUP_CLIPS):
        embedded = pc.binary_length(pc.struct_field(batch["audio"], "bytes")).to_pylist()
        paths = pc.struct_field(batch["audio"], "path").to_pylist()
        for size, path, file in zip(embedded, paths, batch["file"].to_pylist(), strict=True):
            whole, part = split_fragment(path or "")
            if size is None and not whole.is_file():
                missing.append(file)
            elif size is None and part:
                sizes.append(4 * inspect(path, file).samples)
            else:
                sizes.append(whole.stat().st_size if size is None else size)
    if missing:
        raise UserError(
            f"expected the files of {len(dataset)} clips, found none for {len(missing)} of them "
            f"({first_names(missing, 3)}): restore the files, or read the corpus again."
        )
    return sizes


def _cut(rows: Sequence[int], sizes: Sequence[int], most_bytes: int, most_rows: int = sys.maxsize) -> list[list[int]]:
    """Return rows in pieces of at most so many rows and bytes; a larger clip is a piece of its own."""
    pieces: list[list[int]] = [[]]
    total = 0
    for row in rows:
        if pieces[-1] and (total + sizes[row] > most_bytes or len(pieces[-1]) == most_rows):
            pieces.append([])
            total = 0
        pieces[-1].append(row)
        total += sizes[row]
    return pieces


def _write_shard(
    path: Path, dataset: Dataset, groups: Sequence[Sequence[int]], division: Division, features: Features
) -> int:
    """Write a Parquet file with a row group for each group of rows, and return the bytes of its rows in memory."""
    schema = features.arrow_schema  # its metadata are the features, for `load_dataset` and the Hub
    folds = {row: fold.name for fold in division.folds for row in fold.test}
    num_bytes = 0
    # Audio hardly compresses; page index and chunks by content are those of `Dataset.to_parquet`, by which the Hub
    # finds rows and changed parts.
    with (
        atomic_file(path) as part,
        pq.ParquetWriter(
            part,
            schema,
            compression="none",
            use_dictionary=[name for name in schema.names if name != "audio"],
            use_content_defined_chunking=True,
            write_page_index=True,
        ) as writer,
    ):
        for rows in groups:
            table = _embed(dataset, rows, [folds.get(row) for row in rows], schema)
            writer.write_table(table)
            num_bytes += table.nbytes
    return num_bytes


def _embed(dataset: Dataset, rows: Sequence[int], folds: Sequence[str | None], schema: pa.Schema) -> pa.Table:
    table = dataset.with_format("arrow")[rows]  # the only format that does not decode audio
    sources = zip(table["audio"].to_pylist(), table["file"].to_pylist(), strict=True)
    clips = []
    for audio, file in sources:
        content, name = audio["bytes"], PurePosixPath(file).name
        if content is None and split_fragment(audio["path"])[1]:
            content, name = _cut_wav(audio["path"], file), f"{name}.wav"
        elif content is None:
            content = Path(audio["path"]).read_bytes()
        clips.append({"bytes": content, "path": name})
    columns = {name: table[name] for name in table.column_names}
    columns |= {"audio": pa.array(clips, schema.field("audio").type), "fold": pa.array(folds, pa.string())}
    return pa.table({name: columns[name] for name in schema.names}).cast(schema)


def _cut_wav(path: str, name: str) -> bytes:
    """Return a part of a file as a mono WAV of the same samples: of 16 bits where that is exact, else of floats."""
    samples, rate = load(path, name=name)
    steps = samples * 2**15
    is_exact = np.array_equal(steps, np.rint(steps)) and steps.min() >= -(2**15) and steps.max() < 2**15
    file = io.BytesIO()
    soundfile.write(
        file,
        steps.astype(np.int16) if is_exact else samples,
        rate,
        format="WAV",
        subtype="PCM_16" if is_exact else "FLOAT",
    )
    return file.getvalue()


def render_dataset_card(
    cards: Path,
    repo: str,
    license: str,
    corpus: Corpus,
    division: Division,
    info: DatasetInfo,
    files: Mapping[str, Sequence[str]],
) -> str:
    """Return README.md of a dataset repository.

    Args:
        cards: folder with the template `dataset.md`.
        repo: Hub id of the dataset.
        license: identifier of the Hub's list.
        corpus: the clips; its problems are listed, without the folders of the files.
        division: splits of the clips.
        info: features and sizes.
        files: paths in the repository for each split.
    """
    dataset, title = corpus.dataset, TITLES.get(corpus.name, repo.rpartition("/")[2])
    names = {column: _names(dataset, column) for column in ("emotion", "intensity", "speaker")}
    emotions, speakers = dataset.features["emotion"].names, sorted(set(names["speaker"]) - {UNKNOWN})
    tables = [_crosstab(names, "emotion", emotions, "intensity", INTENSITIES)]
    if 0 < len(speakers) <= MOST_SPEAKERS:
        tables.append(_crosstab(names, "speaker", speakers, "emotion", emotions))
    template = open_templates(cards).get_template("dataset.md")
    return template.render(
        metadata=_make_metadata(corpus, title, license, info, files),
        title=title,
        repo=repo,
        license=license,
        version=__version__,
        kind=corpus.name,
        clips=len(dataset),
        label_map=corpus.label_map and escape_markdown(corpus.label_map.text),
        minutes=f"{sum(dataset['duration'][:]) / 60:.1f}",
        rate=dataset.features["audio"].sampling_rate,
        segments="recording" in dataset.column_names,
        emotions=[escape_markdown(emotion) for emotion in emotions],
        speakers=len(speakers),
        empty=[column for column in MAY_BE_EMPTY if set(dataset[column]) == {None}],
        fold_names=[fold.name for fold in division.folds],
        protocol=division.protocol,
        header=PROTOCOLS[division.protocol],
        seed=division.seed,
        rest=REST in division.rows,
        split_table=_split_table(dataset, division, names["speaker"]).to_markdown().strip(),
        count_tables=[table.to_markdown().strip() for table in tables],
        problems=[
            escape_markdown(ABSOLUTE_PATH.sub(lambda path: PurePath(path[0]).name, problem))
            for problem in corpus.problems[:MOST_PROBLEMS]
        ],
        num_problems=len(corpus.problems),
    )


def _make_metadata(
    corpus: Corpus, title: str, license: str, info: DatasetInfo, files: Mapping[str, Sequence[str]]
) -> str:
    from datasets.info import DatasetInfosDict
    from datasets.utils.metadata import MetadataConfigs
    from huggingface_hub import DatasetCardData

    data = DatasetCardData(
        language=["zxx"] if corpus.name in TITLES else None,  # ISO 639-3: no linguistic content
        license=license,
        pretty_name=title,
        task_categories=["audio-classification"],
        size_categories=[SIZES[max(size for size in SIZES if size <= len(corpus.dataset))]],
        tags=["audio", "nonverbal-vocalization", *TAGS.get(corpus.name, [])],
    )
    DatasetInfosDict({"default": info}).to_dataset_card_data(data)
    # each file by its name, so that files of an earlier push with other shards are not read
    splits = [{"split": split, "path": list(paths)} for split, paths in files.items()]
    MetadataConfigs({"default": {"data_files": splits}}).to_dataset_card_data(data)
    return data.to_yaml()


def _names(dataset: Dataset, column: str) -> list[str]:
    """Return the value of a column in each row as a name, `(rows,)`."""
    feature, values = dataset.features[column], dataset[column][:]
    if hasattr(feature, "names"):
        values = [None if value is None else feature.names[value] for value in values]
    return [UNKNOWN if value is None else value for value in values]


def _split_table(dataset: Dataset, division: Division, speakers: Sequence[str]) -> Table:
    durations = dataset["duration"][:]
    rows = tuple(
        (
            split,
            len(members),
            sum(durations[row] for row in members) / 60,
            first_names(sorted({speakers[row] for row in members}), MOST_SPEAKERS),
        )
        for split, members in division.rows.items()
    )
    caption = "Splits, with the speakers in each of them."
    return Table("splits", caption, ("split", "clips", "minutes", "speakers"), rows, (None, "d", ".1f", None))


def _crosstab(
    names: Mapping[str, Sequence[str]],
    down: str,
    down_names: Sequence[str],
    across: str,
    across_names: Sequence[str],
) -> Table:
    """Return the number of clips of each pair of names, with sums, without names that no clip has."""
    counts = Counter(zip(names[down], names[across], strict=True))
    rows_of, columns_of = Counter(names[down]), Counter(names[across])
    down_names = [name for name in (*down_names, UNKNOWN) if name in rows_of]
    across_names = [name for name in (*across_names, UNKNOWN) if name in columns_of]
    across_names = [] if across_names == [UNKNOWN] else across_names
    caption = f"Clips by {down} and {across}." if across_names else f"Clips by {down}."
    body = [(name, *(counts[name, other] for other in across_names), rows_of[name]) for name in down_names]
    sums = ("all", *(columns_of[name] for name in across_names), rows_of.total())
    formats = (None, *["d"] * (len(across_names) + 1))
    return Table(f"{down}_{across}", caption, (down, *across_names, "all"), (*body, sums), formats)
