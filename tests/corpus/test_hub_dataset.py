"""Datasets that `datasets` loads as corpora: columns, names of clips, splits, and our own datasets as they were."""

import json
import re
import shutil
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from dataset_repos import CARDS, folds_of
from datasets import Audio, ClassLabel, Dataset, DatasetDict, Features, Value
from huggingface_hub import constants
from runner import ROOT
from tiny import CONFIGS
from vivae_copies import CLIP, wave

from hf_vivae.corpus import CorpusError, load_corpus, load_hub_dataset, read_hub_dataset, read_vivae
from hf_vivae.corpus.arguments import CorpusArguments
from hf_vivae.corpus.schema import Corpus, corpus_digest
from hf_vivae.evaluation.runs import EvaluationSet
from hf_vivae.files import read_json
from hf_vivae.hub.dataset import write_dataset_repo
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


@pytest.fixture(scope="module")
def back(dataset_repos) -> dict[str, Corpus]:
    """Each of `dataset_repos` as a corpus."""
    return {name: read_hub_dataset(str(folder)) for name, (_, folder) in dataset_repos.items()}


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> Path:
    """A dataset with two splits, one with two configurations, and folders and files that are none."""
    root = tmp_path_factory.mktemp("places")
    for split in ("train", "test"):
        write_parquet(root / "set" / f"{split}.parquet", label=LABELS)
    (root / "text.parquet").write_text("no table")
    (root / "empty").mkdir()
    (root / "cut").mkdir()
    (root / "cut" / "train.parquet").write_bytes((root / "set" / "train.parquet").read_bytes()[:-40])
    for config in ("de", "en"):
        write_parquet(root / "several" / f"{config}.parquet", label=LABELS)
    configs = "".join(f"- config_name: {config}\n  data_files: {config}.parquet\n" for config in ("de", "en"))
    (root / "several" / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    return root


def refused(name: str | Path | None, sentence: str, **arguments) -> None:
    with pytest.raises(UserError, match=sentence):
        read_hub_dataset(name if name is None else str(name), **arguments)


class TestOurOwn:
    """Datasets that `push.py --dataset` writes."""

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

    def test_the_folds_are_those_that_were_pushed(self, back, dataset_repos):
        folds = {}
        for protocol in PROTOCOLS.keys() - {"given"}:
            with suppress(UserError):  # of a protocol that cannot divide the clips of six speakers
                folds[protocol] = folds_of(dataset_repos["synthetic"][0], protocol)
        assert len(folds) >= 7
        assert {protocol: folds_of(back["synthetic"], protocol) for protocol in folds} == folds

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

    def test_vivae_keeps_its_name_only_where_it_is_whole(self, whole_vivae, short_vivae, tmp_path):
        corpus = read_vivae(whole_vivae)
        table = pa.Table.from_pylist([*corpus.dataset], schema=corpus.dataset.features.arrow_schema)
        sounds = pa.array([{"bytes": CLIP, "path": None}] * len(table), table.schema.field("audio").type)
        table = table.set_column(0, table.schema.field("audio"), sounds)
        names = {}
        for name, rows in (("whole", table), ("part", table.slice(0, 20))):
            pq.write_table(rows, tmp_path / f"{name}.parquet")
            names[name] = read_hub_dataset(str(tmp_path / f"{name}.parquet")).name
        assert names == {"whole": "vivae", "part": "part"}

    def test_a_run_has_the_same_predictions(self, dataset_repos, tmp_path):
        from hf_vivae.training.recipes import parse_run
        from hf_vivae.training.run import train

        corpus, folder = dataset_repos["synthetic"]
        argv = ["--model", "logistic-regression", "--model_config", json.dumps(CONFIGS["logistic-regression"])]
        argv += ["--protocol", "speaker-k-fold", "--folds", "0"]
        argv += ["--data", "hub", "--dataset_name", str(folder), "--disable_tqdm", "true", "--output_dir"]
        results = [
            train(*parse_run([*argv, str(tmp_path / name)], ROOT / "recipes"), *given)
            for name, given in (("pushed", (corpus,)), ("read", ()))
        ]
        first, second = (pq.read_table(folders[0] / "predictions.parquet") for _, folders in results)
        assert first == second
        assert results[1][0]["data"] == "synthetic"
        record = results[1][1][0] / "run.json"
        assert read_json(record)["corpus"]["license"] == "apache-2.0"
        again, _ = parse_run(["--config", str(record)], ROOT / "recipes")
        assert (again.data, again.dataset_name) == ("hub", str(folder))

    def test_a_dataset_is_pushed_again_with_other_splits_and_its_licence(self, back, tmp_path):
        with pytest.raises(UserError, match="because the card of the dataset folder-dataset states it"):
            write_dataset_repo(back["folder"], "given", 0, CARDS, "someone/again", "mit", tmp_path)
        write_dataset_repo(back["folder"], "random-80-20", 1, CARDS, "someone/again", "cc-by-sa-4.0", tmp_path)
        again = read_hub_dataset(str(tmp_path))
        labels = back["folder"].dataset["emotion"][:]
        assert corpus_digest(again, labels) == corpus_digest(back["folder"], labels)
        assert again.dataset["split"][:] != back["folder"].dataset["split"][:]


class TestColumns:
    def test_the_only_candidates_are_read_at_several_rates_and_formats(self, tmp_path):
        files = []
        for number, (name, rate) in enumerate([("b.flac", 16000), ("a.ogg", 22050), ("c.wav", 8000)]):
            soundfile.write(tmp_path / name, np.full((800, 2), 0.1 * number), rate)
            files.append({"bytes": (tmp_path / name).read_bytes(), "path": f"wavs/{name}"})
        features = {
            "emotion": ClassLabel(names=["joy", "none", "fear"]),
            "speaker_id": Value("int32"),
            "text": Value("string"),
        }
        columns = {"emotion": [2, 0, 2], "speaker_id": [7, 10, None], "text": ["a", "b", "c"], "audio": files}
        corpus = read_hub_dataset(write_parquet(tmp_path / "my clips.parquet", features, **columns))
        rows = [{**row, "audio": None} for row in corpus.dataset]
        empty = {"audio": None, "intensity": None, "core": None}
        assert rows == [
            {"file": "a.ogg", "speaker": "10", "emotion": 0, "item": "a", "duration": 800 / 22050, **empty},
            {"file": "b.flac", "speaker": "7", "emotion": 1, "item": "b", "duration": 0.05, **empty},
            {"file": "c.wav", "speaker": None, "emotion": 1, "item": "c", "duration": 0.1, **empty},
        ]
        assert corpus.dataset.features["emotion"].names == ["joy", "fear"], "in their order, without one of no clip"
        assert corpus.dataset.features["audio"].sampling_rate is None
        assert (corpus.name, corpus.license) == ("my clips", None)
        assert load_hub_dataset(str(tmp_path / "my clips.parquet")).to_list() == corpus.dataset.to_list()

    def test_labels_may_be_texts_or_numbers_and_are_sorted(self, tmp_path):
        named = write_parquet(tmp_path / "texts.parquet", category=[" joy", "fear", "e\u0301", "joy"])
        assert read_hub_dataset(named).dataset.features["emotion"].names == ["fear", "joy", "\xe9"]
        numbers = write_parquet(tmp_path / "numbers.parquet", label=[10, 9, 10, 9])
        assert read_hub_dataset(numbers).dataset.features["emotion"].names == ["9", "10"]

    def test_clips_without_names_of_their_own_have_split_and_row(self, tmp_path):
        for split in ("train", "test"):
            sounds = [{"bytes": CLIP, "path": "audio.wav"}] * 2
            write_parquet(tmp_path / "set" / f"{split}.parquet", label=LABELS[:2], audio=sounds)
        corpus = read_hub_dataset(str(tmp_path / "set"))
        assert corpus.dataset["file"][:] == ["test-0", "test-1", "train-0", "train-1"]
        assert corpus.dataset["split"][:] == ["test", "test", "train", "train"]
        assert read_hub_dataset(str(tmp_path / "set"), split="test").dataset["file"][:] == ["test-0", "test-1"]

    def test_names_of_a_column_file_win_unless_they_lead_elsewhere(self, tmp_path):
        named = write_parquet(tmp_path / "named.parquet", label=LABELS, file=["d/1", "d/2", "e/1", "e/2"])
        assert read_hub_dataset(named).dataset["file"][:] == ["d/1", "d/2", "e/1", "e/2"]
        outside = write_parquet(tmp_path / "outside.parquet", label=LABELS, file=["../1", "2", "3", "4"])
        assert read_hub_dataset(outside).dataset["file"][:] == ["0.wav", "1.wav", "2.wav", "3.wav"]

    @pytest.mark.parametrize(
        ("columns", "arguments", "sentence"),
        [
            (
                {"audio": [1] * 4, "label": LABELS},
                {},
                "expected a column of audio in .*, found none that looks like one; its columns are audio, label, name "
                "one with --audio_column if it has audio",
            ),
            (
                {"clean": SOUNDS, "label": LABELS},
                {},
                r"expected one column of audio in .*, found 2 \(audio, clean\); name one with --audio_column",
            ),
            (
                {"mood": LABELS},
                {},
                "expected a column of labels in .*, found none .*; its columns are audio, mood, name",
            ),
            (
                {"label": LABELS, "emotion": LABELS},
                {},
                r"expected one column of labels in .*, found 2 \(label, emotion\); name one with --label_column",
            ),
            (
                {"label": LABELS, "actor": LABELS, "speaker": LABELS},
                {},
                r"expected one column of speakers in .*, found 2 \(actor, speaker\); name one with --speaker_column",
            ),
            (
                {"label": LABELS},
                {"label_column": "lable"},
                r"expected a column of .* with --label_column, found 'lable' \(did you mean label\?\); its columns",
            ),
            (
                {"label": LABELS},
                {"audio_column": "label"},
                "expected a column of audio with --audio_column, found 'label' of .*, which has the type Value",
            ),
            (
                {"label": [0.5, 1.5, 0.5, 1.5]},
                {"label_column": "label"},
                "expected a column of labels with --label_column, found 'label' of .*, which has the type Value",
            ),
            (
                {"label": ["joy", None, "nan", "fear"]},
                {},
                r"expected a label in the column label of .* for each of 4 clips, found none for 2 \(first: 1.wav, "
                r"splits: all\); choose a split that has labels with --dataset_split",
            ),
            (
                {"label": ["joy"] * 4},
                {},
                "expected clips of at least two labels in the column label of .*, found joy; name another with",
            ),
        ],
    )
    def test_columns_that_are_absent_or_ambiguous_are_sentences(self, columns, arguments, sentence, tmp_path):
        refused(write_parquet(tmp_path / "clips.parquet", **columns), f"^{sentence}", **arguments)

    def test_the_flags_choose_among_several_columns(self, tmp_path):
        columns = {"label": LABELS, "emotion": list("abab"), "actor": list("xyxy"), "speaker": LABELS, "clean": SOUNDS}
        path = write_parquet(tmp_path / "clips.parquet", **columns)
        corpus = load_corpus(
            "hub", dataset_name=path, audio_column="clean", label_column="emotion", speaker_column="actor"
        )
        assert corpus.dataset.features["emotion"].names == ["a", "b"]
        assert corpus.dataset["speaker"][:] == list("xyxy")

    def test_unpublished_labels_of_a_test_split_are_counted(self, tmp_path):
        features = {"label": ClassLabel(names=["joy", "fear"])}
        write_parquet(tmp_path / "train.parquet", features, label=[0, 1, 0, 1])
        write_parquet(tmp_path / "test.parquet", features, label=[-1, -1])
        refused(tmp_path, r"for each of 6 clips, found none for 2 \(first: test-0, splits: test\); choose a split")
        assert len(read_hub_dataset(str(tmp_path), split="train").dataset) == 4


class TestAudio:
    def test_unusable_clips_are_all_named_or_left_out(self, tmp_path):
        sounds = [*SOUNDS[:2], {"bytes": CLIP[:60], "path": "cut.wav"}, {"bytes": b"", "path": "empty.wav"}, None]
        path = write_parquet(tmp_path / "clips.parquet", audio=sounds, label=[*LABELS, "joy"])
        with pytest.raises(
            CorpusError, match=r"^expected only usable clips in .*, found 3 bad audio .*--on_bad_audio skip"
        ) as error:
            read_hub_dataset(path)
        names = ["all-2", "all-3", "all-4"]
        assert [problem.split(":")[1].strip() for problem in error.value.problems] == names
        corpus = read_hub_dataset(path, on_bad_audio="skip")
        assert corpus.problems == error.value.problems
        assert corpus.dataset["file"][:] == ["all-0", "all-1"]
        assert corpus.dataset["duration"][:] == [0.05, 0.05]

    def test_a_folder_of_audio_files_and_its_archive_need_no_ffmpeg(self, tmp_path):
        lines = ["file_name,label"]
        (tmp_path / "folder").mkdir()
        with zipfile.ZipFile(tmp_path / "clips.zip", "w") as archive:
            for row, label in enumerate(LABELS):
                (tmp_path / "folder" / label).mkdir(exist_ok=True)
                (tmp_path / "folder" / label / f"{row}.wav").write_bytes(CLIP)
                archive.writestr(f"x/{row}.wav", CLIP)
                lines.append(f"x/{row}.wav,{label}")
            archive.writestr("metadata.csv", "\n".join(lines))
        (tmp_path / "zipped").mkdir()
        (tmp_path / "clips.zip").rename(tmp_path / "zipped" / "clips.zip")
        digests = set()
        for name in ("folder", "zipped"):
            corpus = read_hub_dataset(str(tmp_path / name))
            assert corpus.dataset["file"][:] == ["0.wav", "1.wav", "2.wav", "3.wav"]
            assert [corpus.dataset.features["emotion"].names[index] for index in corpus.dataset["emotion"]] == LABELS
            digests.add(corpus_digest(corpus, corpus.dataset["emotion"][:]))
        assert len(digests) == 1

    def test_paths_to_other_files_are_not_followed(self, tmp_path):
        (tmp_path / "secret.wav").write_bytes(CLIP)
        sounds = [*SOUNDS[:3], {"bytes": None, "path": str(tmp_path / "secret.wav")}]
        path = write_parquet(tmp_path / "set" / "clips.parquet", label=LABELS, audio=sounds)
        with pytest.raises(
            CorpusError, match=r"found 1 outside the dataset .*secret.wav.*; write the dataset with the bytes"
        ):
            read_hub_dataset(path, on_bad_audio="skip")
        inside = write_parquet(tmp_path / "clips.parquet", label=LABELS, audio=sounds)
        assert len(read_hub_dataset(inside).dataset) == 4

    def test_the_sound_is_not_copied_into_memory(self, tmp_path):
        big = {"bytes": wave(seconds=5), "path": None}
        path = write_parquet(tmp_path / "clips.parquet", label=LABELS * 5, audio=[big] * 20)
        read_hub_dataset(path)  # makes the cache
        before = pa.total_allocated_bytes()
        corpus = read_hub_dataset(path)
        assert pa.total_allocated_bytes() - before < len(big["bytes"])
        assert len(corpus.dataset) == 20


class TestPlaces:
    def test_a_saved_dataset_is_loaded_with_and_without_splits(self, tmp_path):
        rows = Dataset.from_dict({"audio": SOUNDS, "label": LABELS}).cast_column("audio", Audio())
        rows.save_to_disk(tmp_path / "rows")
        DatasetDict({"train": rows, "test": rows.select([0, 1])}).save_to_disk(tmp_path / "splits")
        assert "split" not in read_hub_dataset(str(tmp_path / "rows")).dataset.column_names
        assert len(read_hub_dataset(str(tmp_path / "splits")).dataset) == 6

    def test_the_name_is_a_hub_id_or_the_real_path(self, tmp_path, monkeypatch):
        write_parquet(tmp_path / "sets" / "my.clips" / "train.parquet", label=LABELS)
        monkeypatch.chdir(tmp_path)
        local = CorpusArguments(data="hub", dataset_name="sets/my.clips")
        assert local.dataset_name == str(tmp_path / "sets" / "my.clips")
        assert local.folder_name == local.load().name == "my.clips"
        remote = CorpusArguments(data="hub", dataset_name="owner/my.clips")
        assert (remote.dataset_name, remote.folder_name) == ("owner/my.clips", "owner--my.clips")
        assert CorpusArguments(data="synthetic").folder_name == "synthetic"
        clips = EvaluationSet("owner/my.clips", 4, "emotion", "given", 1, "0123456789abcdef")
        assert clips.slug == "owner--my.clips-emotion-given-1-01234567", "a name of one folder"

    @pytest.mark.parametrize(
        ("name", "arguments", "sentence"),
        [
            (
                None,
                {},
                "expected a Hub id, folder or Parquet file with --data hub, found none; give it with --dataset_name",
            ),
            (
                "clips",
                {},
                r"expected a folder, a Parquet file or a Hub id \(owner/name\) as --dataset_name, found 'clips'",
            ),
            ("a/b/c", {}, "expected a folder, a Parquet file or a Hub id .*, found 'a/b/c'; check the spelling"),
            (
                "owner/clips",
                {},
                "expected a copy of the dataset owner/clips in the cache, since HF_HUB_OFFLINE is set, found none",
            ),
            (
                "owner/clips",
                {"revision": "v1"},
                "expected the Hub for --dataset_revision v1, found HF_HUB_OFFLINE=1, with which the newest copy",
            ),
        ],
    )
    def test_names_of_nothing_are_sentences(self, name, arguments, sentence):
        refused(name, f"^{sentence}", **arguments)

    def test_a_hub_that_does_not_answer_is_a_sentence(self, monkeypatch):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        refused(
            "owner/clips",
            r"^expected the Hub for the dataset owner/clips, found no connection to 127.0.0.1 \(.*\); check the "
            "network, or set HF_HUB_OFFLINE=1 to read a copy in the cache.$",
        )

    @pytest.mark.parametrize(
        ("name", "arguments", "sentence"),
        [
            (
                "set",
                {"split": "tset"},
                r"expected one of the splits train, test of .* as --dataset_split, found 'tset' \(did",
            ),
            (
                "set",
                {"config": "en"},
                r"expected a configuration of .* as --dataset_config \(default\), found 'en'; give",
            ),
            (
                "set",
                {"revision": "v1"},
                "expected a Hub id with --dataset_revision, found .* on the disk; leave out one",
            ),
            ("set", {"on_bad_audio": "x"}, "expected --on_bad_audio to be one of error, skip, found 'x'"),
            (
                "set/train.parquet",
                {"config": "en"},
                "expected --dataset_config with a dataset of several configurations, found",
            ),
            (
                "text.parquet",
                {},
                "expected a folder, a Parquet file or a Hub id .*, found another file at .*; give the folder",
            ),
            ("empty", {}, "expected files of a dataset in .*empty, found none that `datasets` loads; give the folder"),
            ("cut", {}, r"expected files in .*cut that `datasets` can load, found others \(.*\); correct them"),
            (
                "several",
                {},
                r"expected a configuration of .* as --dataset_config \(de, en\), found none; give one of them",
            ),
        ],
    )
    def test_places_without_a_dataset_are_sentences(self, name, arguments, sentence, places):
        refused(places / name, f"^{sentence}", **arguments)

    def test_one_of_several_configurations_is_read(self, places):
        assert len(read_hub_dataset(str(places / "several"), config="en").dataset) == 4
