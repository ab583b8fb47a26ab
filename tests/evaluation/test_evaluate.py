"""`recipes/evaluate.py` from run folders to report: numbers agree everywhere, many runs need no more memory."""

import csv
import json
import re
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
from fake_runs import SELECTED_ON_TEST, write_run
from runner import ROOT, flags, run, script

from hf_vivae.evaluation import figures as evaluation_pictures
from hf_vivae.evaluation import report as evaluation_report
from hf_vivae.evaluation import systems as evaluated
from hf_vivae.reporting.tables import escape_markdown
from hf_vivae.splits.protocols import PROTOCOLS

EVALUATE = ROOT / "recipes" / "evaluate.py"


def evaluate(output: Path, *argv: str | Path) -> None:
    script(EVALUATE).main([*map(str, argv), "--output_dir", str(output)])


def lines(output: Path, name: str) -> list[dict[str, str]]:
    """Rows of a table of the only group."""
    (file,) = (output / "tables").glob(f"*/{name}.csv")
    with file.open() as text:
        return list(csv.DictReader(text))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two systems, one of two seeds, the other with a mark; an unfinished fold, and one that is there twice."""
    place = tmp_path_factory.mktemp("runs")
    for seed in (1, 2):
        write_run(place / "mlp" / str(seed), seed=seed)
    write_run(place / "vit", "vit-32-30", settings={"select_on": "test"})
    write_run(place / "again", folds=[1])
    (write_run(place / "begun", "wav2vec2", folds=[0])[0] / "results.json").unlink()
    return place


@pytest.fixture(scope="module")
def output(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluation")
    evaluate(folder, runs)
    return folder


def test_tables_hold_the_numbers_of_results_json(output):
    (group,) = json.loads((output / "results.json").read_text())["groups"]
    systems = {system["name"]: system for system in group["systems"]}
    assert set(systems) == {"mlp paper", "vit-32-30 paper"}
    for line in lines(output, "scores")[2:]:
        scores = systems[line["system"].removesuffix(" *")]["scores"]
        for column, name in {"accuracy": "accuracy", "UAR": "uar", "macro AUC": "macro_auc"}.items():
            assert float(line[column]) == scores[name]["value"]
    for line in lines(output, "uar")[2:]:
        estimate = systems[line["system"].removesuffix(" *")]["scores"]["uar"]
        assert [float(line[f"speakers {end}"]) for end in ("from", "to")] == estimate["speakers"]
        assert [float(line[f"clips {end}"]) for end in ("from", "to")] == estimate["clips"]
    (pair,) = group["comparisons"]
    difference = lines(output, "differences")[0]
    assert float(difference["difference (points)"]) == 100 * pair["accuracy"]["value"]
    assert (pair["first"], pair["second"]) == (
        difference["first"].removesuffix(" *"),
        difference["second"].removesuffix(" *"),
    )
    assert systems["vit-32-30 paper"]["marked"] == [SELECTED_ON_TEST]
    assert group["chance"]["accuracy"] == 1 / 6
    assert len(systems["mlp paper"]["runs"]) == 2
    assert sum(map(sum, systems["mlp paper"]["confusion_matrix"])) == 2 * 72


def test_the_report_holds_every_table_and_picture(output):
    text, page = (output / "report.md").read_text(), (output / "report.html").read_text()
    in_files_only = {"confusion"}
    for file in (output / "tables").rglob("*.md"):
        caption = file.read_text().split("\n\n")[0]
        assert (caption in text) != (file.stem in in_files_only), file
    pictures = list((output / "figures").rglob("*.png"))
    assert (output / "tables" / "published-not-comparable.csv").is_file()
    assert len(pictures) == page.count("data:image/png;base64,") == 11
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert "they are no evidence about VIVAE or people" in text


def test_the_overview_has_a_row_for_each_system_and_protocol(tmp_path):
    for place, protocol in (("a", "speaker-k-fold"), ("b", "random-80-20")):
        write_run(tmp_path / place, settings={"protocol": protocol})
    write_run(tmp_path / "c", "vit-32-30", settings={"select_on": "test"})
    evaluate(tmp_path / "out", tmp_path)
    with (tmp_path / "out" / "tables" / "overview.csv").open() as text:
        rows = [(row["system"], row["protocol"]) for row in csv.DictReader(text)]
    protocols = ["random-80-20", "speaker-k-fold"]
    assert rows == [*(("mlp paper", name) for name in protocols), ("vit-32-30 paper *", "speaker-k-fold")]
    report = (tmp_path / "out" / "report.md").read_text()
    for name in protocols:
        assert escape_markdown(PROTOCOLS[name].cannot) in report
    assert f"* {SELECTED_ON_TEST}: vit-32-30 paper." in (tmp_path / "out/tables/overview.md").read_text()


@pytest.mark.slow
def test_a_recipe_does_not_hide_the_library_of_its_name():
    """`recipes/evaluate.py` lies where Python looks first for `evaluate`, when a script of recipes/ is started.

    `test_processes.py` trains so in each run of the tests, with that library's scores.
    """
    command = [sys.executable, str(ROOT / "recipes" / "train.py"), "--model", "nonsense", "--data", "synthetic"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "error: expected one of logistic-regression" in done.stderr


def test_what_is_left_out_is_named_in_report_and_results(output, runs):
    left_out = json.loads((output / "results.json").read_text())["left_out"]
    twice = sorted([runs / "mlp" / "1" / "2-of-3", runs / "again" / "2-of-3"])
    assert len(left_out) == 2
    assert f"{twice[1]} is left out: {twice[0]} has the same fold of the same run; remove one of them." in left_out
    assert any(re.search("begun/1-of-3 is left out: .*no results.json", sentence) for sentence in left_out)
    text = (output / "report.md").read_text()
    assert "is left out: expected a finished run, found no results.json" in text
    assert "has the same fold of the same run" in text


def test_the_terminal_shows_the_headline(runs, tmp_path, capsys):
    evaluate(tmp_path, runs, "--baseline", "vit-32-30 paper")
    printed = capsys.readouterr().out
    assert "72 synthetic clips, emotion, speaker-k-fold (3 folds)" in printed
    for name in ("chance", "majority", "mlp paper  ", "vit-32-30 paper *"):
        assert sum(line.startswith(name) for line in printed.splitlines()) == 1, name
    assert f"* {SELECTED_ON_TEST}: vit-32-30 paper." in printed
    assert "begun/1-of-3 is left out" in printed
    assert str(tmp_path / "report.html") in printed


@pytest.mark.parametrize("corpus", ["folder", "emogator"])
def test_an_evaluation_below_its_runs_is_no_run(tmp_path, corpus):
    write_run(tmp_path, corpus={"name": corpus})
    for _ in range(2):
        evaluate(tmp_path / "evaluation", tmp_path)
    results = json.loads((tmp_path / "evaluation" / "results.json").read_text())
    assert (len(results["groups"]), len(results["groups"][0]["systems"]), results["left_out"]) == (1, 1, [])
    assert not list((tmp_path / "evaluation").rglob("published*")), "there are no published figures on these clips"


def test_tables_and_pictures_of_an_earlier_evaluation_are_gone_and_no_file_of_the_users(tmp_path, undrawn):
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", settings={"protocol": "random-10-fold"})
    output = tmp_path / "evaluation"
    evaluate(output, tmp_path / "a", tmp_path / "b")
    group = "synthetic-emotion-random-10-fold-3-00000000"
    assert (output / "tables" / group / "scores.csv").is_file()
    assert (output / "figures" / group / "uar.png").is_file()
    own = [output / "tables" / "mine.csv", output / "tables" / group / "notes.md", output / "figures" / "mine.png"]
    for file in (*own, output.parent / "outside.csv"):
        file.write_text("mine")
    results = json.loads((output / "results.json").read_text())
    results["files"].append("../outside.csv")  # whoever has written that
    (output / "results.json").write_text(json.dumps(results))
    evaluate(output, tmp_path / "a")
    assert not (output / "figures" / group).exists()
    assert [file.name for file in (output / "tables" / group).iterdir()] == ["notes.md"]
    assert {file.read_text() for file in (*own, output.parent / "outside.csv")} == {"mine"}
    files = {
        path.relative_to(output).as_posix() for name in ("tables", "figures") for path in output.glob(f"{name}/**/*.*")
    }
    listed = json.loads((output / "results.json").read_text())["files"]
    assert files - {str(file.relative_to(output)) for file in own} == set(listed)


def test_two_corpora_of_the_same_name_are_distinguished(tmp_path):
    for digest in ("a" * 16, "b" * 16):
        write_run(tmp_path / "runs" / digest, count=12, corpus={"digest": digest})
    evaluate(tmp_path / "evaluation", tmp_path / "runs")
    text = (tmp_path / "evaluation" / "report.md").read_text()
    for digest in ("a" * 16, "b" * 16):
        assert f"## 12 synthetic clips, emotion, speaker-k-fold (3 folds), corpus {digest}\n" in text
        name = f"synthetic-emotion-speaker-k-fold-3-{digest[:8]}"
        assert (tmp_path / "evaluation" / "tables" / name / "scores.csv").is_file()
        assert f"(figures/{name}/uar.png)" in text


def test_a_run_of_train_py_is_evaluated(tiny_vivae, tmp_path):
    trained = run(flags(tiny_vivae, tmp_path / "run", "mlp", "--num_train_epochs", "1"))
    evaluate(tmp_path / "evaluation", tmp_path / "run")
    (group,) = json.loads((tmp_path / "evaluation" / "results.json").read_text())["groups"]
    (system,) = group["systems"]
    assert (system["name"], system["folds"]) == ("mlp paper (1 of 4 folds, seed 42)", "1 of 4")
    assert (group["corpus"], group["protocol"], group["labels"]) == (
        "vivae",
        "leave-one-speaker-out",
        trained["labels"],
    )
    test = trained["test"]
    for name in ("accuracy", "uar", "macro_f1", "macro_auc"):
        assert system["scores"][name]["value"] == pytest.approx(test[name])
    assert system["confusion_matrix"] == test["confusion_matrix"]
    assert system["majority"]["accuracy"] == pytest.approx(test["majority"]["accuracy"])
    assert system["calibration"]["loss"] == pytest.approx(test["loss"], rel=1e-5)


def test_of_many_runs_few_predictions_are_held(tmp_path, monkeypatch, undrawn):
    for number in range(17):
        for seed in (1, 2):
            settings = {"learning_rate": 0.1 * number}
            write_run(tmp_path / "runs" / f"{number}-{seed}", seed=seed, count=24, settings=settings)
    held, most = [], 0

    def read_part(*arguments):
        nonlocal held, most
        found = reading(*arguments)
        held = [*(one for one in held if one() is not None), weakref.ref(found)]
        most = max(most, len(held))
        return found

    reading = evaluated.read_part
    monkeypatch.setattr(evaluated, "read_part", read_part)
    monkeypatch.setattr(evaluation_pictures, "MOST_DRAWN", 2)
    monkeypatch.setattr(evaluation_report, "MOST_DRAWN", 2)
    monkeypatch.setattr(evaluation_report, "LONGEST", 30)
    output = tmp_path / "evaluation"
    evaluate(output, tmp_path / "runs")
    assert most <= 6, "train, validation and test clips of two seeds"
    assert len(lines(output, "scores")) == 2 + 17
    assert len(lines(output, "by-fold")) == 102
    text = (output / "report.md").read_text()
    assert "Pictures show the first 2 of 17 systems." in text
    assert "The first 30 of 102 rows; all are in tables/synthetic-emotion-speaker-k-fold-3-" in text
    assert "The 17 systems are not compared in pairs; name one with --baseline." in text
    assert len(list((output / "figures").rglob("confusion-*.png"))) == 2


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ([], r"the following arguments are required: RUN; see --help_all for all arguments\.$"),
        (["runs", "--base_line", "mlp"], r"unknown argument '--base_line' \(did you mean --baseline\?\)"),
        (["nowhere"], r"expected a folder with runs, found no folder nowhere; check the path\.$"),
        (["."], r"expected run folders of finished trainings in \., found none; give those of train\.py\.$"),
        (
            ["{runs}", "--baseline", "mpl paper"],
            r"expected --baseline to be one of .*, found 'mpl paper' \(did you mean mlp paper\?\)\.$",
        ),
    ],
)
def test_an_error_is_one_sentence(argv, sentence, runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=sentence):
        script(EVALUATE).main([part.format(runs=runs) for part in argv])
    assert not list(tmp_path.iterdir()), "nothing is written before everything is known to be right"
