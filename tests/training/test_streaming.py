"""Encoders that train from Parquet shards without a local copy: the same clips, order, resume, and damaged shards."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from datasets import Audio, ClassLabel, Features, Value
from encoders import write_encoder
from predicting import sound
from runner import ROOT, TRAIN, run, script
from safetensors.torch import load_file

from hf_vivae.checkpoints.load import load_encoder
from hf_vivae.corpus import hub_shards, read_hub_dataset
from hf_vivae.corpus.hub_shards import ShardedRows, ShardError, read_shards
from hf_vivae.evaluation.rescore import read_used_digests
from hf_vivae.features.cache import build_features
from hf_vivae.features.streamed import StreamedClips, shuffle_shards
from hf_vivae.files import read_json
from hf_vivae.hub.model_card import render_card
from hf_vivae.hub.publication import find_publication
from hf_vivae.run_folder import finished_results, read_predictions
from hf_vivae.training import build, streaming
from hf_vivae.training.recipes import parse_run
from hf_vivae.training.trainer import VivaeTrainer
from hf_vivae.validation import UserError

pytestmark = pytest.mark.usefixtures("no_pictures")

TYPES = {
    "audio": Audio(),
    "label": ClassLabel(names=["joy", "fear"]),
    "speaker": Value("string"),
    "file": Value("string"),
}
SHARDS = {"train": (12, 9, 8), "validation": (6,), "test": (5, 5)}  # clips of each
GROUP = 4  # clips of a row group


def rows_of(split: str, shard: int, clips: int) -> list[dict]:
    start = 100 * [*SHARDS].index(split) + 20 * shard
    return [
        {
            "audio": {"bytes": sound(start + row, 16000 if row else 8000, 0.1 + 0.01 * row), "path": None},
            "label": (shard + row) % 2,
            "speaker": f"{split}-{row % 3}",
            "file": f"{split}/{start + row}.wav",
        }
        for row in range(clips)
    ]


def write_shard(file: Path, rows: list[dict], **changed) -> None:
    features = Features(TYPES | changed)
    pq.write_table(pa.Table.from_pylist(rows, schema=features.arrow_schema), file, row_group_size=GROUP)


def name_of(split: str, shard: int) -> str:
    return f"{split}-{shard:05d}-of-{len(SHARDS[split]):05d}.parquet"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    """A dataset of three splits in six shards."""
    folder = tmp_path_factory.mktemp("sharded")
    for split, sizes in SHARDS.items():
        for shard, clips in enumerate(sizes):
            write_shard(folder / name_of(split, shard), rows_of(split, shard, clips))
    return folder


@pytest.fixture
def copy(dataset, tmp_path) -> Path:
    """The same, for a test to change."""
    return shutil.copytree(dataset, tmp_path / "copy")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("encoder") / "small", "group norm")


def arguments(dataset: Path | str, encoder: Path, output: Path, *more: str) -> list[str]:
    values = {
        "--model": f"encoder:{encoder}", "--data": "hub", "--dataset_name": str(dataset), "--select_on": "validation",
        "--num_train_epochs": "2", "--per_device_train_batch_size": "8", "--learning_rate": "1e-3",
        "--output_dir": str(output), "--disable_tqdm": "true",
    }  # fmt: skip
    return [*(part for pair in values.items() for part in pair), "--streaming", *more]


@pytest.fixture(scope="module")
def trained(dataset, encoder, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streaming, "SHUFFLE_CLIPS", 10)  # so that an epoch has two windows
        run(arguments(dataset, encoder, folder))
    return folder


class TestRun:
    def test_the_run_folder_has_the_scores_of_validation_and_test(self, trained, dataset):
        record, results = read_json(trained / "run.json"), finished_results(trained)
        assert record["run"]["streaming"] is True
        assert record["run"]["protocol"] == "given"
        assert record["corpus"]["clips"] == 45
        assert [len(record["fold"][part]) for part in ("train", "validation", "test")] == [0, 6, 10]
        rows = read_predictions(trained)
        corpus = read_hub_dataset(str(dataset)).dataset
        assert [row["split"] for row in rows] == ["validation"] * 6 + ["test"] * 10
        known = {clip["file"]: clip for clip in corpus}
        for row in rows:
            clip = known[row["file"]]
            assert (row["speaker"], row["label"], row["duration"]) == (
                clip["speaker"],
                clip["emotion"],
                pytest.approx(clip["duration"]),
            )
            assert len(row["digest"]) == 16
        train = [clip["emotion"] for clip in corpus if clip["split"] == "train"]
        majority = results["test"]["majority"]
        assert majority["label"] == ("joy" if train.count(0) > train.count(1) else "fear")
        assert "train" not in results
        steps = [json.loads(line) for line in (trained / "history.jsonl").read_text().splitlines()]
        assert max(entry["step"] for entry in steps) == 2 * 4, "29 clips are four steps of 8 at most"

    def test_a_finished_run_is_not_trained_again(self, trained, dataset, encoder, caplog):
        run(arguments(dataset, encoder, trained))
        assert "is finished and not trained again" in caplog.text

    def test_evaluate_reads_it(self, trained, tmp_path):
        script(ROOT / "recipes" / "evaluate.py").main([str(trained), "--output_dir", str(tmp_path / "out")])
        assert "sharded" in (tmp_path / "out" / "report.md").read_text()

    def test_its_card_counts_the_training_clips(self, trained):
        card = render_card(ROOT / "model_cards", "someone/streamed", find_publication(trained))
        assert "trained on 29 clips and tested on 10 clips" in card

    def test_scores_on_other_clips_are_refused(self, trained):
        """The clips that it has seen are not known, and some of them may be among the others."""
        with pytest.raises(
            UserError, match=r"^expected the digests of the training clips .*; score clips that it has"
        ):
            read_used_digests(trained)

    def test_a_run_that_is_killed_ends_as_one_that_was_not(self, trained, dataset, encoder, tmp_path, monkeypatch):
        """Killed within the first epoch, and in the middle of a window."""
        monkeypatch.setattr(streaming, "SHUFFLE_CLIPS", 10)
        save, argv = VivaeTrainer._save_checkpoint, arguments(dataset, encoder, tmp_path)
        steps = ["--save_strategy", "steps", "--save_steps", "3", "--eval_strategy", "steps", "--eval_steps", "3"]

        def save_and_die(self, *args) -> None:
            save(self, *args)
            raise KeyboardInterrupt

        with monkeypatch.context() as killing:
            killing.setattr(VivaeTrainer, "_save_checkpoint", save_and_die)
            with pytest.raises(KeyboardInterrupt):
                run([*argv, *steps, "--load_best_model_at_end", "false"])
        whole = tmp_path / "whole"
        run([*arguments(dataset, encoder, whole), *steps, "--load_best_model_at_end", "false"])
        read, sounds = [], ShardedRows.read
        monkeypatch.setattr(ShardedRows, "read", lambda self, rows: read.append(len(rows)) or sounds(self, rows))
        run([*argv, *steps, "--load_best_model_at_end", "false"])
        described = predicted = 16
        assert sum(read) <= described + 1 + 2 * 29 - 3 * 8 + 2 * 6 + predicted, "trained clips are not read again"
        one, other = (load_file(folder / "model.safetensors") for folder in (whole, tmp_path))
        torch.testing.assert_close(other, one, atol=0, rtol=0)
        assert read_predictions(whole) == read_predictions(tmp_path)


@pytest.mark.slow
def test_two_processes_give_the_scores_of_one(dataset, tmp_path):
    """Each reads all shards and computes every other batch; 29 clips leave a last step that the two share unevenly."""
    whisper = write_encoder(tmp_path / "whisper", "whisper")
    common = ["--optim", "sgd", "--learning_rate", "0.1", "--head_learning_rate", "0.5"]
    common += ["--model_config", '{"head_dropout": 0.0}', "--per_device_train_batch_size"]
    run([*arguments(dataset, whisper, tmp_path / "one"), *common, "8"])
    argv = [*arguments(dataset, whisper, tmp_path / "two"), *common, "4"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(TRAIN)]
    done = subprocess.run([*launcher, *argv], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    one, two = (read_predictions(tmp_path / name) for name in ("one", "two"))
    assert [row["file"] for row in one] == [row["file"] for row in two]
    ours, theirs = ([row["logits"] for row in rows] for rows in (one, two))
    torch.testing.assert_close(theirs, ours, atol=1e-4, rtol=1e-4)


def test_a_dataset_without_validation_clips_trains_on_all_others(copy, encoder, tmp_path, monkeypatch):
    (copy / name_of("validation", 0)).unlink()
    trained, order = [], build.shuffle_shards
    monkeypatch.setattr(build, "shuffle_shards", lambda *args: trained.append(args[1]) or order(*args))
    run([*arguments(copy, encoder, tmp_path / "out", "--num_train_epochs", "1"), "--select_on", "none"])
    assert trained == [[*range(29)]]
    assert [row["split"] for row in read_predictions(tmp_path / "out")] == ["test"] * 10


class TestClips:
    @pytest.mark.parametrize("kind", ["group norm", "whisper"])
    def test_features_are_those_of_a_corpus(self, kind, dataset, tmp_path):
        _, extractor = load_encoder(write_encoder(tmp_path, kind), {0: "joy", 1: "fear"}, {}, 2.0)
        corpus = read_hub_dataset(str(dataset)).dataset
        expected, places = (
            build_features(corpus, extractor, 2.0),
            {file: row for row, file in enumerate(corpus["file"])},
        )
        files = [
            row["file"]
            for split, sizes in SHARDS.items()
            for shard in enumerate(sizes)
            for row in rows_of(split, *shard)
        ]
        sharded, name = read_shards(str(dataset)), extractor.model_input_names[0]
        clips = StreamedClips(sharded.rows, range(45), sharded.labels, extractor, 2.0)
        for row, (clip, file) in enumerate(zip(clips.__getitems__(range(45)), files, strict=True)):
            torch.testing.assert_close(clip[name], expected[places[file]][name], atol=0, rtol=0)
            assert (int(clip["labels"]), int(clip["clip"])) == (corpus["emotion"][places[file]], row)

    def test_an_epoch_has_every_clip_once_and_reads_every_row_group_once(self, dataset, monkeypatch):
        sharded = read_shards(str(dataset), clips=8)
        assert sharded.rows.window == 4, "two windows of the eight row groups that train"
        epochs = [list(shuffle_shards(sharded.rows, sharded.parts["train"], 42, epoch)) for epoch in (0, 1, 0)]
        assert epochs[0] == epochs[2] != epochs[1]
        assert sorted(epochs[0]) == sorted(epochs[1]) == [*range(29)]
        read, read_group = [], ShardedRows._read_group
        monkeypatch.setattr(ShardedRows, "_read_group", lambda self, n: read.append(n) or read_group(self, n))
        for start in range(0, 29, 5):
            sharded.rows.read(epochs[0][start : start + 5])
            assert len(sharded.rows._kept) <= 4, "no more clips in memory than the window has"
        assert sorted(read) == [*range(8)]

    def test_augmentation_changes_each_clip_in_each_epoch(self, dataset, encoder, tmp_path):
        """By the recipe's masks, and by a change of the sound."""
        losses = {}
        for name, augment in {"masks": {"time_masks": 2}, "gain": {"noise_snr_db": [0, 1]}, "none": {}}.items():
            argv = arguments(dataset, encoder, tmp_path / name, "--augment", json.dumps(augment))
            run([*argv, "--num_train_epochs", "1"])
            losses[name] = (tmp_path / name / "model.safetensors").read_bytes()
        assert len(set(losses.values())) == 3


