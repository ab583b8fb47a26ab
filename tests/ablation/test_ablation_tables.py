"""The table of an ablation: differences, bounds and p-values worked out by hand, and what its caption says."""

import csv
from pathlib import Path

import pytest
from fake_runs import SELECTED_ON_TEST, answer, clips, write_run
from scipy.stats import binomtest

from hf_vivae.ablation import run as ablation_tables
from hf_vivae.ablation.plan import WHOLE
from hf_vivae.ablation.run import report_ablation
from hf_vivae.evaluation.tables import DEPENDENT
from hf_vivae.files import read_json


def table(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "ablation.csv").open() as file:
        return {row["variant"]: row for row in csv.DictReader(file)}


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
    assert "All rows are compared with one training of the whole recipe for each seed: bounds and p hold for" in text
    assert "A recipe that is chosen by this table is chosen on its test clips, and must be scored on other" in text
    assert DEPENDENT in text
    assert "Synthetic clips are generated from seeds" in text
    assert "over speakers, which hold for unseen speakers. An ingredient helps where both bounds" in text
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
    assert "95 % bounds of the paired bootstrap over clips. An ingredient helps" in text
    assert "Bounds and p take clips as independent, which those of one speaker are not. A recipe that is" in text
    assert DEPENDENT not in text
    assert float(table(tmp_path / "out")["with d"]["UAR from"]) < 12.5


def test_the_title_of_a_figure_has_the_number_of_tested_folds(tmp_path, monkeypatch):
    titles, drawn = [], ablation_tables.difference_figure
    monkeypatch.setattr(
        ablation_tables,
        "difference_figure",
        lambda rows, metric, title: titles.append(title) or drawn(rows, metric, title),
    )
    places = {name: [tmp_path / name] for name in (WHOLE, "without a")}
    for number, name in enumerate(places):
        write_run(tmp_path / name, folds=[0, 2], settings={"learning_rate": 0.01 + number})
    report_ablation(tmp_path / "out", "mlp tuned", places, {})
    clips = "72 synthetic clips, emotion, speaker-k-fold (3 folds): folds 2 of 3"
    assert titles == [f"mlp tuned: each change minus the whole recipe, {clips}"] * 2


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
