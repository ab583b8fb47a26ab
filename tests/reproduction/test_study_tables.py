"""Tables 5 and 6 against figures computed by hand from run folders, and all tables as they are printed and kept."""

import csv
import io
import json
import math

import pytest
from fake_study import AUC, CLIPS, DESCRIBED, row, rows, scores, write_run, write_study

from hf_vivae.corpus import EMOTIONS
from hf_vivae.evaluation.scores import wilson_interval
from hf_vivae.files import write_json, write_lines
from hf_vivae.models import MODELS
from hf_vivae.reporting.tables import Table
from hf_vivae.reproduction.report import study_results, study_tables
from hf_vivae.reproduction.report2022 import RUNS
from hf_vivae.reproduction.runs import Collection, collect
from hf_vivae.reproduction.tables import OUR_RULE, PAPER_RULE, SOLVER, table5, table6
from hf_vivae.training.scoring import format_results

OURS, PAPER = "ours (synthetic)", "paper (VIVAE)"


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """All models, deviations of each kind and two patch sizes."""
    study = tmp_path_factory.mktemp("study")
    write_study(study)
    return collect(study)


def test_a_table_as_markdown_and_csv():
    table = Table("t", "What.", ("name", "share"), (("a|b", 0.125), ("c", None), ("d", 1)), (None, ".1%"))
    assert table.to_markdown() == (
        "What.\n\n| name | share |\n| --- | ---: |\n| a\\|b | 12.5% |\n| c | - |\n| d | 100.0% |\n"
    )
    assert table.to_csv() == "name,share\na|b,0.125\nc,\nd,1\n"


RESULTS = {
    "model": "mlp",
    "data": "synthetic",
    "protocol": "random-80-20",
    "task": "emotion",
    "recipe": "quick",
    "as_coded": [],
    "labels": list(EMOTIONS),
    "habits": [],
    "train": scores(0.8, 0.5, "train"),
    "test": scores(0.5, 1.5, "test"),
}


def test_the_scores_that_a_run_prints():
    assert format_results(RESULTS).splitlines() == [
        "mlp on synthetic clips, random-80-20, emotion, recipe quick",
        "                        clips  accuracy     UAR  macro F1  macro AUC    loss",
        "train (synthetic)         100     80.0%   80.0%     80.0%      0.750   0.500",
        "test (synthetic)           40     50.0%   50.0%     50.0%      0.750   1.500",
        "chance                            16.7%   16.7%                0.500   1.792",
        "majority                          20.0%   16.7%                0.500",
        "note: majority predicts fear, the most frequent label of the training clips, for every test clip",
    ]


def test_the_majority_of_folds_that_differ_is_called_so():
    test = {**RESULTS["test"], "majority": {"label": None, "accuracy": 0.18}}
    *_, majority, note = format_results({**RESULTS, "test": test}).splitlines()
    assert majority.split() == ["majority", "18.0%"], "the same label in all folds would be needed for UAR and AUC"
    assert note == "note: majority predicts the most frequent label of the fold's training clips for every test clip"


def test_accuracy_by_both_rules(collection):
    accuracy, train, _ = table5(collection)
    low, high = wilson_interval(20, 40)
    theirs = row(accuracy, model="vit-32-30", variant="paper", rule=PAPER_RULE)
    assert theirs == {
        "model": "vit-32-30",
        "variant": "paper",
        "rule": PAPER_RULE,
        "seed": 42,
        "epoch": 2,
        "paper's epoch": 260,
        "clips": 40,
        f"test, {OURS}": 0.5,
        "95 % from": low,
        "95 % to": high,
        f"test, {PAPER}": 0.4747,
        "difference (points)": pytest.approx(2.53),
        "mean of last epochs": pytest.approx((0.25 + 0.5 + 0.5) / 3),
        "sd of last epochs": pytest.approx(0.25 / math.sqrt(3)),
        "last epochs": 3,
    }
    ours = row(accuracy, model="vit-32-30", variant="paper", rule=OUR_RULE)
    assert (ours["epoch"], ours[f"test, {OURS}"]) == (3, 0.5)
    assert row(train, model="vit-32-30", variant="paper", rule=PAPER_RULE)[f"train, {OURS}"] == 0.6
    trained = row(train, model="vit-32-30", variant="paper", rule=OUR_RULE)
    assert (trained[f"train, {OURS}"], trained["clips"]) == (0.8, 100)
    assert (trained["95 % from"], trained["95 % to"]) == wilson_interval(80, 100)
    assert trained["difference (points)"] == pytest.approx(25.39)


def test_a_run_that_selects_on_test_has_the_papers_rule_only(collection):
    accuracy = table5(collection)[0]
    coded = row(accuracy, model="mlp", variant="as_coded")
    assert (coded["rule"], coded["epoch"]) == (PAPER_RULE, 2)
    trained = ", ".join(name for name in MODELS if name != "logistic-regression")
    assert accuracy.caption.endswith(
        f" Marked, since epochs or settings are selected on the test clips: as_coded of {trained}."
    )


