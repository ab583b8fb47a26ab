"""A corpus as a dataset repository of the Hub: Parquet files that hold the sound itself, and a card.

Bytes are embedded as they are, never decoded, so neither FFmpeg nor torchcodec is needed. One row group at a time is
read and written, so that memory does not grow with the corpus. The same corpus and libraries give the same bytes:
a push that is repeated changes nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .corpus.schema import Corpus, first_names
from .corpus.tasks import task_labels
from .dataset_card import OF_OURS, REST, Division, render_dataset_card
from .disk import make_folder
from .features import clip_digests
from .licenses import confirm_license
from .runs import check_report_folder, write_text
from .splits import PARTS, make_folds
from .validation import UserError

if TYPE_CHECKING:
    from datasets import Dataset, DatasetInfo, Features

# Whoever wants one row, such as the Hub's viewer, reads its whole row group.
GROUP_CLIPS, GROUP_BYTES = 100, 50_000_000
SHARD_BYTES = 300_000_000  # of sound; a push that is cut repeats the file that it was at


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

    Rows have the columns of the corpus, the sound as `Audio` with its rate, and `fold`: the fold of the protocol that
    tests the clip, null where none does. Splits are the parts of the protocol's first fold for labels of emotion;
    clips that it leaves out are in `rest`. README.md is written last: where it is, the files it names are whole.

    Args:
        corpus: clips, whose bytes or files must be there.
        protocol: a key of `PROTOCOLS`.
        seed: of the protocol.
        cards: folder with the card's template, `dataset.md`.
        repo: id that the card loads the dataset from.
        license: as confirmed by the person who publishes, see `confirm_license`.
        output: folder, new or empty or with an earlier dataset repository, whose files of the same names are replaced.
        duplicates: as for `make_folds`.

    Returns:
        The written files.

    Raises:
        ValueError: the licence is not the corpus's, the protocol cannot divide it, a file is missing, a clip's name
            is an absolute path, or the folder cannot be written to or has other files.
    """
    license = confirm_license(corpus.name, license)
    dataset = corpus.dataset
    _check_names(dataset["file"][:])
    sizes = _sound_bytes(dataset)  # first, since it names every file that is missing
    division = divide(corpus, protocol, seed, duplicates)
    features = _features(dataset)
    _check_output(output)
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
    info = _info(features, division, num_bytes, sum(path.stat().st_size for path in paths))
    write_text(output / "README.md", render_dataset_card(cards, repo, license, corpus, division, info, files))
    return [*paths, output / "README.md"]


def _check_output(output: Path) -> None:
    """Refuse a folder with somebody's files, whose names are usual: README.md, data/train-00000-of-00001.parquet."""
    make_folder(output)
    check_report_folder(output)
    card = output / "README.md"
    ours = os.path.isfile(card) and OF_OURS.search(card.read_text(encoding="utf-8", errors="replace"))
    if any(output.iterdir()) and not ours:
        raise UserError(
            "expected a folder as --output_dir that is new, empty or of an earlier push --dataset, found other files "
            f"in {output}; give another."
        )


def divide(corpus: Corpus, protocol: str, seed: int, duplicates: str) -> Division:
    """The corpus in the splits of the first fold of a protocol, by labels of emotion, and all its folds.

    Raises:
        ValueError: as `make_folds`.
    """
    labels, _ = task_labels(corpus.dataset, "emotion")
    digests = clip_digests(corpus.dataset)
    folds = make_folds(corpus.dataset, protocol, labels, seed, digests=digests, duplicates=duplicates)
    rows = {part: getattr(folds[0], part) for part in PARTS}
    if rest := sorted(set(range(len(corpus.dataset))).difference(*rows.values())):
        rows[REST] = tuple(rest)
    return Division(protocol, seed, tuple(folds), rows)


