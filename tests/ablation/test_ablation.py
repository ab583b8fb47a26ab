"""Ablations: which runs a recipe's ingredients ask for, and none of them trained twice."""

import csv
import re
import shutil
from pathlib import Path

import pytest
from ablations import INGREDIENTS, recipes
from runner import flags, script

from hf_vivae.ablation import run as ablation
from hf_vivae.ablation.plan import WHOLE
from hf_vivae.ablation.run import ablate
from hf_vivae.files import read_json, write_json
from hf_vivae.validation import UserError


def argv(corpus: Path, output: Path, *more: str) -> list[str]:
    given = ["--num_train_epochs", "1", "--folds", "0", "1"]
    return [*flags(corpus, output, "mlp"), *given, *more]


def table(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "ablation.csv").open() as file:
        return {row["variant"]: row for row in csv.DictReader(file)}


def trained(folder: Path) -> dict[Path, int]:
    """Return the time at which the results of each fold were written."""
    return {file: file.stat().st_mtime_ns for file in folder.glob("runs/*/*/*/results.json")}


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
    assert "No row removes: learning_rate (a value to search)." in report.text
    assert re.search(r"ablation: .* 1/2 .*, without weight decay, seed 42", capsys.readouterr().err)


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


def test_folders_of_other_settings_or_another_version_are_refused_before_anything_is_trained(
    whole, tmp_path, monkeypatch
):
    monkeypatch.setattr(ablation, "train_in_study", None)
    folder, given, place = whole
    output = tmp_path / "out"
    shutil.copytree(folder, output)
    given = [*given, "--output_dir", str(output)]
    last = output / "runs" / "with-a-wider-layer" / "seed42"
    other = recipes(tmp_path, INGREDIENTS.replace("[24, 8]", "[28, 8]"))
    with pytest.raises(
        ValueError, match=r"with-a-wider-layer/seed42 holds another run, .* give another --output_dir\.$"
    ):
        ablate(given, other)
    record = read_json(last / "run.json")
    write_json(last / "run.json", record | {"corpus": record["corpus"] | {"digest": "other"}})
    with pytest.raises(ValueError, match=r"with-a-wider-layer/seed42 holds another run, which differs in digest \("):
        ablate(given, place)
    write_json(last / "run.json", record | {"environment": {"hf_vivae": "0.0.1"}})
    with pytest.raises(
        ValueError, match=r"with-a-wider-layer/seed42 to be of hf_vivae .*, found 0\.0\.1; give another"
    ):
        ablate(given, place)


def test_a_finished_row_of_another_version_is_left_out_of_a_table_that_does_not_train_it(whole, tmp_path):
    folder, given, place = whole
    output = tmp_path / "out"
    shutil.copytree(folder, output)
    file = output / "runs" / "with-a-wider-layer" / "seed42" / "run.json"
    write_json(file, read_json(file) | {"environment": {"hf_vivae": "0.0.1"}})
    report = ablate([*given, "--ingredients", "weight decay", "--output_dir", str(output)], place)
    assert set(table(output)) == {WHOLE, "without normalization", "without weight decay"}
    assert re.search(r"with a wider layer is left out: expected .*, found 0\.0\.1; give another", report.text)


def test_rows_that_change_nothing_are_left_out_by_name(whole, tmp_path):
    folder, given, _ = whole
    output = tmp_path / "out"
    shutil.copytree(folder, output)
    place = recipes(tmp_path, INGREDIENTS.replace("[24, 8]", "[16, 8]"))
    shutil.rmtree(output / "runs" / "with-a-wider-layer")
    report = ablate([*given, "--output_dir", str(output)], place)
    assert set(table(output)) == {WHOLE, "without normalization", "without weight decay"}
    assert "with a wider layer is left out: its settings change nothing in the recipe as it is trained." in report.text


def test_a_run_that_fails_is_named(tiny_vivae, tmp_path, monkeypatch):
    def fails(run, args, corpus):
        raise UserError("expected a lower learning rate, found NaN; lower it.")

    monkeypatch.setattr("hf_vivae.training.run.train", fails)
    with pytest.raises(
        ValueError, match=r"^expected a lower .*; lower it \(the run in .*/runs/whole-recipe/seed42 fa"
    ):
        ablate(argv(tiny_vivae, tmp_path / "out"), recipes(tmp_path))