def test_captions_have_the_scores_that_need_no_learning(collection):
    test, train, losses = (table.caption for table in table5(collection))
    sentence = (
        "Chance is right for 16.7% of the clips; always predicting the most frequent label of the training clips for "
        "{} clips. "
    )
    assert sentence.format("20.0% of the test") in test
    assert sentence.format("25.0% of the training") in train
    assert "Equal probabilities for all labels have a mean loss of 1.792. " in losses
    assert "Chance, and always predicting the same label, is 0.500. " in table6(collection).caption


def test_splits_of_several_seeds_have_a_range_of_majorities(tmp_path):
    folders = [write_run(tmp_path, f"paper/mlp/seed{seed}", seed=seed) for seed in (1, 2)]
    results = json.loads((folders[1] / "results.json").read_text())
    results["test"]["majority"]["accuracy"] = 0.175
    write_json(folders[1] / "results.json", results)
    assert "training clips for 17.5% to 20.0% of the test clips." in table5(collect(tmp_path))[0].caption


def test_losses_in_both_reductions(collection):
    losses = table5(collection)[2]
    theirs = row(losses, model="vit-32-30", variant="paper", rule=PAPER_RULE)
    assert list(theirs.values())[5:] == pytest.approx(
        [6.4, 35.60, 1.6, 35.60 / 29, 1.6 - 35.60 / 29, 3.2, 11.63, 1.6, 11.63 / 8, 1.6 - 11.63 / 8]
    )
    ours = row(losses, model="vit-32-30", variant="paper", rule=OUR_RULE)
    assert ours[f"test mean, {OURS}"] == 1.5, "that of results.json"
    assert ours[f"test sum, {OURS}"] == pytest.approx(3.0)
    wav2vec2 = row(losses, model="wav2vec2", variant="paper", rule=PAPER_RULE)
    assert (wav2vec2[f"train sum, {PAPER}"], wav2vec2[f"train mean, {PAPER}"]) == (None, 0.85)
    assert "| vit-32-30 | paper | paper's: best on test clips | 42 | 2 | 6.40 | 35.60 | 1.600 | 1.228 | +0.372 " in (
        losses.to_markdown()
    )


def test_every_cell_of_tables_5_and_6_is_filled(collection):
    """Only what the paper lacks, and what a solver has not, stays empty."""
    for table in table5(collection):
        assert {line["model"] for line in rows(table)} == MODELS.keys()
        for line in rows(table):
            empty = {column for column, cell in line.items() if cell is None}
            solved, unreported = line["model"] == "logistic-regression", line["model"] not in RUNS
            allowed = {
                column
                for column in table.columns
                if (unreported and (PAPER in column or "difference" in column or column == "paper's epoch"))
                or (solved and (column in ("epoch", "paper's epoch") or "last" in column or "sum" in column))
                or (solved and table.name == "table5-losses" and (PAPER in column or "difference" in column))
                or (line["model"] == "wav2vec2" and "sum, paper" in column)
            }
            assert empty == allowed, line
    table = table6(collection)
    assert {line["model"] for line in rows(table)} == MODELS.keys()
    for line in rows(table):
        filled = [line[column] is not None for column in (*EMOTIONS, "macro")]
        unreported = line["model"] not in RUNS and line["AUC"] == PAPER
        assert filled == [not unreported] * 7, line


def test_logistic_regression_has_the_scores_of_its_solution(collection):
    accuracy, train, losses = table5(collection)
    solved = row(accuracy, model="logistic-regression", variant="paper")
    assert (solved["rule"], solved["epoch"], solved[f"test, {OURS}"]) == (SOLVER, None, 0.5)
    assert solved["difference (points)"] == pytest.approx(29.27)
    assert row(train, model="logistic-regression", variant="paper")[f"train, {OURS}"] == 0.8
    assert row(losses, model="logistic-regression", variant="paper")[f"test mean, {OURS}"] == 1.5


def test_seeds_are_averaged(tmp_path):
    write_run(tmp_path, "paper/mlp/seed1", seed=1, test=(0.25, 0.5, 0.3))
    write_run(tmp_path, "paper/mlp/seed2", seed=2, test=(0.25, 0.7, 0.3))
    accuracy = table5(collect(tmp_path))[0]
    assert [line["seed"] for line in rows(accuracy)] == [1, 2, "mean of 2", "sd of 2"] * 2
    mean = row(accuracy, seed="mean of 2", rule=PAPER_RULE)
    assert mean[f"test, {OURS}"] == pytest.approx(0.6)
    assert mean["difference (points)"] == pytest.approx(60 - 19.82)
    assert (mean["epoch"], mean["95 % from"]) == (None, None)
    sd = row(accuracy, seed="sd of 2", rule=PAPER_RULE)
    assert sd[f"test, {OURS}"] == pytest.approx(0.2 / math.sqrt(2))
    assert sd[f"test, {PAPER}"] is None


