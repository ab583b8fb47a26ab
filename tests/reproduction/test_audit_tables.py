"""Audit and patches against figures computed by hand from run folders."""

import pytest
from fake_study import DESCRIBED, row, rows, write_run, write_study

from hf_vivae.evaluation.scores import wilson_interval
from hf_vivae.reproduction.architecture import describe_folder
from hf_vivae.reproduction.audit import audit_effects, audit_tables, patch_points, patches_table
from hf_vivae.reproduction.runs import Collection, collect


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """All models, deviations of each kind and two patch sizes."""
    study = tmp_path_factory.mktemp("study")
    write_study(study)
    return collect(study)


def test_audit_of_a_deviation_that_changes_training(collection):
    table, _ = audit_tables(collection, DESCRIBED)
    low, high = wilson_interval(20, 40)
    line = row(table, switch="full-scale")
    assert (line["row"], line["model"], line["seed"]) == (12, "mlp", 42)
    assert (line["accuracy off"], line["95 % from"], line["95 % to"], line["accuracy on"]) == (0.5, low, high, 0.75)
    assert line["effect (points)"] == pytest.approx(25)
    assert (line["macro AUC off"], line["macro AUC on"], line["effect on AUC"]) == (0.75, 0.75, 0)
    assert (line["epoch off"], line["epoch on"], line["computed"]) == (3, 3, None)


def test_audit_has_the_scores_that_need_no_learning(collection):
    caption = audit_tables(collection, DESCRIBED)[0].caption
    assert "Chance is right for 16.7% of the clips; always predicting the most frequent label of the" in caption
    assert "for 20.0% of the test clips. The macro AUC of both is 0.500. " in caption


def test_audit_of_a_deviation_that_paper_has_too(collection):
    line = row(audit_tables(collection, DESCRIBED)[0], switch="one-split")
    assert (line["accuracy off"], line["accuracy on"]) == (0.25, 0.5)
    assert (line["95 % from"], line["95 % to"]) == wilson_interval(10, 40)


def test_audit_of_deviations_that_change_what_is_reported(collection):
    table, _ = audit_tables(collection, DESCRIBED)
    redrawn = row(table, switch="redrawn-split")
    assert (redrawn["macro AUC off"], redrawn["macro AUC on"]) == (0.75, 0.375)
    assert (redrawn["effect (points)"], redrawn["computed"]) == (0, "AUC on a redrawn split")
    summed = row(table, switch="summed-losses")
    assert (summed["loss off"], summed["loss on"]) == pytest.approx((1.5, 3.0))


def test_audit_describes_deviations_in_the_order_of_rows(collection):
    meanings = audit_tables(collection, DESCRIBED)[1]
    assert meanings.columns == ("row", "switch", "the paper's text", "its notebook")
    assert [line[0] for line in meanings.rows] == [7, 9, 11, 12]
    assert meanings.rows[0] == (7, "redrawn-split", "on the test set", "on a split drawn again")


def test_audit_effects_are_what_the_figure_needs(collection):
    effect = audit_effects(collection, DESCRIBED)[-1]
    low, high = wilson_interval(20, 40)
    assert (effect["name"], effect["accuracy"], effect["macro_auc"]) == ("full-scale, mlp", 0.25, 0)
    assert effect["half_width"] == pytest.approx((high - low) / 2)


def test_audit_without_the_run_to_compare_with(tmp_path):
    write_run(tmp_path, "audit/mlp/full-scale")
    line = row(audit_tables(collect(tmp_path), DESCRIBED)[0])
    assert [cell for column, cell in line.items() if column not in ("row", "switch", "model", "seed")] == [None] * 13


def test_audit_refuses_a_deviation_without_a_description(tmp_path):
    folder = write_run(tmp_path, "audit/mlp/full-scales")
    with pytest.raises(ValueError, match=r"^expected runs of the deviations") as error:
        audit_tables(collect(tmp_path), DESCRIBED)
    assert str(error.value) == (
        "expected runs of the deviations full-scale, redrawn-split, summed-losses, one-split in "
        f"{folder.parent}, found full-scales (did you mean full-scale?); move it elsewhere."
    )


def test_patches_by_tokens(collection):
    table = patches_table(collection)
    first, second = rows(table)
    low, high = wilson_interval(10, 40)
    folder = next(run.folder for run in collection.of("patches") if run.name == "64-345")
    assert first == {
        "patch": "64 x 345",
        "tokens": 3,
        "parameters": describe_folder(folder)["parameters"],
        "seed": 42,
        "clips": 40,
        "accuracy": 0.25,
        "95 % from": low,
        "95 % to": high,
        "majority": 0.2,
        "macro AUC": 0.75,
        "training clips/s": 200.0,
        "peak memory (MB)": 512.0,
        "epochs": 3,
    }
    assert (second["patch"], second["tokens"]) == ("8 x 23", 241)
    assert patch_points(collection)[0]["clips_per_second"] == 200
    assert "synthetic" in table.caption
    assert "for 20.0% of the test clips. The macro AUC of both is 0.500." in table.caption
    assert "on cpu" in table.caption
