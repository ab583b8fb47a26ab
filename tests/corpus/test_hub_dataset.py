"""Datasets that `datasets` loads as corpora: columns, names of clips, splits, and our own datasets as they were."""

import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from datasets import Audio, ClassLabel, Dataset, DatasetDict, Features, Value
from dataset_repos import folds_of
from runner import ROOT
from vivae_copies import CLIP

from hf_vivae.corpus import CorpusError, load_corpus, load_hub_dataset, read_hub_dataset
from hf_vivae.corpus.arguments import CorpusArguments
from hf_vivae.corpus.schema import Corpus, corpus_digest
from hf_vivae.splits import make_folds
from hf_vivae.splits.protocols import PROTOCOLS
from hf_vivae.validation import UserError

SOUNDS = [{"bytes": CLIP, "path": f"{row}.wav"} for row in range(4)]
LABELS = ["joy", "fear", "joy", "fear"]


def write_parquet(path: Path, features: dict | None = None, **columns: list) -> str:
    """Write a Parquet file with the sounds `SOUNDS` in the column `audio`, and others; its path."""
    columns = {"audio": SOUNDS[: len(next(iter(columns.values()), SOUNDS))]} | columns
    types = Features({"audio": Audio(), **(features or {})}) if features else None
    table = pa.Table.from_pydict(columns, schema=types and types.arrow_schema)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    return str(path)


def refused(name: str | Path | None, sentence: str, **arguments) -> None:
    with pytest.raises(UserError, match=sentence):
        read_hub_dataset(name if name is None else str(name), **arguments)


class TestOurOwn:
    """Datasets that `push.py --dataset` writes."""

    @pytest.fixture(scope="class")
    def back(self, dataset_repos) -> dict[str, Corpus]:
        return {name: read_hub_dataset(str(folder)) for name, (_, folder) in dataset_repos.items()}

    @pytest.mark.parametrize("name", ["vivae", "synthetic", "folder"])
    def test_digest_and_columns_are_those_that_were_pushed(self, name, back, dataset_repos):
        corpus, read = dataset_repos[name][0], back[name]
        labels = corpus.dataset["emotion"][:]
        assert read.dataset["emotion"][:] == labels
        assert corpus_digest(read, labels) == corpus_digest(corpus, labels)
        assert read.problems == ()
        columns = [column for column in corpus.dataset.column_names if column != "audio"]
        assert read.dataset.select_columns(columns).to_list() == corpus.dataset.select_columns(columns).to_list()
        assert read.dataset.remove_columns("split").features == corpus.dataset.features

    @pytest.mark.parametrize("protocol", [name for name in PROTOCOLS if name != "given"])
    def test_the_folds_are_those_that_were_pushed(self, protocol, back, dataset_repos):
        try:
            folds = folds_of(dataset_repos["synthetic"][0], protocol)
        except UserError:  # of speakers that these clips lack
            pytest.skip("the protocol cannot divide these clips")
        assert folds_of(back["synthetic"], protocol) == folds

    def test_the_given_splits_are_the_parts_of_the_first_fold(self, back, dataset_repos, caplog):
        (given,) = folds_of(back["synthetic"], "given")
        first = folds_of(dataset_repos["synthetic"][0], "speaker-k-fold")[0]
        assert (given.train, given.validation, given.test) == (first.train, first.validation, first.test)
        assert caplog.records == []

    def test_synthetic_clips_stay_synthetic_and_others_have_the_name_of_the_dataset(self, back, dataset_repos):
        assert {name: corpus.name for name, corpus in back.items()} == {
            "synthetic": "synthetic",
            "vivae": "vivae-dataset",  # 48 clips are not the corpus
            "folder": "folder-dataset",
        }
        assert {name: corpus.license for name, corpus in back.items()} == {
            "synthetic": "apache-2.0", "vivae": "cc-by-nc-4.0", "folder": "cc-by-sa-4.0",
        }  # fmt: skip

    def test_synthetic_clips_are_recognized_in_a_file_without_card_and_a_few_by_the_card(
        self, dataset_repos, tmp_path
    ):
        folder = dataset_repos["synthetic"][1]
        (file,) = (folder / "data").glob("test-*")
        assert read_hub_dataset(str(file)).name == "synthetic"
        table = pq.read_table(file)
        few = table.take([0, *[row for row, label in enumerate(table["emotion"].to_pylist()) if label][:8]])
        shutil.copy(folder / "README.md", tmp_path)
        card = re.sub(r"dataset_info:.*?(?=configs:)", "", (folder / "README.md").read_text(), flags=re.DOTALL)
        card = re.sub(r"configs:.*?---", "---", card, flags=re.DOTALL)
        (tmp_path / "README.md").write_text(card)
        pq.write_table(few, tmp_path / "test.parquet")
        assert len(few) == 9
        assert read_hub_dataset(str(tmp_path)).name == "synthetic"

    def test_the_whole_of_vivae_has_its_name(self, whole_vivae, short_vivae, tmp_path):
        from dataset_repos import write

        from hf_vivae.corpus import read_vivae

        corpus = read_vivae(whole_vivae)
        # copies of one sound, which no protocol divides: all clips in one file
        rows = [row | {"audio": {"bytes": CLIP, "path": row["file"]}} for row in corpus.dataset]
        path = tmp_path / "clips.parquet"
        pq.write_table(pa.Table.from_pylist(rows, schema=corpus.dataset.features.arrow_schema), path)
        assert read_hub_dataset(str(path)).name == "vivae"
        assert write

    def test_a_run_has_the_same_predictions(self, dataset_repos, tmp_path):
        from hf_vivae.training.recipes import parse_run
        from hf_vivae.training.run import train

        corpus, folder = dataset_repos["synthetic"]
        argv = ["--model", "logistic-regression", "--protocol", "speaker-k-fold", "--folds", "0"]
        argv += ["--data", "hub", "--dataset_name", str(folder), "--disable_tqdm", "true", "--output_dir"]
        results = [
            train(*parse_run([*argv, str(tmp_path / name)], ROOT / "recipes"), *given)
            for name, given in (("pushed", (corpus,)), ("read", ()))
        ]
        first, second = (pq.read_table(folders[0] / "predictions.parquet") for _, folders in results)
        assert first == second
        assert results[1][0]["data"] == "synthetic"
