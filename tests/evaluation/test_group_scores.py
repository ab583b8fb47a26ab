"""Systems are compared on the same clips and seeds only, each pair or each with a baseline; what is not is said."""

import math
from pathlib import Path

import pytest
from fake_runs import SELECTED_ON_TEST, answer, clips, score, tables, write_run
from fake_study import row, rows
from statsmodels.stats.multitest import multipletests


def three_systems(place: Path) -> None:
    """On 36 clips, `mlp` has none wrong, `vit-32-30` the first ten, `wav2vec2` the first and the last six."""
    chosen = clips(36)
    wrong = {"mlp": [], "vit-32-30": range(10), "wav2vec2": [*range(6), *range(30, 36)]}
    for model, places in wrong.items():
        said = [(clip["label"] + (place in places)) % 6 for place, clip in enumerate(chosen)]
        write_run(place / model, model, rows=answer(chosen, said))


def test_all_pairs_are_compared(tmp_path):
    three_systems(tmp_path)
    found = tables(score(tmp_path))
    pairs = [(line["first"], line["second"]) for line in rows(found["mcnemar"])]
    assert pairs == [
        ("mlp paper", "vit-32-30 paper"), ("mlp paper", "wav2vec2 paper"), ("vit-32-30 paper", "wav2vec2 paper"),
    ]  # fmt: skip
    line = row(found["mcnemar"], first="vit-32-30 paper", second="wav2vec2 paper")
    assert (line["clips"], line["only first right"], line["only second right"]) == (36, 6, 4)
    assert line["p"] == pytest.approx(2 * sum(math.comb(10, k) for k in range(5)) / 2**10)
    raw, adjusted = ([line[name] for line in rows(found["mcnemar"])] for name in ("p", "p adjusted"))
    assert adjusted == pytest.approx(list(multipletests(raw, method="holm")[1]))
    assert max(adjusted) > max(raw[:2])
    difference = row(found["differences"], first="mlp paper", second="vit-32-30 paper", score="accuracy")
    assert difference["difference (points)"] == pytest.approx(1000 / 36)
    assert 0 < difference["clips from"] < 1000 / 36 < difference["clips to"]


def test_a_baseline_is_compared_with_each_other_system(tmp_path):
    three_systems(tmp_path)
    found = tables(score(tmp_path, "vit-32-30 paper"))
    lines = rows(found["differences"], score="accuracy")
    shown = {(line["first"], line["second"]): line["difference (points)"] for line in lines}
    assert shown == {
        ("mlp paper", "vit-32-30 paper"): pytest.approx(1000 / 36),
        ("wav2vec2 paper", "vit-32-30 paper"): pytest.approx(-200 / 36),
    }


def test_a_baseline_without_runs_on_the_clips_is_named(tmp_path):
    three_systems(tmp_path)
    group = score(tmp_path, "logistic-regression paper")
    assert group.not_compared == ("The baseline logistic-regression paper has no runs on these clips.",)
    assert not {"differences", "mcnemar"} & set(tables(group))


def test_many_systems_need_a_baseline(tmp_path):
    for number in range(11):
        write_run(tmp_path / str(number), settings={"learning_rate": 0.1 * number, "select_on": "test"}, count=12)
    group = score(tmp_path)
    assert tables(group)["scores"].caption.endswith(f" * {SELECTED_ON_TEST}: 11 systems.")
    assert group.pairs == ()
    assert group.not_compared == ("The 11 systems are not compared in pairs; name one with --baseline.",)
    assert len(score(tmp_path, group.systems[3].system.name).pairs) == 10


def test_systems_on_other_clips_are_not_compared_but_named(tmp_path):
    write_run(tmp_path / "whole", "mlp")
    write_run(tmp_path / "part", "vit-32-30", folds=[0, 1])
    group = score(tmp_path)
    (sentence,) = group.not_compared
    assert not group.pairs
    assert sentence.startswith(
        "mlp paper and vit-32-30 paper (2 of 3 folds, seed 1) are not compared: expected the same"
    )
    assert "24 clips (first: S03_" in sentence


def test_systems_are_compared_on_the_seeds_that_both_have(tmp_path):
    for model, seeds in {"mlp": (1, 2, 3), "vit-32-30": (2, 3, 4), "wav2vec2": (4,)}.items():
        for seed in seeds:
            write_run(tmp_path / model / str(seed), model, seed=seed)
    group = score(tmp_path)
    seeds = {frozenset((pair.first.name, pair.second.name)): pair.seeds for pair in group.pairs}
    assert seeds == {
        frozenset(("mlp paper", "vit-32-30 paper")): ("2", "3"),
        frozenset(("vit-32-30 paper", "wav2vec2 paper")): ("4",),
    }
    assert [len(pair.seeds) for pair in group.pairs if pair.adjusted is None] == [2], "McNemar's test is of one seed"
    (sentence,) = group.not_compared
    assert "expected a seed that both have, found" in sentence
    assert "are not compared" in sentence
