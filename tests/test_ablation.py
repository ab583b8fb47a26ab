"""Ablations: which runs a recipe's ingredients ask for, none of them trained twice, and the table of what they pay."""

import csv
import json
import shutil
from pathlib import Path

import pytest
from fake_runs import SELECTED_ON_TEST, answer, clips, write_run
from hypothesis import given
from hypothesis import strategies as st
from runner import ROOT, flags, script
from scipy.stats import binomtest

from hf_vivae import ablation
from hf_vivae.ablation import ablate, default_folder, plan_variants, read_ingredients
from hf_vivae.evaluation.ablation_tables import WHOLE, report_ablation
from hf_vivae.parsing import parse_run
from hf_vivae.runs import read_json

RECIPES = ROOT / "recipes"
INGREDIENTS = """
without:
  normalization: {normalization: none}
  weight decay: {weight_decay: 0}
with:
  a wider layer: {model_config: {hidden_sizes: [24, 8]}}
"""


def recipes(folder: Path, content: str = INGREDIENTS, name: str = "mlp") -> Path:
    """The recipes, with ingredients for a model."""
    shutil.copytree(RECIPES, folder / "recipes")
    (folder / "recipes" / "ablation" / f"{name}.yaml").write_text(content)
    return folder / "recipes"


def argv(corpus: Path, output: Path, *more: str) -> list[str]:
    given = ["--recipe", "tuned", "--num_train_epochs", "1", "--folds", "0", "1"]
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
    ablate(given, recipes(place))
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
    assert list(rows) == list(changed)
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
    assert (rows[WHOLE]["p"], rows[WHOLE]["UAR difference (points)"]) == ("", "")
    assert not list(folder.rglob("checkpoint-*"))


def test_a_repeated_command_trains_what_is_missing_only(whole, capsys):
    folder, given, place = whole
    before, text = trained(folder), (folder / "ablation.md").read_text()
    lost = folder / "runs" / "without-weight-decay" / "seed42" / "S02" / "results.json"
    lost.unlink()
    report = ablate(given, place)
    now = trained(folder)
    assert {file for file in now if now[file] != before[file]} == {lost}
    seconds = [line.rsplit("|", 2)[0] for line in text.splitlines()]
    assert [line.rsplit("|", 2)[0] for line in (folder / "ablation.md").read_text().splitlines()] == seconds
    assert report.text.startswith("Ablation of mlp tuned on 48 vivae clips, emotion, leave-one-speaker-out (4 folds):")
    assert "[4/4] with a wider layer, seed 42: " in capsys.readouterr().out


def test_ingredients_are_chosen_by_name(whole, capsys):
    folder, given, place = whole
    before = trained(folder)
    report = ablate([*given, "--ingredients", "weight decay"], place)
    assert list(table(folder)) == [WHOLE, "without weight decay"]
    assert trained(folder) == before
    assert "without normalization" not in report.text


def test_the_script_writes_the_table_as_text_numbers_and_pictures(whole):
    folder, given, place = whole
    script(place / "ablate.py").main(given)
    content = read_json(folder / "ablation.json")
    assert content["settings"]["with a wider layer"] == {"model_config": {"hidden_sizes": [24, 8]}}
    by_name = {row["variant"]: row for row in content["rows"]}
    for name, row in table(folder).items():
        assert {key: str(value) for key, value in by_name[name].items() if value is not None} == {
            key: value for key, value in row.items() if value
        }
    assert [system["name"] for system in content["evaluation"]["groups"][0]["systems"]] == list(by_name)
    assert {file.name for file in folder.glob("*.png")} == {"accuracy.png", "uar.png"}


def test_a_run_that_fails_is_named(tiny_vivae, tmp_path, monkeypatch):
    def fails(run, args, corpus):
        raise ValueError("expected a lower learning rate, found NaN; lower it.")

    monkeypatch.setattr(ablation, "train", fails)
    with pytest.raises(
        ValueError, match=r"^expected a lower .*; lower it \(the run in .*/runs/whole-recipe/seed42 fa"
    ):
        ablate(argv(tiny_vivae, tmp_path / "out"), recipes(tmp_path))


# --- plans


@pytest.mark.parametrize("model", ["vit-32-30", "whisper-base"])
def test_each_ingredient_that_comes_with_the_repository_changes_the_tuned_recipe(model):
    changes = read_ingredients(RECIPES, model)
    variants = plan_variants(["--model", model, "--recipe", "tuned"], changes, [42], Path("out"), RECIPES)
    assert [variant.name for variant in variants] == [WHOLE, *changes]
    assert {name.split()[0] for name in changes} == {"without", "with"}


def test_what_is_absent_by_default_is_taken_away_with_null():
    given = ["--model", "mlp", "--max_steps", "9", "--run_name", "one", "--data_seed", "5"]
    changes = {"without a name": {"run_name": None, "max_steps": 3}}
    variants = plan_variants(given, changes, [1], Path("out"), RECIPES)
    assert [(one.training.run_name, one.training.max_steps) for one in variants] == [("one", 9), (None, 3)]