def test_no_more_than_the_last_50_epochs_are_averaged(tmp_path):
    folder = write_run(tmp_path, "paper/mlp/seed42")
    entries = []
    for epoch in range(1, 61):
        stamp = {"epoch": float(epoch), "step": epoch}
        entries += [{**stamp, "loss": 1.0, "loss_sum": 4.0, "accuracy": 0.5}]
        entries += [{**stamp, "test_loss": 1.0, "test_loss_sum": 2.0, "test_accuracy": 0.9 if epoch <= 10 else 0.2}]
    write_lines(folder / "history.jsonl", entries)
    line = row(table5(collect(tmp_path))[0], rule=PAPER_RULE)
    assert (line["epoch"], line["last epochs"]) == (1, 50)
    assert (line["mean of last epochs"], line["sd of last epochs"]) == pytest.approx((0.2, 0.0))


def test_without_test_scores_of_epochs_the_papers_rule_is_empty(tmp_path):
    folder = write_run(tmp_path, "paper/mlp/seed42")
    kept = [entry for entry in collect(tmp_path).runs[0].history if "test_loss" not in entry]
    write_lines(folder / "history.jsonl", kept)
    accuracy, _, losses = table5(collect(tmp_path))
    assert row(accuracy, rule=PAPER_RULE)[f"test, {OURS}"] is None
    assert row(accuracy, rule=OUR_RULE)[f"test, {OURS}"] == 0.5
    assert row(losses, rule=OUR_RULE)[f"test sum, {OURS}"] is None


def test_auc_next_to_the_papers(collection):
    table = table6(collection)
    lines = rows(table, model="mlp")
    assert [(line["variant"], line["AUC"], line["epoch"]) for line in lines] == [
        (None, PAPER, None),
        ("paper", "ours (synthetic), test clips", 3),
        ("paper", "difference", None),
        ("as_coded", "as coded (synthetic): AUC of logits", 2),
        ("as_coded", "difference", None),
        ("as_coded", "ours (synthetic), test clips", 2),
        ("as_coded", "difference", None),
    ]
    assert [lines[0][label] for label in EMOTIONS] == [0.914, 0.814, 0.878, 0.834, 0.858, 0.827]
    assert lines[0]["macro"] == pytest.approx(5.125 / 6)
    assert {label: lines[1][label] for label in EMOTIONS} == AUC
    assert lines[2]["surprise"] == pytest.approx(1 - 0.827)
    assert lines[2]["macro"] == pytest.approx(0.75 - 5.125 / 6)
    assert (lines[3]["surprise"], lines[3]["macro"], lines[5]["surprise"]) == (0.5, 0.375, 1.0)


def test_an_undefined_auc_is_empty(tmp_path):
    results = {"test": {"accuracy": 0.5, "loss": 1.5, "n": 40, "auc": {**AUC, "fear": None}, "macro_auc": 0.7}}
    write_run(tmp_path, "paper/mlp/seed42", results=results)
    lines = rows(table6(collect(tmp_path)))
    assert (lines[1]["fear"], lines[2]["fear"]) == (None, None)
    assert lines[2]["pain"] == pytest.approx(0.8 - 0.834)


def test_the_printed_tables_are_the_numbers_of_results_json(collection, tmp_path):
    tables = study_tables(collection, DESCRIBED)
    write_json(tmp_path / "results.json", study_results(collection, tables))
    results = json.loads((tmp_path / "results.json").read_text())
    assert [table.name for table in tables] == list(results["tables"])
    for table in tables:
        kept = results["tables"][table.name]
        caption, _, head, rule, *lines = table.to_markdown().splitlines()
        assert caption == kept["caption"]
        assert head[2:-2].split(" | ") == kept["columns"]
        assert len(rule.split("|")) == len(kept["columns"]) + 2
        for line, numbers in zip(lines, kept["rows"], strict=True):
            for text, number, spec in zip(line[2:-2].split(" | "), numbers, table.formats, strict=True):
                shown = "-" if number is None else number if isinstance(number, str) else format(number, spec or "")
                assert text == shown
        assert [len(line) for line in csv.reader(io.StringIO(table.to_csv()))] == [len(table.columns)] * (
            len(lines) + 1
        )


def test_results_hold_the_scores_of_every_run(collection):
    results = study_results(collection, [])
    assert len(results["runs"]) == len(collection.runs)
    assert results["corpus"]["name"] == "synthetic"
    first = results["runs"][0]
    assert (first["group"], first["model"], first["test"]["n"]) == ("paper", "logistic-regression", CLIPS["test"])


def test_tables_without_runs_are_empty():
    tables = study_tables(Collection((), ()), DESCRIBED)
    parts = [f"table5-{part}" for part in ("test-accuracy", "train-accuracy", "losses")]
    assert [table.name for table in tables] == ["table1", "table2", "table3", "table4", *parts, "table6"]
    assert all(not table.rows for table in tables[4:])
