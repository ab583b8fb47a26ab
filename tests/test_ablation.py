"""Ablations: which runs a recipe's ingredients ask for, none of them trained twice, and the table of what they pay."""

import csv
import re
import shutil
from pathlib import Path

import pytest
from fake_runs import SELECTED_ON_TEST, answer, clips, write_run
from runner import ROOT, flags, script
from scipy.stats import binomtest

from hf_vivae import ablation
from hf_vivae.ablation import ablate
from hf_vivae.evaluation.ablation_tables import WHOLE, report_ablation
from hf_vivae.runs import read_json

RECIPES = ROOT / "recipes"
INGREDIENTS = """
without:
  normalization: {normalization: none}
  weight decay: {weight_decay: 0}
with:
  a wider layer: {model_config: {hidden_sizes: [24, 8]}}
kept:
  learning_rate: a value to search
"""


def recipes(folder: Path, content: str = INGREDIENTS, name: str = "mlp") -> Path:
    """The recipes, with ingredients for a model."""
    shutil.copytree(RECIPES, folder / "recipes")
    (folder / "recipes" / "ablation" / f"{name}.yaml").write_text(content)
    return folder / "recipes"


def argv(corpus: Path, output: Path, *more: str) -> list[str]:
    given = ["--num_train_epochs", "1", "--folds", "0", "1"]
    return [*flags(corpus, output, "mlp"), *given, *more]


def table(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "ablation.csv").open() as file:
        return {row["variant"]: row for row in csv.DictReader(file)}


def trained(folder: Path) -> dict[Path, int]:
    """When the results of each fold were written."""
    return {file: file.stat().st_mtime_ns for file in folder.glob("runs/*/*/*/results.json")}


# --- runs


@pytest.fixture(scope="module")
def whole(tiny_vivae, tmp_path_factory) -> tuple[Path, list[str], Path]:
    """Folder of an ablation, its flags and its recipes."""
    place = tmp_path_factory.mktemp("ablation")
    given = argv(tiny_vivae, place / "out")
    script(recipes(place) / "ablate.py").main(given)
    return place / "out", given, place / "recipes"


def test_every_row_is_the_run_of_its_settings(whole):
    folder, _, _ = whole
    rows = table(folder)
    changed = {
        WHOLE: ("mean_std", 0.05, [16, 8]),
        "without normalization": ("none", 0.05, [16, 8]),
        "without weight decay": ("mean_std", 0, [16, 8]),
        "with a wider layer": ("mean_std", 0.05, [24, 8]),
    }
    assert sorted(rows) == sorted(changed)
    for name, (normalization, decay, sizes) in changed.items():
        place = folder / "runs" / name.replace(" ", "-") / "seed42"
        run, results = read_json(place / "run.json"), read_json(place / "results.json")
        assert (run["run"]["normalization"], run["run"]["model_config"]["hidden_sizes"]) == (normalization, sizes)
        assert run["training"]["weight_decay"] == decay
        assert run["run"]["model_config"]["num_samples"] == 2000, "what the command line gave stays"
        assert float(rows[name]["accuracy"]) == pytest.approx(results["test"]["accuracy"])
        assert float(rows[name]["UAR"]) == pytest.approx(results["test"]["uar"])
        assert results["test"]["n"] == 24
        seconds = [read_json(file)["seconds"] for file in place.glob("*/run.json")]
        assert len(seconds) == 2
        assert float(rows[name]["seconds"]) == pytest.approx(sum(seconds))
    for name in list(rows)[1:]:
        for score in ("accuracy", "UAR"):
            difference = 100 * (float(rows[name][score]) - float(rows[WHOLE][score]))
            assert float(rows[name][f"{score} difference (points)"]) == pytest.approx(difference, abs=1e-9)
    assert (rows[WHOLE]["p adjusted"], rows[WHOLE]["UAR difference (points)"]) == ("", "")
    assert not list(folder.rglob("checkpoint-*"))