def _features(dataset: Dataset) -> Features:
    from datasets import Audio, Features, Value

    # The corpus keeps decode=False, with which nobody's viewer plays a clip.
    audio = Audio(sampling_rate=dataset.features["audio"].sampling_rate)
    return Features({**dataset.features, "audio": audio, "fold": Value("string")})


def _info(features: Features, division: Division, num_bytes: Mapping[str, int], download_size: int) -> DatasetInfo:
    from datasets import DatasetInfo, SplitDict, SplitInfo

    splits = SplitDict({name: SplitInfo(name, num_bytes[name], len(rows)) for name, rows in division.rows.items()})
    return DatasetInfo(
        features=features, splits=splits, download_size=download_size, dataset_size=sum(num_bytes.values())
    )


def _check_names(files: Sequence[str]) -> None:
    outside = [file for file in files if PurePosixPath(file).is_absolute() or ".." in PurePosixPath(file).parts]
    if outside:
        raise UserError(
            f"expected names of clips below their folder, found {len(outside)} that lead elsewhere "
            f"({first_names(outside, 3)}): move the clips and correct the metadata file, since names are published."
        )


def _sound_bytes(dataset: Dataset) -> list[int]:
    """Bytes of each clip's file, `(clips,)`."""
    sizes, missing = [], []
    for batch in dataset.select_columns(["audio", "file"]).with_format("arrow").iter(batch_size=GROUP_CLIPS):
        embedded = pc.binary_length(pc.struct_field(batch["audio"], "bytes")).to_pylist()
        paths = pc.struct_field(batch["audio"], "path").to_pylist()
        for size, path, file in zip(embedded, paths, batch["file"].to_pylist(), strict=True):
            if size is None and not Path(path).is_file():
                missing.append(file)
            else:
                sizes.append(Path(path).stat().st_size if size is None else size)
    if missing:
        raise UserError(
            f"expected the sound of {len(dataset)} clips, found no file for {len(missing)} of them "
            f"({first_names(missing, 3)}): put the files back, or read the corpus again."
        )
    return sizes


def _cut(rows: Sequence[int], sizes: Sequence[int], most_bytes: int, most_rows: int = sys.maxsize) -> list[list[int]]:
    """Rows in pieces of at most so many rows and bytes; a clip that is larger is a piece of its own."""
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
    """Write a Parquet file with a row group for each group of rows; returns the bytes of its rows in memory."""
    schema = features.arrow_schema  # its metadata are the features, for `load_dataset` and the Hub
    tested = division.tested()
    part = path.with_name(f".{path.name}.{os.getpid()}")
    num_bytes = 0
    try:
        # Sound hardly gets smaller; page index and chunks by content are those of `Dataset.to_parquet`, with which
        # the Hub finds rows and tells changed parts from others.
        with pq.ParquetWriter(
            part,
            schema,
            compression="none",
            use_dictionary=[name for name in schema.names if name != "audio"],
            use_content_defined_chunking=True,
            write_page_index=True,
        ) as writer:
            for rows in groups:
                table = _embed(dataset, rows, [tested.get(row) for row in rows], schema)
                writer.write_table(table)
                num_bytes += table.nbytes
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return num_bytes


def _embed(dataset: Dataset, rows: Sequence[int], folds: Sequence[str | None], schema: pa.Schema) -> pa.Table:
    table = dataset.with_format("arrow")[rows]  # no other format leaves the sound alone
    sources = zip(table["audio"].to_pylist(), table["file"].to_pylist(), strict=True)
    sound = [{"bytes": _read(audio), "path": PurePosixPath(file).name} for audio, file in sources]
    columns = {name: table[name] for name in table.column_names}
    columns |= {"audio": pa.array(sound, schema.field("audio").type), "fold": pa.array(folds, pa.string())}
    return pa.table({name: columns[name] for name in schema.names}).cast(schema)


def _read(audio: dict[str, bytes | str | None]) -> bytes:
    return Path(audio["path"]).read_bytes() if audio["bytes"] is None else audio["bytes"]