def test_settings_win_over_flags_and_each_seed_has_a_run():
    given = ["--model", "vit-32-30", "--recipe", "tuned", "--model_config", '{"hidden_size": 96}', "--weight_decay=1"]
    changes = {"without decay": {"weight_decay": 0.0}, "with heads": {"model_config": {"num_attention_heads": 2}}}
    variants = plan_variants(given, changes, [1, 2], Path("out"), RECIPES)
    assert [(one.name, one.training.seed, one.training.weight_decay) for one in variants] == [
        (WHOLE, 1, 1.0), (WHOLE, 2, 1.0), ("without decay", 1, 0.0), ("without decay", 2, 0.0), ("with heads", 1, 1.0),
        ("with heads", 2, 1.0),
    ]  # fmt: skip
    configs = [one.arguments.model_config for one in variants[::2]]
    recipe = {"patch_size": [32, 30], "hidden_size": 96}
    assert configs == [recipe, recipe, {**recipe, "num_attention_heads": 2}]
    assert [str(one.folder) for one in variants[::2]] == [
        "out/runs/whole-recipe/seed1", "out/runs/without-decay/seed1", "out/runs/with-heads/seed1",
    ]  # fmt: skip
    assert all(str(one.folder) == one.training.output_dir for one in variants)


def test_the_default_folder_tells_what_is_ablated():
    run, _ = parse_run(["--model", "vit-32-30", "--recipe", "tuned", "--data", "synthetic", "--seed", "3"], RECIPES)
    assert str(default_folder(run)) == "runs/synthetic/ablation/tuned-vit-32-30-random-80-20-emotion"


def test_a_model_of_the_hub_has_the_ingredients_of_encoders_unless_it_has_its_own(tmp_path):
    place = recipes(tmp_path, "with: {speed: {learning_rate: 1.0e-3}}", "whisper-base")
    assert list(read_ingredients(place, "openai/whisper-base")) == ["with speed"]
    assert read_ingredients(place, "openai/whisper-tiny") == read_ingredients(RECIPES, "some/encoder")


@pytest.mark.parametrize(
    ("content", "more", "sentence"),
    [
        (INGREDIENTS, ["--weight_decay", "0"], r"expected ingredients that change the recipe as it is trained, found "
         r"that the settings of 'without weight decay' change nothing in it; name others with --ingredients\.$"),
        (INGREDIENTS, ["--ingredients", "wait decay"], r"--ingredients to be one of normalization, weight decay, a "
         r"wider layer, found 'wait decay' \(did you mean weight decay\?\)\.$"),
        ("without: {decay: {weight_decai: 0}}", [], r"unknown argument '--weight_decai' \(did you mean --weight_decay"
         r"\?\); see --help for all of them \(the settings of 'without decay'\)\.$"),
        ("without: {decay: {weight_decay: much}}", [], r"invalid float value: 'much'; .* \(the settings of 'without"),
        ("without: {decay: {weight_decay: null}}", [], r"expected null only for arguments that are absent by default, "
         r"found weight_decay in 'without decay'; give it a value\.$"),
        ("without: {empty: {}}", [], r"the settings of 'without empty' change nothing in it;"),
        ("with: {another split: {num_groups: 3}}", [], r"expected ingredients in .*mlp\.yaml that leave clips, folds "
         r"and seeds as they are, found num_groups in 'another split'; remove it\.$"),
        ("minus: {decay: {weight_decay: 0}}", [], r"expected .*mlp\.yaml to hold 'without' or 'with', and below them "
         r"ingredients with their settings, found \"{'minus': .*\"?; mend it\.$"),
        ("without: {decay: 0}", [], r"and below them ingredients with their settings, found"),
        ("without", [], r"and below them ingredients with their settings, found 'without'; mend it\.$"),
        ("without: [", [], r"mlp\.yaml is not valid YAML \(.*\); mend it\.$"),
    ],
)  # fmt: skip
def test_what_is_no_ingredient_is_refused_before_anything_is_trained(content, more, sentence, tiny_vivae, tmp_path):
    with pytest.raises(ValueError, match=sentence):
        ablate(argv(tiny_vivae, tmp_path / "out", *more), recipes(tmp_path, content))
    assert not (tmp_path / "out").exists()


def test_a_model_without_a_file_is_refused():
    with pytest.raises(ValueError, match=r"expected the ingredients of vit-8-23 in .*/vit-8-23\.yaml, found no"):
        read_ingredients(RECIPES, "vit-8-23")


values = st.one_of(st.booleans(), st.floats(0, 1), st.integers(1, 9), st.sampled_from(["a", "1", "true"]), st.none())
config = st.dictionaries(st.sampled_from(["hidden_size", "dropout", "pooling"]), values, max_size=3)


@given(config, config)
def test_model_configs_are_merged_field_by_field(flag, settings):
    given = ["--model", "vit-32-30", "--recipe", "tuned", "--model_config", json.dumps(flag)]
    merged = {"patch_size": [32, 30], **flag, **settings}
    changes = {"with it": {"model_config": settings, "weight_decay": 0.5}}
    assert plan_variants(given, changes, [1], Path("out"), RECIPES)[1].arguments.model_config == merged


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
    assert [float(rows[name]["p"]) for name in ("without a", "with b")] == pytest.approx(p_values)
    adjusted = [2 * p_values[0], p_values[1]]
    assert [float(rows[name]["p adjusted"]) for name in ("without a", "with b")] == pytest.approx(adjusted)
    for row in list(rows.values())[1:]:
        assert float(row["accuracy difference from"]) < float(row["accuracy difference (points)"])
        assert float(row["accuracy difference to"]) > float(row["accuracy difference (points)"])
    assert [row["seconds"] for row in rows.values()] == ["3.0"] * 3
    assert "on 72 synthetic clips, emotion, speaker-k-fold (3 folds): folds 3 of 3, seeds 1." in text
    assert "Synthetic clips were sung from seeds" in text
    assert text.splitlines()[2].startswith("| variant | accuracy | accuracy from |")


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
    assert (rows["without a"]["p"], rows["without a"]["seconds"]) == ("", "3.0")


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
