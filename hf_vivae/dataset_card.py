"""The card of a dataset repository: metadata as `datasets` writes them, and text from a template."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from .corpus.schema import INTENSITIES, Corpus, first_names
from .evaluation.tables import Table, plain
from .folds import Fold
from .protocols import PROTOCOLS
from .templates import open_templates
from .version import __version__

if TYPE_CHECKING:
    from datasets import Dataset, DatasetInfo

REST = "rest"  # the split of the clips that the first fold leaves out
UNKNOWN = "unknown"
MAY_BE_EMPTY = ("speaker", "intensity", "core")  # columns of which nothing may be known
MOST_SPEAKERS, MOST_PROBLEMS = 40, 50  # that a card names one by one
TITLES = {
    "vivae": "VIVAE, repackaged as Parquet",
    "vivae-core": "Core set of VIVAE, repackaged as Parquet",
    "synthetic": "Synthetic clips under VIVAE's file names",
    "noise": "White noise under VIVAE's file names",
}
TAGS = {
    "vivae": ["emotion-recognition", "vivae"],
    "vivae-core": ["emotion-recognition", "vivae"],
    "synthetic": ["emotion-recognition", "synthetic"],
    "noise": ["emotion-recognition", "synthetic", "noise"],
}
# https://github.com/huggingface/hub-docs/blob/main/datasetcard.md: rows, and the name of the sizes from there on
SIZES = {
    0: "n<1K", 1_000: "1K<n<10K", 10_000: "10K<n<100K", 100_000: "100K<n<1M", 1_000_000: "1M<n<10M",
}  # fmt: skip
OF_OURS = re.compile(r"the protocol `[^`]+` of hf_vivae ")  # stands in every card of `dataset.md`
ABSOLUTE_PATH = re.compile(r"(?<![\w.)])/\S.*")


@dataclass(frozen=True)
class Division:
    """A corpus in splits.

    Args:
        protocol: a key of `PROTOCOLS`.
        seed: of the protocol.
        folds: all folds of the protocol.
        rows: row indices of each split: the parts of the first fold and, where it leaves clips out, `rest`.
    """

    protocol: str
    seed: int
    folds: tuple[Fold, ...]
    rows: Mapping[str, tuple[int, ...]]

    def tested(self) -> dict[int, str]:
        """Name of the fold that tests a row, for each row that one does."""
        return {row: fold.name for fold in self.folds for row in fold.test}


def render_dataset_card(
    cards: Path,
    repo: str,
    license: str,
    corpus: Corpus,
    division: Division,
    info: DatasetInfo,
    files: Mapping[str, Sequence[str]],
) -> str:
    """README.md of a dataset repository.

    Args:
        cards: folder with the template `dataset.md`.
        repo: id of the repository.
        license: identifier of the Hub's list.
        corpus: the clips; its problems are listed, without the folders that they were found in.
        division: its splits.
        info: features and sizes.
        files: paths in the repository for each split.
    """
    facts = _facts(corpus, division)
    title = TITLES.get(corpus.name, repo.rpartition("/")[2])
    metadata = _metadata(corpus, title, license, info, files)
    return (
        open_templates(cards)
        .get_template("dataset.md")
        .render(metadata=metadata, title=title, repo=repo, license=license, version=__version__, **facts)
    )


def _metadata(corpus: Corpus, title: str, license: str, info: DatasetInfo, files: Mapping[str, Sequence[str]]) -> str:
    from datasets.info import DatasetInfosDict
    from datasets.utils.metadata import MetadataConfigs
    from huggingface_hub import DatasetCardData

    data = DatasetCardData(
        language=None if corpus.name == "folder" else ["zxx"],  # ISO 639-3: no linguistic content
        license=license,
        pretty_name=title,
        task_categories=["audio-classification"],
        size_categories=[SIZES[max(size for size in SIZES if size <= len(corpus.dataset))]],
        tags=["audio", "nonverbal-vocalization", *TAGS.get(corpus.name, [])],
    )
    DatasetInfosDict({"default": info}).to_dataset_card_data(data)
    # Each file by its name: what an earlier push with other shards has left there is not read.
    splits = [{"split": split, "path": list(paths)} for split, paths in files.items()]
    MetadataConfigs({"default": {"data_files": splits}}).to_dataset_card_data(data)
    return data.to_yaml()


def _facts(corpus: Corpus, division: Division) -> dict[str, Any]:
    dataset = corpus.dataset
    names = {column: _names(dataset, column) for column in ("emotion", "intensity", "speaker")}
    emotions = dataset.features["emotion"].names
    speakers = sorted(set(names["speaker"]) - {UNKNOWN})
    return {
        "kind": corpus.name,
        "clips": len(dataset),
        "minutes": f"{sum(dataset['duration'][:]) / 60:.1f}",
        "rate": dataset.features["audio"].sampling_rate,
        "emotions": [plain(emotion) for emotion in emotions],
        "speakers": len(speakers),
        "empty": [column for column in MAY_BE_EMPTY if set(dataset[column]) == {None}],
        "fold_names": [fold.name for fold in division.folds],
        "protocol": division.protocol,
        "header": PROTOCOLS[division.protocol],
        "seed": division.seed,
        "rest": REST in division.rows,
        "split_table": _split_table(dataset, division, names["speaker"]).to_markdown().strip(),
        "count_tables": [table.to_markdown().strip() for table in _count_tables(names, emotions, speakers)],
        "problems": [plain(_without_folders(problem)) for problem in corpus.problems[:MOST_PROBLEMS]],
        "num_problems": len(corpus.problems),
    }


def _names(dataset: Dataset, column: str) -> list[str]:
    """Value of a column in each row as a name, `(rows,)`."""
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


def _count_tables(names: Mapping[str, Sequence[str]], emotions: Sequence[str], speakers: Sequence[str]) -> list[Table]:
    tables = [_crosstab(names, "emotion", emotions, "intensity", INTENSITIES)]
    if 0 < len(speakers) <= MOST_SPEAKERS:
        tables.append(_crosstab(names, "speaker", speakers, "emotion", emotions))
    return tables


def _crosstab(
    names: Mapping[str, Sequence[str]],
    down: str,
    down_names: Sequence[str],
    across: str,
    across_names: Sequence[str],
) -> Table:
    """Clips for each pair of names, with sums; names that no clip has get no column, nor has what no clip tells."""
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


def _without_folders(problem: str) -> str:
    """A line about a file without the folders of the machine that it lay on."""
    return ABSOLUTE_PATH.sub(lambda path: PurePath(path[0]).name, problem)
