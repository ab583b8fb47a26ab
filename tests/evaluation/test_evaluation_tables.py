"""Tables of an evaluation against figures worked out by hand from run folders."""

import math
import statistics
from pathlib import Path

import pytest
from fake_runs import SELECTED_ON_TEST, answer, clips, score, tables, write_run
from fake_study import row, rows

from hf_vivae.evaluation import evaluate
from hf_vivae.evaluation.comparison import GroupScores
from hf_vivae.evaluation.evaluate import our_scores
from hf_vivae.evaluation.figures import draw_pictures
from hf_vivae.evaluation.scores import point_scores, read_tests, wilson_interval


def two_labels() -> list[dict]:
    """Twelve clips of two labels; the test clips of the first fold lack the second, of which the others have three."""
    chosen = clips(12)
    for place, clip in enumerate(chosen):
        clip["label"] = 0 if place % 3 == 0 or place < 3 else 1
    return chosen


@pytest.fixture(scope="module")
def of_first_label(tmp_path_factory: pytest.TempPathFactory) -> GroupScores:
    """A system that predicts the first label for every clip."""
    place = tmp_path_factory.mktemp("first")
    write_run(place, rows=answer(two_labels(), [0] * 12))
    return score(place)


def test_a_fold_without_a_label_does_not_raise_the_headline(of_first_label):
    found = tables(of_first_label)
    assert row(found["scores"], system="mlp paper")["UAR"] == 0.5
    uar = row(found["uar"], system="mlp paper")
    assert uar["UAR"] == 0.5
    assert uar["mean over folds"] == pytest.approx((1 + 0.5 + 0.5) / 3)
    assert uar["sd over folds"] == pytest.approx(statistics.stdev([1, 0.5, 0.5]))
    by_fold = {line["fold"]: (line["UAR"], line["labels missing"].split(", ")[0]) for line in rows(found["by-fold"])}
    assert by_fold == {"1-of-3": (1.0, "anger"), "2-of-3": (0.5, "fear"), "3-of-3": (0.5, "fear")}


def test_what_needs_no_learning_stands_in_each_table(of_first_label):
    found = tables(of_first_label)
    for name in ("scores", "uar", "accuracy"):
        heading = "accuracy" if name == "accuracy" else "UAR"
        assert row(found[name], system="chance")[heading] == 1 / 6
    # folds train on the last, the first and the second third of the clips: they say the labels 1, 0 and 1
    assert row(found["scores"], system="majority")["accuracy"] == (0 + 1 + 3) / 12
    assert row(found["auc"], system="chance")["AUC fear"] == 0.5
    assert row(found["calibration"], system="chance")["loss"] == math.log(6)
    for name in ("by-fold", "by-speaker", "by-intensity", "by-duration", "confusion"):
        assert "Chance is right for 16.7% of the clips; always predicting the most" in found[name].caption, name
        assert "label of the training clips for 33.3% of the test clips." in found[name].caption, name


def test_labels_and_bounds_that_do_not_exist_are_empty(of_first_label):
    found = tables(of_first_label)
    auc = row(found["auc"], system="mlp paper")
    assert (auc["AUC achievement"], auc["AUC surprise"]) == (0.5, None)
    assert '"-"' in found["auc"].caption
    assert row(found["uar"], system="mlp paper")["sd over seeds"] is None


def test_accuracy_with_bounds_and_spread(tmp_path):
    for seed in (1, 2, 3):
        write_run(tmp_path / str(seed), seed=seed)
    group = score(tmp_path)
    line = row(tables(group)["accuracy"], system="mlp paper")
    tests = read_tests(group.systems[0].system).values()
    right = [test.predicted == test.labels for test in tests]
    of_seeds = [hits.mean() for hits in right]
    of_folds = [
        [hits[test.folds == fold].mean() for fold in set(test.folds)] for hits, test in zip(right, tests, strict=True)
    ]
    assert line["accuracy"] == pytest.approx(statistics.fmean(of_seeds))
    assert line["sd over seeds"] == pytest.approx(statistics.stdev(of_seeds))
    assert line["sd over folds"] == pytest.approx(statistics.fmean(map(statistics.stdev, of_folds)))
    low, high = wilson_interval(round(72 * statistics.fmean(of_seeds)), 72)
    assert (line["Wilson from"], line["Wilson to"]) == (low, high)
    for drawn in ("speakers", "clips"):
        assert line[f"{drawn} from"] < line["accuracy"] < line[f"{drawn} to"]