def test_the_script_writes_the_table_as_text_numbers_and_pictures(whole):
    folder, _, _ = whole
    content = read_json(folder / "ablation.json")
    assert content["settings"]["with a wider layer"] == {"model_config": {"hidden_sizes": [24, 8]}}
    by_name = {row["variant"]: row for row in content["rows"]}
    for name, row in table(folder).items():
        assert {key: str(value) for key, value in by_name[name].items() if value is not None} == {
            key: value for key, value in row.items() if value
        }
    assert [system["name"] for system in content["evaluation"]["groups"][0]["systems"]] == list(by_name)
    assert {file.name for file in folder.glob("*.png")} == {"accuracy.png", "uar.png"}


def test_a_command_trains_what_is_missing_of_its_ingredients_and_shows_all_that_are_finished(whole, capsys):
    folder, given, place = whole
    before, rows = trained(folder), table(folder)
    lost = folder / "runs" / "without-weight-decay" / "seed42" / "S02" / "results.json"
    lost.unlink()
    report = ablate([*given, "--ingredients", "weight decay"], place)
    now = trained(folder)
    assert {file for file in now if now[file] != before[file]} == {lost}
    for row in (*rows.values(), *(shown := table(folder)).values()):
        row.pop("seconds")
    assert shown == rows
    assert report.text.startswith("Ablation of mlp tuned on 48 vivae clips, emotion, leave-one-speaker-out (4 folds):")
    assert "In every row as in the recipe: learning_rate (a value to search)." in report.text
    assert "[2/2] without weight decay, seed 42: " in capsys.readouterr().out


def test_rows_that_are_not_of_this_recipe_or_not_finished_are_left_out_by_name(whole, tmp_path):
    folder, given, _ = whole
    output, content = tmp_path / "out", INGREDIENTS.replace("[24, 8]", "[28, 8]")
    shutil.copytree(folder, output)
    (output / "runs" / "without-normalization" / "seed42" / "results.json").unlink()
    changed = [*given, "--ingredients", "weight decay", "--output_dir", str(output)]
    report = ablate(changed, recipes(tmp_path, content))
    assert list(table(output)) == [WHOLE, "without weight decay"]
    assert "without normalization is left out: expected a finished run in " in report.text
    assert re.search(
        r"with a wider layer is left out: .*/runs/with-a-wider-layer/seed42 holds another run, which differs in "
        r"model_config \(was .*\[24, 8\].*, is .*\[28, 8\]",
        report.text,
    )
    assert read_json(output / "ablation.json")["settings"].keys() == {"without weight decay"}


def test_a_run_that_fails_is_named(tiny_vivae, tmp_path, monkeypatch):
    def fails(run, args, corpus):
        raise ValueError("expected a lower learning rate, found NaN; lower it.")

    monkeypatch.setattr(ablation, "train", fails)
    with pytest.raises(
        ValueError, match=r"^expected a lower .*; lower it \(the run in .*/runs/whole-recipe/seed42 fa"
    ):
        ablate(argv(tiny_vivae, tmp_path / "out"), recipes(tmp_path))


# --- tables


def halves(wrong: int) -> list[dict]:
    """Clips of which the first so many are answered wrong."""
    rows = clips(72)
    return answer(rows, [(row["label"] + (place < wrong)) % 6 for place, row in enumerate(rows)])


def write(root: Path, **wrong: int) -> dict[str, list[Path]]:
    """Rows of an ablation with runs of one seed, by how many of 72 clips they have wrong."""
    places = {}
    for name, number in wrong.items():
        write_run(root / name, rows=halves(number), settings={"learning_rate": 0.01 + len(places)})
        places[name.replace("_", " ")] = [root / name]
    return places


