"""Predictions of other programs, from CSV and Parquet: the scores of the same run, and errors with the row."""

import csv
import json
import logging
import math
import re
from pathlib import Path

import numpy as np
import pandas
import pytest
from fake_runs import FOLDS, clips, write_run
from runner import ROOT, script
from scipy.special import softmax

from hf_vivae.corpus import EMOTIONS
from hf_vivae.evaluation.evaluate import evaluate, our_scores
from hf_vivae.evaluation.foreign import CAVEAT, read_foreign, write_foreign
from hf_vivae.evaluation.runs import find_folders, read_part
from hf_vivae.evaluation.systems import join_folds
from hf_vivae.run_folder import read_predictions

EVALUATE = ROOT / "recipes" / "evaluate.py"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("runs")
    write_run(place / "mlp")
    return place


def table(folders: list[Path], parts: tuple[str, ...] = ("test",)) -> list[dict]:
    """The predictions of a run as another program writes them, without fold and split."""
    return [
        {
            "file": row["file"],
            "label": EMOTIONS[row["label"]],
            **{f"p_{label}": p for label, p in zip(EMOTIONS, softmax(row["logits"]).tolist(), strict=True)},
            "fold": row["fold"],
            "split": row["split"],
        }
        for folder in folders
        for row in read_predictions(folder)
        if row["split"] in parts
    ]