REFUSED = {
    "protocol": (["--protocol", "speaker-k-fold"], "found --protocol, which needs the names"),
    "folds": (["--folds", "0"], "found --folds, which needs"),
    "groups": (["--train_speakers", "4"], "found --train_speakers, which needs"),
    "copies": (["--duplicates", "keep_together"], "found --duplicates, which needs"),
    "skip": (["--on_bad_audio", "skip"], "found --on_bad_audio, which needs"),
    "source": (["--data", "synthetic"], "^expected --data hub with --streaming, found synthetic; give"),
    "probe": (["--model", "probe:wav2vec2-base"], "^expected an encoder with --streaming, found --model probe:"),
    "peak": (["--model", "vit-32-30"], "^expected an encoder with --streaming, found --model vit-32-30, which needs"),
    "mixup": (["--augment", '{"mixup": 0.4}'], "found mixup in --augment; change it"),
    "lengths": (["--train_sampling_strategy", "group_by_length"], "found --train_sampling_strategy group_by_length"),
    "scale": (["--normalization", "mean_std"], "found --normalization mean_std; change it"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_needs_a_whole_corpus_is_refused(case, dataset, encoder, tmp_path):
    flags, sentence = REFUSED[case]
    with pytest.raises(UserError, match=sentence):
        parse_run([*arguments(dataset, encoder, tmp_path), *flags], ROOT / "recipes")


def test_other_commands_refuse_it(dataset, encoder, tmp_path):
    with pytest.raises(UserError, match=r"^expected train.py without --write_folds with --streaming"):
        parse_run(arguments(dataset, encoder, tmp_path), ROOT / "recipes")[0].load()


def test_a_recipe_with_batches_of_one_length_is_streamed_without(dataset, encoder, tmp_path, caplog):
    _, args = parse_run(arguments(dataset, encoder, tmp_path), ROOT / "recipes")
    assert args.train_sampling_strategy == "random"
    assert "without group_by_length of the recipe" in caplog.text


def train_speaker(copy: Path) -> None:
    row = rows_of("test", 1, 5)
    row[2]["speaker"] = "train-1"
    write_shard(copy / name_of("test", 1), row)


def no_label(copy: Path) -> None:
    write_shard(
        copy / name_of("train", 1),
        [row | {"label": -1 if at == 3 else 0} for at, row in enumerate(rows_of("train", 1, 9))],
    )


def no_speaker_column(copy: Path) -> None:
    table = pq.read_table(copy / name_of("train", 1)).drop_columns(["speaker"])
    pq.write_table(table, copy / name_of("train", 1))


def cut(copy: Path) -> None:
    file = copy / name_of("train", 1)
    file.write_bytes(file.read_bytes()[:-40])


def spoil_test_clip(copy: Path) -> None:
    rows = rows_of("test", 0, 5)
    rows[3]["audio"]["bytes"] = b"no sound"
    write_shard(copy / name_of("test", 0), rows)


DAMAGED = {
    "a speaker on both sides": (
        train_speaker,
        "^expected no speaker of .* in both training and test with --streaming, found train-1; leave",
    ),
    "no label": (
        no_label,
        r"^expected a label in the column label of .* for each of 45 clips, found none for train-00001-of-\S+:3; take",
    ),
    "other columns": (
        no_speaker_column,
        "^expected the same columns in all shards of .*, found no speaker in train-00001-",
    ),
    "a missing shard": (
        lambda copy: (copy / name_of("train", 1)).unlink(),
        "^expected 3 shards of train in .*, found none with the number 1; put it back",
    ),
    "a shard that is cut": (
        cut,
        r"^expected the whole shard train-00001-of-\S+ of the dataset, found none that can be read \(.*\); put it",
    ),
    "a test clip": (
        spoil_test_clip,
        "^test-00000-of-00002.parquet:3: expected .*; correct that row of the dataset, or leave out --streaming",
    ),
    "no validation": (
        lambda copy: (copy / name_of("validation", 0)).unlink(),
        "^expected a split called validation in .*, found none; add --select_on none",
    ),
    "files of clips": (
        lambda copy: [file.rename(file.with_suffix(".json")) for file in copy.iterdir()],
        "^expected Parquet shards in .* with --streaming, found files that `datasets` reads as json; write them",
    ),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damage_that_is_visible_before_the_training_is_one_sentence(case, copy, encoder, tmp_path):
    damage, sentence = DAMAGED[case]
    damage(copy)
    with pytest.raises(UserError, match=sentence):
        run(arguments(copy, encoder, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_places_without_shards_are_sentences(dataset):
    with pytest.raises(
        UserError, match=r"^expected the Hub for --streaming of someone/clips, found HF_HUB_OFFLINE=1; "
    ):
        read_shards("someone/clips")
    with pytest.raises(UserError, match=r"^expected a folder of Parquet files or a Hub id .*, found another at"):
        read_shards(str(dataset / name_of("train", 0)))
    with pytest.raises(UserError, match=r"^expected a Hub id or folder with --data hub --streaming, found none; give"):
        read_shards(None)


def test_row_groups_that_fill_the_memory_are_refused(dataset, monkeypatch):
    monkeypatch.setattr(hub_shards, "LARGEST_GROUP", 1000)
    with pytest.raises(UserError, match=r"^expected row groups of up to .*, found a larger one, number 0 of train-0"):
        read_shards(str(dataset))


def test_a_row_that_names_a_file_is_refused(copy):
    """It may name any file of the machine."""
    rows = rows_of("train", 1, 9)
    rows[2]["audio"] = {"bytes": None, "path": str(copy / name_of("train", 0))}
    write_shard(copy / name_of("train", 1), rows)
    with pytest.raises(ShardError, match=r"^train-00001-of-00003.parquet:2: expected the bytes of .*, found a path;"):
        read_shards(str(copy)).rows.read(range(29))


def vanish(copy: Path) -> None:
    for file in copy.glob("train-*"):
        file.unlink()


def grow(copy: Path) -> None:
    for shard, clips in enumerate(SHARDS["train"]):
        write_shard(copy / name_of("train", shard), rows_of("train", shard, clips + 1))


LATE = {
    "vanished": (
        vanish,
        r"^expected the whole shard train-0000\d-of-00003.parquet of the dataset, found none that can be read "
        r"\(FileNotFoundError: .*\); put it back, and repeat the command\.$",
    ),
    "changed": (
        grow,
        r"^expected the shard train-0000\d-of-00003.parquet as it was before the training, \d+ bytes, found it "
        r"changed, \d+ bytes; put it back, and repeat the command\.$",
    ),
    "clip": (
        lambda copy: None,
        r"^train-00002-of-00003.parquet:5: expected .*, found .*; correct that row of the dataset, or leave out "
        r"--streaming and add --on_bad_audio skip\.$",
    ),
}


@pytest.mark.parametrize("workers", ["0", "1"])
@pytest.mark.parametrize("case", LATE)
def test_damage_while_it_trains_is_one_sentence(case, workers, copy, encoder, tmp_path, monkeypatch):
    """Also from a worker of the data loader, whose errors torch raises again with a traceback as their text."""
    damage, sentence = LATE[case]
    if case == "clip":
        rows = rows_of("train", 2, 8)
        rows[5]["audio"]["bytes"] = rows[5]["audio"]["bytes"][:60]
        write_shard(copy / name_of("train", 2), rows)
    build = streaming.load_streamed_data

    def load_and_damage(run):
        data = build(run)
        damage(copy)
        return data

    monkeypatch.setattr("hf_vivae.training.run.load_streamed_data", load_and_damage)
    with pytest.raises(ShardError) as caught:
        run(arguments(copy, encoder, tmp_path / "out", "--dataloader_num_workers", workers))
    assert re.match(sentence, str(caught.value)), str(caught.value)
    assert not (tmp_path / "out" / "results.json").exists()
    assert not (tmp_path / "out" / "model.safetensors").exists()