def test_differences_and_p_values_worked_out_by_hand(tmp_path):
    places = write(tmp_path, whole_recipe=18, without_a=36, with_b=9)
    text = report_ablation(tmp_path / "out", "mlp tuned", places, {})
    rows = table(tmp_path / "out")
    assert [float(row["accuracy"]) for row in rows.values()] == [0.75, 0.5, 0.875]
    differences = [rows[name]["accuracy difference (points)"] for name in ("without a", "with b")]
    assert [float(cell) for cell in differences] == pytest.approx([-25, 12.5])
    p_values = [binomtest(0, number, 0.5).pvalue for number in (18, 9)]
    adjusted = [2 * p_values[0], p_values[1]]
    assert [float(rows[name]["p adjusted"]) for name in ("without a", "with b")] == pytest.approx(adjusted)
    found = read_json(tmp_path / "out" / "ablation.json")["evaluation"]["groups"][0]["comparisons"]
    for pair in found:
        bounds = [float(rows[pair["first"]][f"accuracy {end}"]) for end in ("from", "to")]
        assert bounds == pytest.approx([100 * bound for bound in pair["accuracy"]["speakers"]])
        assert bounds[0] <= float(rows[pair["first"]]["accuracy difference (points)"]) <= bounds[1]
    assert [row["seconds"] for row in rows.values()] == ["3.0"] * 3
    assert "on 72 synthetic clips, emotion, speaker-k-fold (3 folds): folds 3 of 3, seeds 1." in text
    assert "Synthetic clips were sung from seeds" in text
    assert "95 % bounds of the paired bootstrap over speakers, which hold for unseen voices. Below 0" in text
    assert text.splitlines()[2].startswith(
        "| variant | accuracy | UAR | accuracy difference (points) | accuracy from |"
    )


def test_rows_are_sorted_by_what_they_change_and_unknown_speakers_have_bounds_over_clips(tmp_path):
    places = {}
    for name, wrong in (("whole recipe", 18), ("with d", 9), ("without a", 20), ("with c", 30), ("without b", 36)):
        rows = [{**row, "speaker": None} for row in halves(wrong)]
        write_run(tmp_path / name, rows=rows, settings={"learning_rate": 0.01 + len(places)})
        places[name] = [tmp_path / name]
    text = report_ablation(tmp_path / "out", "mlp tuned", places, {})
    assert list(table(tmp_path / "out")) == ["whole recipe", "without b", "without a", "with c", "with d"]
    assert "95 % bounds of the paired bootstrap over clips. Below 0" in text
    assert float(table(tmp_path / "out")["with d"]["UAR from"]) < 12.5


def test_seeds_are_averaged_and_have_no_p_value(tmp_path):
    places = {}
    for number, name in enumerate((WHOLE, "without a")):
        places[name] = [tmp_path / name / f"seed{seed}" for seed in (1, 2)]
        for seed, folder in enumerate(places[name], start=1):
            rows = halves(18 * seed * (1 + number))
            write_run(folder, seed=seed, rows=rows, settings={"learning_rate": 0.01 + number})
    report_ablation(tmp_path / "out", "mlp tuned", places, {})
    rows = table(tmp_path / "out")
    assert [float(row["accuracy"]) for row in rows.values()] == pytest.approx([1 - 27 / 72, 1 - 54 / 72])
    assert float(rows["without a"]["accuracy difference (points)"]) == pytest.approx(-37.5)
    assert (rows["without a"]["p adjusted"], rows["without a"]["seconds"]) == ("", "3.0")


def test_marks_stand_in_the_table(tmp_path):
    places = write(tmp_path, whole_recipe=18)
    write_run(tmp_path / "b", rows=halves(9), settings={"select_on": "test"})
    text = report_ablation(tmp_path / "out", "mlp tuned", {**places, "with selection on test": [tmp_path / "b"]}, {})
    assert f"* {SELECTED_ON_TEST}: with selection on test." in text
    assert list(table(tmp_path / "out")) == [WHOLE, "with selection on test *"]


def test_what_is_left_out_is_named(tmp_path):
    places = write(tmp_path, whole_recipe=18, without_a=36)
    (tmp_path / "without_a" / "2-of-3" / "results.json").unlink()
    text = report_ablation(tmp_path / "out", "mlp tuned", places, {})
    assert "without_a/2-of-3 is left out: expected a finished run, found no results.json; repeat its command." in text
    assert "without a and whole recipe are not compared: expected the same clips in without a and whole recipe" in text
    assert table(tmp_path / "out")["without a"]["accuracy difference (points)"] == ""


def test_seeds_with_other_folds_are_refused(tmp_path):
    write_run(tmp_path / "1", seed=1)
    write_run(tmp_path / "2", seed=2, folds=[0])
    places = {WHOLE: [tmp_path / "1", tmp_path / "2"]}
    with pytest.raises(ValueError, match=r"same folds of each seed of 'whole recipe', found mlp paper; mlp paper \("):
        report_ablation(tmp_path / "out", "mlp tuned", places, {})