def write(file: Path, rows: list[dict], *without: str) -> Path:
    rows = [{key: value for key, value in row.items() if key not in without} for row in rows]
    with file.open("w", newline="") as text:
        writer = csv.DictWriter(text, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return file


def simple(count: int = 12) -> list[dict]:
    """Clips of two labels without anything else."""
    return [{"file": f"{number}.wav", "label": "ab"[number % 2], "p_b": 0.25, "p_a": 0.75} for number in range(count)]


def test_the_predictions_of_a_run_have_its_scores(runs, tmp_path, undrawn):
    file = write(tmp_path / "theirs.csv", table(list(runs.glob("mlp/*"))), "fold", "split")
    results = evaluate([runs, file], tmp_path / "out")
    (group,) = results.groups
    assert group.group.clips.title == "72 synthetic clips, emotion, speaker-k-fold (3 folds)"
    by_name = {scores.system.name: scores for scores in group.systems}
    ours, theirs = by_name["mlp paper"], by_name["theirs"]
    for name, estimate in ours.estimates.items():
        assert theirs.estimates[name].value == pytest.approx(estimate.value, abs=1e-6)
        assert theirs.estimates[name].speakers == pytest.approx(estimate.speakers, abs=1e-6)
    assert [score.name for score in theirs.groups["speaker"]] == [f"S{number:02}" for number in range(1, 7)]
    assert theirs.groups["duration"]
    np.testing.assert_array_equal(theirs.confusion, ours.confusion)
    (pair,) = group.pairs
    assert (pair.comparison.clips, pair.comparison.accuracy.value, pair.comparison.p_value) == (72, 0, 1)
    assert (theirs.system.selection, theirs.system.caveats, theirs.system.covered) == ("not known", [CAVEAT], "3 of 3")
    assert group.majority == ours.majority, "which it takes from training clips, of which the file has none"


def test_predictions_of_another_program_are_not_ours_among_published_figures(tmp_path, undrawn):
    folders = write_run(tmp_path / "runs", corpus={"name": "vivae"})
    file = write(tmp_path / "theirs.csv", table(folders), "fold", "split")
    groups = evaluate([tmp_path / "runs", file], tmp_path / "out").groups
    assert {score.system for score in our_scores(groups)} == {"mlp paper"}


def test_digests_of_the_clips_are_those_of_the_runs(tmp_path):
    rows = [{**row, "digest": f"{number:016x}"} for number, row in enumerate(clips(72))]
    folders = write_run(tmp_path / "runs", rows=rows)
    file = write(tmp_path / "theirs.csv", table(folders), "fold", "split")
    written = write_foreign([file], find_folders(folders)[0], tmp_path / "out")
    digests = {row["file"]: row["digest"] for row in rows}
    for folder in written:
        assert all(row["digest"] == digests[row["file"]] for row in read_predictions(folder))


def test_paths_of_the_corpus_and_another_order_of_labels_make_no_difference(runs, tmp_path):
    rows = table(list(runs.glob("mlp/*")))
    moved = [{**dict(reversed(row.items())), "file": f"/data/corpus/{row['file']}"} for row in rows]
    file = write(tmp_path / "theirs.csv", moved, "fold", "split")
    folders = find_folders([runs])[0]
    (group,) = join_folds([*folders, *find_folders(write_foreign([file], folders, tmp_path / "out"))[0]])
    ours, theirs = (system.runs[0].read("test") for system in group.systems)
    assert theirs.files.tolist() == ours.files.tolist()
    np.testing.assert_array_equal(theirs.labels, ours.labels)
    np.testing.assert_allclose(softmax(theirs.logits, axis=1), softmax(ours.logits, axis=1), atol=1e-6)


def test_some_of_the_folds_are_a_system_of_these_folds(runs, tmp_path):
    file = write(tmp_path / "theirs.csv", table([runs / "mlp" / "2-of-3"]), "split")
    folders = find_folders([runs])[0]
    (group,) = join_folds([*folders, *find_folders(write_foreign([file], folders, tmp_path / "out"))[0]])
    assert [system.name for system in group.systems] == ["mlp paper", "theirs (1 of 3 folds, seed 1)"]


def test_validation_clips_calibrate(runs, tmp_path, undrawn):
    rows = table(list(runs.glob("mlp/*")), parts=("test", "validation"))
    (group,) = evaluate([runs, write(tmp_path / "theirs.csv", rows)], tmp_path / "out").groups
    temperatures = {scores.system.name: scores.calibration.temperatures for scores in group.systems}
    assert len(temperatures["theirs"]) == FOLDS
    assert temperatures["theirs"] == pytest.approx(temperatures["mlp paper"], rel=1e-3)


def test_a_run_of_the_same_seed_is_compared_with_a_row_of_that_seed(tmp_path, undrawn):
    rows = []
    for seed in (1, 2):
        folders = write_run(tmp_path / "runs" / str(seed), seed=seed)
        rows += [{**row, "seed": seed} for row in table(folders)]
    file = write(tmp_path / "theirs.csv", rows, "fold", "split")
    (group,) = evaluate([tmp_path / "runs", file], tmp_path / "out").groups
    assert group.pairs[0].seeds == ("1", "2")
    assert group.pairs[0].comparison.accuracy.value == 0
    wrong = write(tmp_path / "wrong.csv", [{**row, "seed": 3} for row in rows[:72]], "fold", "split")
    with pytest.raises(ValueError, match=r"expected in .*wrong.csv seeds of the runs \(1, 2\), found 3; correct"):
        evaluate([tmp_path / "runs", wrong], tmp_path / "out")


def test_files_of_the_same_clips_are_compared_without_runs_and_without_invented_speakers(tmp_path, capsys, undrawn):
    first = write(tmp_path / "first.csv", simple())
    second = tmp_path / "second.parquet"
    better = [{**row, "p_a": float(row["label"] == "a"), "p_b": float(row["label"] == "b")} for row in simple()]
    pandas.DataFrame(better).to_parquet(second)
    script(EVALUATE).main([str(first), str(second), "--output_dir", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    assert "12 other clips, classification, other-folds (one fold)" in printed
    assert f"* {CAVEAT}: second, first." in printed
    (group,) = json.loads((tmp_path / "out" / "results.json").read_text())["groups"]
    assert [(system["name"], system["scores"]["uar"]["value"]) for system in group["systems"]] == [
        ("second", 1.0),
        ("first", 0.5),
    ]
    assert [system["scores"]["uar"]["speakers"] for system in group["systems"]] == [None, None]
    assert [system["by_speaker"] for system in group["systems"]] == [[], []]
    assert group["comparisons"][0]["accuracy"]["value"] == 0.5
    assert not list((tmp_path / "out").rglob("published*"))


def test_speakers_of_the_file_give_bounds(tmp_path, undrawn):
    rows = [{**row, "speaker": f"S{number % 6}", "p_a": number % 3 / 2, "p_b": 1 - number % 3 / 2} for number, row in
            enumerate(simple(60))]  # fmt: skip
    (group,) = evaluate([write(tmp_path / "theirs.csv", rows)], tmp_path / "out").groups
    low, high = group.systems[0].estimates["uar"].speakers
    assert low < group.systems[0].estimates["uar"].value < high


def test_a_probability_of_zero_has_a_finite_loss(tmp_path):
    rows = [{**row, "p_a": 1, "p_b": 0} for row in simple()]
    (folder,) = write_foreign([write(tmp_path / "theirs.csv", rows)], [], tmp_path / "out")
    assert np.isfinite(read_part([folder], "test").logits).all()


def test_a_file_of_other_clips_has_a_table_of_its_own_with_a_warning(runs, tmp_path, caplog, undrawn):
    file = write(tmp_path / "theirs.csv", simple())
    with caplog.at_level(logging.WARNING):
        results = evaluate([runs, file], tmp_path / "out")
    assert [group.group.clips.corpus for group in results.groups] == ["other", "synthetic"]
    assert "theirs.csv has no clip of the runs, and is not compared with them." in caplog.text


def test_a_later_evaluation_does_not_take_the_written_folders_for_runs(runs, tmp_path, undrawn):
    write_run(tmp_path / "mlp")
    file = write(tmp_path / "theirs.csv", table(list(runs.glob("mlp/*"))), "fold", "split")
    for _ in range(2):
        (group,) = evaluate([tmp_path, file], tmp_path / "evaluation").groups
        assert len(group.systems) == 2
        assert {folder.path.parent.name for folder in find_folders([tmp_path])[0]} == {"mlp"}


def test_columns_that_are_not_used_are_named(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        read_foreign(write(tmp_path / "theirs.csv", [{**row, "spkr": "x"} for row in simple()]))
    assert "theirs.csv: these columns are not used: spkr." in caplog.text


def changed(number: int, **values) -> list[dict]:
    rows = simple()
    rows[number - 1] |= values
    return rows


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (
            [{"path": "a.wav", "label": "a", "p_a": 1}],
            "expected the columns file, label and p_<label> in FILE, found no file and no p_<label> for two labels or "
            "more among path, label, p_a; rename its columns, or add them.",
        ),
        (
            [{**row, "probability": 0.75, "duration_used": 1.0} for row in simple()],
            "expected the true label of each clip in the column label of FILE, found the output of hf-vivae predict, "
            "whose label is the predicted one; write the true labels there, without the column probability.",
        ),
        (
            changed(3, p_a=math.nan),
            "FILE, row 3: expected a probability in p_a, found 'nan'; correct it, or remove the row.",
        ),
        (changed(4, p_b=""), "FILE, row 4: expected a probability in p_b, found ''; correct it, or remove the row."),
        (
            changed(2, p_a=-1.5, p_b=2.5),
            "FILE, row 2: expected probabilities of 0 or more with a sum of 1, found -1.5 (as in 1 of 12 rows); these "
            "look like logits, of which the softmax is needed.",
        ),
        (
            [{**row, "p_a": 75, "p_b": 25} for row in simple()],
            "FILE, row 1: expected probabilities of 0 or more with a sum of 1, found a sum of 100 (as in 12 of 12 "
            "rows); write probabilities, shares and not percent.",
        ),
        (
            changed(5, label="c"),
            "FILE, row 5: expected a label with a column of probabilities (a, b), found 'c'; correct it, or add its "
            "column.",
        ),
        (changed(6, file=" "), "FILE, row 6: expected a file, found none; add it, or remove the row."),
        (
            changed(7, file="0.wav"),
            "expected each clip once in a fold and in one test part of a seed in FILE, found 0.wav in row 1 and row "
            "7; remove one of them, or add a column seed, fold or split.",
        ),
        (
            [{**row, "fold": number % 2} for number, row in enumerate(changed(8, file="0.wav"))],
            "expected each clip once in a fold and in one test part of a seed in FILE, found 0.wav in row 1 and row "
            "8; remove one of them, or add a column seed, fold or split.",
        ),
        (
            [{**row, "split": "dev"} for row in simple()],
            "FILE, row 1: expected train, validation or test as split, found 'dev'; correct it.",
        ),
        (
            [{**row, "split": "train"} for row in simple()],
            "expected clips of the split test in FILE, found none; add them.",
        ),
        (
            [{**row, "split": "train", "fold": 2} if row["file"] == "9.wav" else {**row, "split": "test", "fold": 1}
             for row in simple()],
            "FILE, row 10: expected a fold with test clips, found none in 2; add them, or remove its rows.",
        ),
    ],
)  # fmt: skip
def test_a_bad_file_is_one_sentence(tmp_path, rows, sentence):
    file = write(tmp_path / "theirs.csv", rows)
    with pytest.raises(ValueError, match=f"^{re.escape(sentence.replace('FILE', str(file)))}$"):
        write_foreign([file], [], tmp_path / "out")


def test_an_absent_file_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match=r"^expected a file of predictions, found no file .*none.csv; check the path"):
        evaluate([tmp_path / "none.csv"], tmp_path / "out")


def relabel(row: dict) -> dict:
    return {key.replace("p_anger", "p_rage"): "rage" if value == "anger" else value for key, value in row.items()}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda rows: [{**rows[0], "label": "pain"}, *rows[1:]],
            r"FILE, row 1: expected the label \w+ of S\d\d_\S+, as in the runs, found pain; correct it, or give the "
            "file without these runs.",
        ),
        (
            lambda rows: [{**row, "speaker": "someone"} for row in rows],
            r"FILE, row 1: expected the speaker S\d\d of S\d\d_\S+, as in the runs, found someone; correct it, or "
            "give the file without these runs.",
        ),
        (
            lambda rows: [{**rows[0], "fold": "3-of-3"}, *rows[1:]],
            r"FILE, row 1: expected the fold 1-of-3 of S\d\d_\S+, as in the runs, found 3-of-3; correct it, or give "
            "the file without these runs.",
        ),
        (
            lambda rows: rows[2:],
            r"expected in FILE all clips that the runs test in its folds, found no row of 2 \(first: S\d\d_\S+\); add "
            "them, or give the file without these runs.",
        ),
        (
            lambda rows: [*rows, {**rows[0], "file": "another.wav"}],
            r"FILE, row 73: expected a clip that the runs test, found another.wav; remove its row, or state in a "
            "column split that it trains or validates.",
        ),
        (
            lambda rows: [relabel(row) for row in rows],
            r"expected in FILE a column p_<label> for each label of the runs \(achievement, anger, fear, pain, "
            r"pleasure, surprise\), found those of achievement, fear, pain, pleasure, rage, surprise; rename its "
            "columns and labels.",
        ),
        (
            lambda rows: [{**row, "fold": ""} for row in rows],
            "FILE, row 1: expected a fold, found none; add it, or remove the row.",
        ),
    ],
)
def test_a_file_that_contradicts_the_runs_is_one_sentence(runs, tmp_path, change, sentence):
    file = write(tmp_path / "theirs.csv", change(sorted(table(list(runs.glob("mlp/*"))), key=lambda row: row["fold"])))
    with pytest.raises(ValueError, match=f"^{sentence.replace('FILE', str(file))}$"):
        evaluate([runs, file], tmp_path / "out")


def test_a_file_without_folds_belongs_to_the_runs_of_one_protocol(runs, tmp_path):
    write_run(tmp_path / "other", settings={"protocol": "group-k-fold"})
    file = write(tmp_path / "theirs.csv", table(list(runs.glob("mlp/*"))), "fold", "split")
    with pytest.raises(ValueError, match=r"found that those of several test its clips \(72 .* speaker-k-fold .*; 72"):
        evaluate([runs, tmp_path / "other", file], tmp_path / "out")


def test_validation_clips_need_a_fold(runs, tmp_path):
    file = write(tmp_path / "theirs.csv", table(list(runs.glob("mlp/*")), parts=("validation", "test")), "fold")
    sentence = "expected a column fold together with the split validation, found none; add it."
    with pytest.raises(ValueError, match=sentence):
        evaluate([runs, file], tmp_path / "out")
