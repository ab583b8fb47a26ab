"""Selection of the run folders of a report."""

import json
import re
import shutil
from pathlib import Path

import pytest
from fake_study import AUC, write_run

from hf_vivae.files import write_json
from hf_vivae.reproduction.runs import collect
from hf_vivae.run_folder import write_predictions
from hf_vivae.version import __version__

ROW = {"file": "a.wav", "label": 0, "logits": [1.0] * 6, "fold": "random-80-20", "split": "test"}


def left_out(study: Path) -> tuple[str, ...]:
    """The sentences about a study, of whose runs one is good."""
    collection = collect(study)
    assert [run.seed for run in collection.runs] == [42]
    return collection.left_out


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A study with one finished run."""
    write_run(tmp_path, "paper/mlp/seed42")
    return tmp_path


def test_runs_come_in_the_order_of_groups_models_and_seeds(tmp_path):
    write_run(tmp_path, "patches/32-30", "vit-32-30")
    write_run(tmp_path, "audit/mlp/full-scale")
    write_run(tmp_path, "tuned/mlp/seed42")
    write_run(tmp_path, "as_coded/mlp/seed42", select_on="test")
    for model, seed in (("wav2vec2", 42), ("mlp", 10), ("mlp", 9), ("logistic-regression", 42)):
        write_run(tmp_path, f"paper/{model}/seed{seed}", model, seed)
    collection = collect(tmp_path)
    assert [(run.group, run.model, run.seed, run.name) for run in collection.runs] == [
        ("paper", "logistic-regression", 42, None),
        ("paper", "mlp", 9, None),
        ("paper", "mlp", 10, None),
        ("paper", "wav2vec2", 42, None),
        ("as_coded", "mlp", 42, None),
        ("tuned", "mlp", 42, None),
        ("audit", "mlp", 42, "full-scale"),
        ("patches", "vit-32-30", 42, "32-30"),
    ]
    assert collection.left_out == ()
    assert collection.corpus == "synthetic"
    assert collection.find("paper", "mlp", 10) is collection.runs[2]
    assert collection.find("tuned", "wav2vec2", 42) is None


def test_a_study_without_runs_is_empty(tmp_path):
    collection = collect(tmp_path)
    assert (collection.runs, collection.left_out, collection.corpus) == ((), (), "no clips")


def test_a_run_without_files_is_named(study):
    folder = write_run(study, "paper/mlp/seed43", seed=43)
    (folder / "results.json").unlink()
    (folder / "history.jsonl").unlink()
    assert left_out(study) == (
        "runs/paper/mlp/seed43 is left out: expected a finished run, found no results.json and no history.jsonl; "
        "repeat its command.",
    )


def test_an_unfinished_run_is_named(study):
    write_run(study, "paper/mlp/seed43", seed=43, record={"finished": False})
    assert left_out(study) == (
        "runs/paper/mlp/seed43 is left out: expected a finished run, found one that run.json calls unfinished; "
        "repeat its command.",
    )


def test_a_run_of_another_version_is_named(study):
    write_run(study, "paper/mlp/seed43", seed=43, record={"environment": {"hf_vivae": "0.0.1"}})
    assert left_out(study) == (
        f"runs/paper/mlp/seed43 is left out: expected a run of hf_vivae {__version__}, found one of 0.0.1; delete it "
        "and run the study again.",
    )


def test_a_run_on_another_corpus_than_most_is_named(study):
    write_run(study, "tuned/mlp/seed42")
    write_run(study, "as_coded/mlp/seed42", record={"corpus": {"name": "vivae", "digest": "fedc"}})
    collection = collect(study)
    assert [run.group for run in collection.runs] == ["paper", "tuned"]
    assert collection.left_out == (
        "runs/as_coded/mlp/seed42 is left out: expected the corpus of digest 0123456789abcdef, found vivae of digest "
        "fedc; give each corpus an output folder of its own.",
    )


def test_the_expected_corpus_beats_that_of_most_runs(study):
    write_run(study, "tuned/mlp/seed42")
    write_run(study, "as_coded/mlp/seed42", record={"corpus": {"name": "vivae", "digest": "fedc"}})
    collection = collect(study, expected_digest="fedc")
    assert [run.group for run in collection.runs] == ["as_coded"]
    assert [sentence.split(" is ")[0] for sentence in collection.left_out] == [
        "runs/paper/mlp/seed42",
        "runs/tuned/mlp/seed42",
    ]


def test_a_damaged_file_is_named(study):
    folder = write_run(study, "paper/mlp/seed43", seed=43)
    (folder / "history.jsonl").write_text('{"epoch": 1.0}\n{"epoch"\n')
    assert left_out(study) == (
        "runs/paper/mlp/seed43 is left out: expected JSON in history.jsonl, found Expecting ':' delimiter: line 1 "
        "column 9 (char 8); delete it and run the study again.",
    )


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (
            lambda folder: (folder / "predictions.parquet").write_bytes(b"PAR1"),
            "expected the predictions of a run in .*predictions.parquet, found a damaged file .*; train the run again",
        ),
        (
            lambda folder: write_predictions(folder, [{**ROW, "split": "train"}]),
            "expected test clips in predictions.parquet, found none; train the run again",
        ),
        (
            lambda folder: write_json(folder / "results.json", {"labels": []}),
            "expected the keys of a run in results.json, found no fold, of_folds, selection, habits; train the run "
            "again",
        ),
    ],
    ids=["damaged predictions", "no test clips", "keys"],
)
def test_a_run_is_checked_as_in_an_evaluation(study, spoil, sentence):
    spoil(write_run(study, "paper/mlp/seed43", seed=43))
    (problem,) = left_out(study)
    assert re.fullmatch(rf"runs/paper/mlp/seed43 is left out: {sentence}\.", problem), problem


@pytest.mark.parametrize(
    ("place", "told", "found"),
    [
        ("paper/mlp/seed43", "mlp seed43", "mlp seed42"),
        ("tuned/wav2vec2/seed42", "wav2vec2 seed42", "mlp seed42"),
        ("audit/wav2vec2/full-scale", "wav2vec2", "mlp"),
    ],
)
def test_a_run_in_the_place_of_another_is_named(study, place, told, found):
    write_run(study, place)
    assert left_out(study) == (
        f"runs/{place} is left out: expected the run of {told}, found that of {found}; move it to its place.",
    )


def test_a_folder_that_is_no_group_is_named(study):
    write_run(study, "papers/mlp/seed42")
    assert left_out(study) == (
        "runs/papers is left out: expected one of paper, as_coded, tuned, audit, patches, found another; "
        "move it elsewhere.",
    )


def test_a_model_that_no_name_stands_for_is_named(study):
    write_run(study, "paper/ast/seed42", record={"run": {"model": "ast"}})
    (sentence,) = left_out(study)
    assert sentence.startswith("runs/paper/ast/seed42 is left out: expected a model out of logistic-regression, mlp, ")
    assert sentence.endswith(", wav2vec2, found ast; move it elsewhere.")


def test_a_half_written_copy_is_no_run(study):
    write_run(study, "audit/mlp/.redrawn-split.part")
    assert left_out(study) == ()


def test_the_run_of_one_fold_lies_in_its_folder(study):
    place = study / "runs/audit/mlp/one-split-off"
    fold = write_run(study, "audit/mlp/one-split-off/S01 S02")
    write_json(place / "run.json", {"finished": False})
    write_json(place / "results.json", {"folds": {}})
    collection = collect(study)
    assert collection.left_out == ()
    assert [(run.name, run.folder) for run in collection.of("audit")] == [("one-split-off", fold)]
    shutil.copytree(fold, place / "S03 S04")
    assert left_out(study) == (
        "runs/audit/mlp/one-split-off is left out: expected the run of one fold, found 2; delete the others.",
    )


def test_epochs_of_a_run_that_selects_on_validation(study):
    run = collect(study).runs[0]
    epochs = run.epochs()
    assert [epoch.epoch for epoch in epochs] == [1, 2, 3]
    assert [epoch.train["accuracy"] for epoch in epochs] == [0.4, 0.6, 0.8]
    assert [epoch.validation["accuracy"] for epoch in epochs] == [0.3, 0.4, 0.5]
    assert [epoch.test["accuracy"] for epoch in epochs] == [0.25, 0.5, 0.5]
    assert epochs[1].train["loss_sum"] == pytest.approx(6.4)
    assert (epochs[1].test["loss"], epochs[1].test["loss_sum"]) == pytest.approx((1.6, 3.2))
    assert run.scored_epoch() == epochs[2]


def test_epochs_of_a_run_that_selects_on_test(tmp_path):
    write_run(tmp_path, "as_coded/mlp/seed42", select_on="test")
    run = collect(tmp_path).runs[0]
    assert [epoch.test["accuracy"] for epoch in run.epochs()] == [0.25, 0.5, 0.5]
    assert [epoch.validation for epoch in run.epochs()] == [{}, {}, {}]
    assert run.scored_epoch().epoch == 2


def test_without_a_selection_the_last_epoch_is_scored(tmp_path):
    write_run(tmp_path, "as_coded/mlp/seed42", select_on="test", results={"selection": None})
    assert collect(tmp_path).runs[0].scored_epoch().epoch == 3


def test_a_solver_has_no_epochs(tmp_path):
    write_run(tmp_path, "paper/logistic-regression/seed42", "logistic-regression")
    run = collect(tmp_path).runs[0]
    assert (run.epochs(), run.scored_epoch()) == ([], None)
    assert json.loads((run.folder / "results.json").read_text())["test"]["auc"] == AUC
