"""A curve from clips to its table: runs with the speakers of their points, none of them trained twice."""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from runner import ROOT, run, script
from tiny import CONFIGS

from hf_vivae.curve import run as curve
from hf_vivae.curve.run import measure_curve
from hf_vivae.evaluation.runs import find_folders
from hf_vivae.evaluation.systems import join_folds
from hf_vivae.files import read_json
from hf_vivae.splits.folds import PARTS
from hf_vivae.validation import UserError

pytestmark = pytest.mark.usefixtures("no_pictures")
RECIPES = ROOT / "recipes"
RATE = 8000
LABELS = ("laugh", "moan", "scream")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """Two clips of twelve speakers and three labels, whose pitch depends on the label."""
    root, rng = tmp_path_factory.mktemp("voices"), np.random.default_rng(0)
    seconds = np.arange(RATE // 5) / RATE
    for number, label in enumerate(LABELS):
        (root / label).mkdir()
        for speaker in range(12):
            for take in range(2):
                tone = 0.3 * np.sin(2 * np.pi * (200 * (number + 1) + 3 * speaker) * seconds + take)
                soundfile.write(
                    root / label / f"P{speaker:02}_{take}.wav", tone + 0.05 * rng.normal(size=len(tone)), RATE
                )
    return root


def argv(corpus: Path, output: Path, *more: str) -> list[str]:
    """Half of the speakers are tested, and the other six train and validate."""
    return [
        "--model", "logistic-regression", "--model_config", json.dumps(CONFIGS["logistic-regression"]),
        "--data", "folder", "--data_dir", str(corpus), "--speaker_pattern", "^(P[0-9]+)_", "--num_groups", "2",
        "--speakers", "2", "4", "--draws", "2", "--disable_tqdm", "true", "--output_dir", str(output), *more,
    ]  # fmt: skip


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "curve.csv").open() as file:
        return list(csv.DictReader(file))


def trained(folder: Path) -> dict[Path, int]:
    """Return the time at which the results of each run were written."""
    return {file: file.stat().st_mtime_ns for file in folder.glob("runs/**/1-of-2/results.json")}


def learnt(folder: Path) -> dict[str, set[str]]:
    """Return the speakers of each part of a run."""
    fold = read_json(folder / "1-of-2" / "run.json")["fold"]
    return {part: {Path(file).name[:3] for file in fold[part]} for part in PARTS}


@pytest.fixture(scope="module")
def whole(corpus, tmp_path_factory, no_pictures) -> Path:
    folder = tmp_path_factory.mktemp("curve") / "out"
    script(RECIPES / "curve.py").main(argv(corpus, folder))
    return folder


def test_each_point_is_a_run_with_its_speakers_and_the_same_test_clips(whole):
    assert len(trained(whole)) == 5
    everyone = learnt(whole / "runs" / "all")
    assert [len(everyone[part]) for part in PARTS] == [5, 1, 6]
    for draw in range(2):
        small, large = (learnt(whole / "runs" / f"{size}-speakers" / f"draw{draw}") for size in (2, 4))
        assert [len(small[part]) for part in PARTS] == [1, 1, 6]
        assert [len(large[part]) for part in PARTS] == [3, 1, 6]
        for part in PARTS:
            assert small[part] <= large[part] <= everyone[part]
    draws = [learnt(whole / "runs" / "4-speakers" / f"draw{draw}") for draw in range(2)]
    assert draws[0]["train"] != draws[1]["train"]
    assert not list(whole.rglob("checkpoint-*"))


def test_the_table_has_the_scores_of_the_runs(whole):
    rows, content = table(whole), read_json(whole / "results.json")
    assert [row["speakers"] for row in rows] == ["2", "4", "all (6)"]
    assert [float(row["clips"]) for row in rows] == [12, 24, 36]
    for row, point, name in zip(rows, content["points"], ("2-speakers/*", "4-speakers/*", "all"), strict=True):
        scores = [
            read_json(folder / "1-of-2" / "results.json")["test"]["uar"]
            for folder in sorted((whole / "runs").glob(name))
        ]
        assert point["draws"] == pytest.approx(scores)
        assert float(row["UAR"]) == pytest.approx(np.mean(scores))
        assert float(row["95 % from"]) <= float(row["UAR"]) <= float(row["95 % to"])
    keys = ("model", "data", "protocol", "folds", "test_clips", "test_speakers", "notes")
    assert [content[key] for key in keys] == [
        "logistic-regression", "folder", "speaker-k-fold", ["1-of-2"], 36, 6, [],
    ]  # fmt: skip
    report = (whole / "report.md").read_text()
    assert "logistic-regression paper on 72 folder clips, emotion, speaker-k-fold (2 folds), fold 1-of-2" in report
    assert "All rows are scored on the same 36 clips of 6 speakers" in report


def test_all_speakers_are_the_run_of_train_without_them(corpus, whole, tmp_path):
    flags = argv(corpus, tmp_path / "plain")
    start = flags.index("--speakers")
    results = run([*flags[:start], *flags[start + 5 :], "--protocol", "speaker-k-fold", "--folds", "0"])
    assert results["test"] == read_json(whole / "runs" / "all" / "results.json")["test"]


