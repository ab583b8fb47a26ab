"""Run folders: those of folds have names of their own for any name of a speaker, and scores of their own."""

import csv
import json
import logging
import shutil
from pathlib import Path

import pytest
from runner import flags, run
from tiny import CONFIGS

from hf_vivae.evaluation.runs import find_folders
from hf_vivae.evaluation.systems import join_folds
from hf_vivae.files import claim, write_json
from hf_vivae.run_folder import check_same_run
from hf_vivae.splits.folds import Fold
from hf_vivae.training import run as training
from hf_vivae.training.scoring import format_results
from hf_vivae.validation import UserError

pytestmark = pytest.mark.usefixtures("no_pictures")


def folder_flags(corpus: Path, output: Path) -> list[str]:
    return [
        "--model", "mlp", "--data", "folder", "--data_dir", str(corpus), "--protocol", "leave-one-speaker-out",
        "--model_config", json.dumps(CONFIGS["mlp"]), "--num_train_epochs", "1", "--output_dir", str(output),
        "--disable_tqdm", "true",
    ]  # fmt: skip


def test_no_speaker_is_called_as_the_run_or_its_files(tiny_vivae, tmp_path):
    speakers = {"S01": ".", "S02": "results.json", "S03": "Run.JSON", "S04": ".."}
    corpus = shutil.copytree(tiny_vivae / "full_set", tmp_path / "corpus")
    with (corpus / "metadata.csv").open("w") as file:
        rows = [(path.name, path.name.split("_")[1], speakers[path.name[:3]]) for path in corpus.glob("*.wav")]
        csv.writer(file).writerows([("file", "label", "speaker"), *rows])
    output = tmp_path / "run"
    results = run(folder_flags(corpus, output))
    assert list(results["folds"]) == sorted(speakers.values())
    names = {"%2E", "results%2Ejson", "Run%2EJSON", "%2E%2E"}
    assert {path.name for path in output.iterdir() if path.is_dir()} == names
    assert {path.name for path in output.iterdir() if path.is_file()} == {"run.json", "results.json", ".pool.lock"}
    assert json.loads((output / "results.json").read_text())["folds"].keys() == results["folds"].keys()
    (group,) = join_folds(find_folders([output])[0])
    assert [system.whole for system in group.systems] == [True], "evaluations find all folds"


@pytest.mark.parametrize(
    ("speaker", "folder"),
    [
        ("S01", "S01"), ("Dr. Ann B", "Dr. Ann B"), ("a.wav", "a.wav"), ("a/b", "a%2Fb"), ("a..b", "a%2E%2Eb"),
        ("J\u00f6", "J%C3%B6"), ("1-of-5", "1-of-5"), (".lock", "%2Elock"), ("config.json", "config%2Ejson"),
    ],
)  # fmt: skip
def test_ordinary_speakers_keep_their_folders(speaker, folder):
    assert training._folder_name(Fold(speaker, (0,), (1,), (2,))) == folder


def test_long_names_of_speakers_fit_a_file_system():
    names = {training._folder_name(Fold(40 * "\u5f20" + end, (0,), (1,), (2,))) for end in "ab"}
    assert {len(name) <= 200 for name in names} == {True}
    assert len(names) == 2


def test_labels_that_no_training_clip_has_are_named_before_and_after_the_training(
    tiny_vivae, tmp_path, caplog, monkeypatch
):
    corpus = shutil.copytree(tiny_vivae, tmp_path / "corpus")
    for file in corpus.glob("full_set/S0[34]_pain_*"):  # S01 tests and S02 validates; under S02, S01 trains
        file.unlink()
    warned, train_fold = [], training.train_fold
    monkeypatch.setattr(training, "train_fold", lambda *args: [warned.append(caplog.text), train_fold(*args)][1])
    argv = flags(corpus, tmp_path / "run", "mlp", "--num_train_epochs", "1")
    argv.insert(argv.index("--folds") + 2, "1")
    with caplog.at_level(logging.WARNING):
        results = run(argv)
    sentence = "No training clip has these labels, so the model cannot learn them: pain in fold S01."
    assert [text.count(sentence) for text in warned] == [1, 1]
    assert caplog.text.count(sentence) == 1
    assert results["folds"]["S01"]["train"]["notes"], "pooled, the other fold's training clips have all labels"
    fold = json.loads((tmp_path / "run" / "S01" / "results.json").read_text())
    assert "note on train (vivae): None of the 20 clips is labelled pain" in format_results(fold)


def test_results_of_another_command_in_a_run_are_named(tiny_vivae, tmp_path):
    argv = flags(tiny_vivae, tmp_path, "mlp", "--num_train_epochs", "1")
    run(argv)
    file = tmp_path / "S01" / "results.json"
    write_json(file, {"groups": [], "left_out": []})
    with pytest.raises(ValueError, match=rf"^expected the scores of a run in {file}, found no model, .*; remove its"):
        run(argv)


def test_a_run_of_one_fold_is_trained_by_one_process(tiny_vivae, tmp_path):
    argv = flags(tiny_vivae, tmp_path, "mlp", "--num_train_epochs", "1", "--protocol", "random-80-20")
    with claim(tmp_path), pytest.raises(ValueError, match=rf"^another process is training in {tmp_path}; wait"):
        run(argv)


def test_a_setting_of_thousands_of_files_is_cut_in_the_error(tmp_path):
    record = {"run": {"seed": 1}, "training": {}, "corpus": {"problems": [f"missing: {n}" for n in range(30000)]}}
    write_json(tmp_path / "run.json", record)
    (tmp_path / "results.json").touch()
    with pytest.raises(UserError, match=r"problems \(was \['missing: 0', .*\.\.\., is \[\]\); repeat") as error:
        check_same_run(tmp_path, {**record, "corpus": {"problems": []}})
    assert len(str(error.value)) < 500 + len(str(tmp_path))