def test_scores_are_sorted_and_captions_name_their_clips(tmp_path):
    write_run(tmp_path / "bad", "mlp", skill=0.0)
    write_run(tmp_path / "good", "vit-32-30", skill=3.0)
    write_run(tmp_path / "part", "wav2vec2", skill=5.0, folds=[0])
    group = score(tmp_path)
    table = tables(group)["scores"]
    assert table.caption.startswith("On 72 synthetic clips, emotion, speaker-k-fold (3 folds). ")
    shown = [(line["system"], line["folds"], line["clips"]) for line in rows(table)[2:]]
    assert shown == [
        ("vit-32-30 paper", "3 of 3", 72),
        ("mlp paper", "3 of 3", 72),
        ("wav2vec2 paper (1 of 3 folds, seed 1)", "1 of 3", 24),
    ]
    line = row(table, system="mlp paper")
    test = read_tests(group.systems[1].system)["1"]
    expected = point_scores(test.labels, test.logits, group.group.labels)
    assert [line[name] for name in ("accuracy", "UAR", "macro F1", "macro AUC")] == list(expected.values())[:4]
    assert line["selected by"] == "uar on validation"


@pytest.fixture(scope="module")
def stained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of which one was selected on its test clips."""
    place = tmp_path_factory.mktemp("stained")
    write_run(place / "clean", "vit-32-30")
    write_run(place / "stained", "mlp", settings={"select_on": "test"})
    return place


def test_a_habit_reaches_every_table(stained):
    found = tables(score(stained))
    assert set(found) == {
        "scores", "uar", "accuracy", "auc", "calibration", "by-fold", "by-speaker", "by-intensity", "by-duration",
        "differences", "mcnemar", "confusion",
    }  # fmt: skip
    for name, table in found.items():
        names = {cell for line in table.rows for cell in line if str(cell).startswith(("mlp", "vit"))}
        assert names == {"mlp paper *", "vit-32-30 paper"}, name
        assert table.caption.endswith(f" * {SELECTED_ON_TEST}: mlp paper."), name
    assert row(found["scores"], system="mlp paper *")["marked"] == SELECTED_ON_TEST
    assert row(found["scores"], system="vit-32-30 paper")["marked"] is None
    assert row(found["scores"], system="mlp paper *")["selected by"] == "uar on test"


def test_a_habit_reaches_pictures_and_published_figures(stained, tmp_path):
    group = score(stained)
    pictures = [picture for several in draw_pictures(tmp_path, Path("f"), group).values() for picture in several]
    assert {picture.path.stem for picture in pictures} == {
        "uar", "accuracy", "differences-uar", "differences-accuracy", "by-speaker", "by-intensity", "by-duration",
        "reliability-1", "reliability-2", "confusion-1", "confusion-2",
    }  # fmt: skip
    for picture in pictures:
        assert (tmp_path / picture.path).is_file()
        only_clean = "of vit" in picture.caption
        assert picture.caption.endswith(f" * {SELECTED_ON_TEST}: mlp paper.") != only_clean, picture.caption
        assert "72 synthetic clips" in picture.caption
    selections = {(our.system, our.selection) for our in our_scores([group])}
    assert selections == {
        ("mlp paper *", f"uar on test; {SELECTED_ON_TEST}"),
        ("vit-32-30 paper", "uar on validation"),
    }


def test_no_star_without_a_habit(tmp_path):
    write_run(tmp_path)
    found = tables(score(tmp_path))
    assert not any("*" in table.to_markdown() for table in found.values())
    assert "marked" not in found["scores"].columns


def test_without_validation_clips_there_is_no_temperature(stained):
    line = row(tables(score(stained))["calibration"], system="mlp paper *")
    assert line["loss"] > 0 < line["ECE"]
    assert [line[name] for name in ("ECE with temperature", "loss with temperature", "temperature from")] == [None] * 3


def test_temperatures_correct_overconfident_logits(tmp_path):
    chosen = clips(72)
    write_run(tmp_path, rows=answer(chosen, [(clip["label"] + place // 36) % 6 for place, clip in enumerate(chosen)]))
    line = row(tables(score(tmp_path))["calibration"], system="mlp paper")
    sure = math.exp(4) / (math.exp(4) + 5)
    assert line["ECE"] == pytest.approx(sure - 0.5)
    assert line["loss"] == pytest.approx(-math.log(sure) + 4 / 2)
    assert line["ECE with temperature"] == pytest.approx(0, abs=1e-3), "half of the validation clips are right, too"
    temperature = 4 / math.log(5)  # at which the probability is a half
    assert (line["temperature from"], line["temperature to"]) == pytest.approx((temperature, temperature), rel=1e-3)
    assert (line["loss with temperature"], line["at bound"]) == (pytest.approx(math.log(2) + math.log(5) / 2), 0)


def test_intensities_are_compared_with_the_rest(tmp_path):
    chosen = clips(144)
    said = [(clip["label"] + (clip["intensity"] == "peak")) % 6 for clip in chosen]
    write_run(tmp_path, rows=answer(chosen, said))
    table = tables(score(tmp_path))["by-intensity"]
    assert [line["intensity"] for line in rows(table)] == ["low", "moderate", "strong", "peak"]
    peak = row(table, intensity="peak")
    assert (peak["clips"], peak["accuracy"], peak["difference (points)"]) == (36, 0, -100)
    low = row(table, intensity="low")
    assert (low["accuracy"], low["UAR"]) == (1, 1)
    assert low["difference (points)"] == pytest.approx(100 * (1 - 72 / 108))
    assert low["difference clips from"] < low["difference (points)"] < low["difference clips to"]
    assert low["difference speakers from"] == pytest.approx(low["difference (points)"]), "speakers are all the same"
    assert "Holz" in table.caption


def test_unknown_properties_of_clips_have_no_table(tmp_path):
    unknown = [{**clip, "speaker": None, "intensity": None, "duration": None} for clip in clips(36)]
    write_run(tmp_path, rows=unknown)
    found = tables(score(tmp_path))
    assert not [name for name in found if name.startswith("by-") and name != "by-fold"]
    line = row(found["uar"], system="mlp paper")
    assert line["speakers from"] is None
    assert line["clips from"] < line["UAR"]


def test_confusion_has_counts_and_shares(of_first_label):
    lines = {line["true label"]: line for line in rows(tables(of_first_label)["confusion"])}
    assert [lines["anger"][f"clips {label}"] for label in ("achievement", "anger")] == [6, 0]
    assert [lines["anger"][f"share {label}"] for label in ("achievement", "anger")] == [1, 0]
    assert lines["fear"]["share anger"] is None


def test_published_figures_are_compared_with_the_whole_of_vivae_only(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "VIVAE_CLIPS", 36)
    whole = {"name": "vivae", "clips": 36}
    corpora = {
        "whole": whole,
        "part": {**whole, "clips": 33},
        "problems": {**whole, "problems": ["S01_anger_low_01.wav is missing"]},
        "folder": {**whole, "name": "folder"},
        "folds": whole,
    }
    for name, corpus in corpora.items():
        write_run(tmp_path / name, count=corpus["clips"], corpus=corpus, folds=[0, 1] if name == "folds" else range(3))
    found = {name: our_scores([score(tmp_path / name)]) for name in corpora}
    assert [name for name, ours in found.items() if all(our.whole_vivae for our in ours)] == ["whole"]
    assert [name for name, ours in found.items() if any(our.whole_vivae for our in ours)] == ["whole"]
    ours = found["whole"]
    assert {(our.metric, our.averaging) for our in ours} == {
        (metric, averaging)
        for metric in ("accuracy", "uar", "macro_f1", "macro_auc")
        for averaging in ("pooled over clips", "mean over folds")
    }