def test_a_repeated_command_trains_what_is_missing_and_the_draws_that_are_new(corpus, whole, tmp_path):
    folder = tmp_path / "out"
    shutil.copytree(whole, folder)
    before, rows = trained(folder), table(folder)
    lost = folder / "runs" / "4-speakers" / "draw1" / "1-of-2" / "results.json"
    lost.unlink()
    report = measure_curve(argv(corpus, folder, "--draws", "3"), RECIPES)
    now = trained(folder)
    assert {file for file in before if now[file] != before[file]} == {lost}
    assert {file.parents[1].name for file in now.keys() - before.keys()} == {"draw2"}
    assert [row["draws"] for row in table(folder)] == ["3", "3", "1"]
    assert table(folder)[-1]["UAR"] == rows[-1]["UAR"]
    assert "| all (6) | 36 | 1 |" in report.text


def test_the_runs_of_a_curve_are_systems_of_an_evaluation(whole):
    folders, left_out = find_folders([whole / "runs" / "2-speakers", whole / "runs" / "all"])
    (group,) = join_folds(folders)
    names = {re.sub(r" \(.*", "", system.name) for system in group.systems}
    assert left_out == []
    assert names >= {f"logistic-regression paper speaker_draw={draw} train_speakers=2" for draw in range(2)}
    assert "logistic-regression paper speaker_draw=0 train_speakers=null" in names


def test_runs_of_other_settings_are_refused_before_anything_is_trained(corpus, whole, monkeypatch):
    monkeypatch.setattr(curve, "train_in_study", None)
    with pytest.raises(UserError, match=r"/2-speakers/draw0 holds another run, which differs in seed \(was 42, is 7"):
        measure_curve(argv(corpus, whole, "--seed", "7"), RECIPES)


def test_a_run_that_fails_is_named(corpus, tmp_path, monkeypatch):
    def fails(run, args, corpus):
        raise UserError("expected a lower learning rate, found NaN; lower it.")

    monkeypatch.setattr("hf_vivae.training.run.train", fails)
    with pytest.raises(UserError, match=r"^expected a lower .*; lower it \(the run in .*/runs/2-speakers/draw0 faile"):
        measure_curve(argv(corpus, tmp_path / "out"), RECIPES)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (("--protocol", "random-80-20", "--num_groups", "5"), r"^expected folds that keep speakers .* found P\d\d"),
        (("--speakers", "2", "6"), r"^expected --speakers from 2 to 5, since 6 speakers train and .* found 6; give"),
    ],
)  # fmt: skip
def test_corpora_and_protocols_without_the_speakers_are_refused_before_anything_is_trained(
    corpus, tmp_path, monkeypatch, more, sentence
):
    monkeypatch.setattr(curve, "train_in_study", None)
    with pytest.raises(UserError, match=sentence):
        measure_curve(argv(corpus, tmp_path / "out", *more), RECIPES)


def test_a_corpus_without_speakers_is_refused(corpus, tmp_path):
    flags = argv(corpus, tmp_path / "out")
    start = flags.index("--speaker_pattern")
    with pytest.raises(UserError, match=r"^expected a speaker for every clip to .*, found none for 72 of 72; take"):
        measure_curve([*flags[:start], *flags[start + 2 :]], RECIPES)


def test_training_clips_of_one_label_are_named(corpus, tmp_path):
    (tmp_path / "one").mkdir()
    for speaker in range(12):
        label = tmp_path / "one" / LABELS[0 if speaker % 3 else 1]
        label.mkdir(exist_ok=True)
        for take in range(2):
            (label / f"P{speaker:02}_{take}.wav").hardlink_to(corpus / label.name / f"P{speaker:02}_{take}.wav")
    with pytest.raises(UserError, match=r"^expected training clips of at least 2 labels, found only \w+ in 2; train"):
        measure_curve(argv(tmp_path / "one", tmp_path / "out"), RECIPES)


def test_a_report_states_selection_on_test_clips_the_lack_of_bounds_and_the_label_map(corpus, tmp_path):
    label_map = tmp_path / "moods.yaml"
    label_map.write_text("laugh: joy\nmoan: grief\nscream: fear\n")
    more = ("--num_groups", "5", "--speakers", "3", "--draws", "1", "--select_on", "test", "--num_train_epochs", "1")
    more = ("--model", "mlp", "--model_config", json.dumps(CONFIGS["mlp"]), *more)
    report = measure_curve(argv(corpus, tmp_path / "out", *more, "--label_map", str(label_map)), RECIPES)
    assert "UAR of mlp paper * on 72 folder clips (labels by moods)" in report.text
    assert "on folder clips (labels by moods)" in (tmp_path / "out" / "report.md").read_text().splitlines()[0]
    selected, bounds = read_json(tmp_path / "out" / "results.json")["notes"]
    assert re.fullmatch(r"\* .* selected on the test clips\.", selected)
    assert re.fullmatch(r"No bounds, since [23] speakers are tested and 5 are needed: test more --folds\.", bounds)
    row = table(tmp_path / "out")[0]
    assert (row["speakers"], row["clips"], row["95 % from"], row["lowest draw"]) == ("3", "18.0", "", "")
