"""Folds as a file for other programs, and the way back: their predictions of these folds, evaluated."""

import csv
import json
import re
from pathlib import Path

import pytest
from runner import ROOT, flags, run, script

from hf_vivae.corpus import read_vivae
from hf_vivae.splits import PARTS, Fold, make_folds
from hf_vivae.training.recipes import parse_run

TRAIN = script(ROOT / "recipes" / "train.py")


def corpus_flags(tiny_vivae: Path) -> list[str]:
    return ["--data", "vivae", "--data_dir", str(tiny_vivae), "--allow_partial"]


def read(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_the_file_has_the_folds_of_the_protocol(tiny_vivae, tmp_path, capsys):
    file = tmp_path / "folds.jsonl"
    protocol = ["--protocol", "speaker-k-fold", "--num_groups", "3", "--seed", "7"]
    TRAIN.main(["--write_folds", str(file), *corpus_flags(tiny_vivae), *protocol])
    dataset = read_vivae(tiny_vivae, allow_partial=True).dataset
    expected = make_folds(dataset, "speaker-k-fold", dataset["emotion"][:], seed=7, num_groups=3)
    lines, names = read(file), dataset["file"][:]
    for fold in expected:
        rows = {
            part: [names.index(line["file"]) for line in lines if (line["fold"], line["split"]) == (fold.name, part)]
            for part in PARTS
        }
        assert Fold(fold.name, **rows) == fold
    assert len(lines) == 3 * 48
    emotions = dataset.features["emotion"].names
    by_file = {row["file"]: row for row in dataset.select_columns(["file", "speaker", "emotion"])}
    for line in lines:
        assert line["path"] == f"full_set/{line['file']}"
        assert line["speaker"] == by_file[line["file"]]["speaker"]
        assert line["label"] == emotions[by_file[line["file"]]["emotion"]]
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "48 vivae clips, emotion, speaker-k-fold, seed 7"
    assert [line.split() for line in printed[2:5]] == [
        [fold.name, *(str(len(getattr(fold, part))) for part in PARTS)] for fold in expected
    ]


def test_with_a_model_the_folds_are_those_of_its_run(tiny_vivae, tmp_path):
    file = tmp_path / "folds.jsonl"
    more = ["--model", "mlp", "--protocol", "leave-one-speaker-out", "--folds", "2", "--select_on", "none"]
    TRAIN.main(["--write_folds", str(file), *corpus_flags(tiny_vivae), *more])
    lines = read(file)
    assert {line["fold"] for line in lines} == {"S03"}
    assert sum(line["split"] == "train" for line in lines) == 36, "validation clips train"
    assert {line["speaker"] for line in lines if line["split"] == "test"} == {"S03"}


def test_a_label_map_holds_for_the_file(tiny_vivae, tmp_path, capsys):
    names = read_vivae(tiny_vivae, allow_partial=True).dataset.features["emotion"].names
    label_map = tmp_path / "few.yaml"
    label_map.write_text("\n".join(f"{name}: {'fear' if name == 'fear' else 'other'}" for name in names))
    more = ["--label_map", str(label_map), "--protocol", "random-80-20"]
    TRAIN.main(["--write_folds", str(tmp_path / "folds.jsonl"), *corpus_flags(tiny_vivae), *more])
    assert {line["label"] for line in read(tmp_path / "folds.jsonl")} == {"fear", "other"}
    title = "48 vivae clips (labels by few), emotion, random-80-20, seed 42"
    assert capsys.readouterr().out.splitlines()[0] == title


def test_predictions_of_another_program_for_these_folds_are_evaluated(tiny_vivae, tmp_path, capsys, undrawn):
    file = tmp_path / "folds.jsonl"
    TRAIN.main(["--write_folds", str(file), *corpus_flags(tiny_vivae), "--protocol", "leave-one-speaker-out"])
    labels = sorted({line["label"] for line in read(file)})
    rows = [  # always the first label
        {**line, **{f"p_{label}": float(label == labels[0]) for label in labels}}
        for line in read(file)
        if line["split"] == "test"
    ]
    with (tmp_path / "first.csv").open("w", newline="") as text:
        writer = csv.DictWriter(text, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    evaluate = script(ROOT / "recipes" / "evaluate.py")
    evaluate.main([str(tmp_path / "first.csv"), "--output_dir", str(tmp_path / "out")])
    (group,) = json.loads((tmp_path / "out" / "results.json").read_text())["groups"]
    (system,) = group["systems"]
    assert (system["name"], system["folds"], system["clips"]) == ("first", "4 of 4", 48)
    assert system["scores"]["accuracy"]["value"] == 1 / 6
    assert [speaker["name"] for speaker in system["by_speaker"]] == ["S01", "S02", "S03", "S04"]


def test_the_example_of_the_page_is_evaluated_next_to_a_run(tiny_vivae, tmp_path, monkeypatch, undrawn):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_clips").symlink_to(tiny_vivae)
    protocol = ["--protocol", "leave-one-speaker-out", "--folds", "0"]
    TRAIN.main(["--write_folds", "folds.jsonl", *corpus_flags(tiny_vivae), *protocol])
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "toolkits.md").read_text(), re.DOTALL)
    exec(program, {})
    run(flags(tiny_vivae, tmp_path / "runs", "mlp"))
    script(ROOT / "recipes" / "evaluate.py").main(["runs", "bands.csv", "--output_dir", "out"])
    (group,) = json.loads(Path("out/results.json").read_text())["groups"]
    assert {system["name"] for system in group["systems"]} == {
        f"{name} (1 of 4 folds, seed 42)" for name in ("mlp paper", "bands")
    }
    assert group["comparisons"][0]["clips"] == 12


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (
            ["--learning_rate", "1e-3"],
            "expected only arguments of clips and folds with --write_folds, found --learning_rate; leave them out, or "
            "add --model.",
        ),
        (["--protocl", "speaker-k-fold"], r"unknown argument '--protocl' \(did you mean --protocol\?\); see"),
        (["--folds", "9"], "expected --folds between 0 and 3, found 9; this protocol has no such fold."),
    ],
)
def test_arguments_that_make_no_folds_are_refused(tiny_vivae, tmp_path, argv, sentence):
    file = tmp_path / "folds.jsonl"
    protocol = ["--protocol", "leave-one-speaker-out"]
    with pytest.raises(ValueError, match=sentence):
        TRAIN.main(["--write_folds", str(file), *corpus_flags(tiny_vivae), *protocol, *argv])
    assert not file.exists()


def test_commands_that_train_refuse_the_flag():
    with pytest.raises(ValueError, match=r"^--write_folds is for train.py, which then trains nothing; leave it out."):
        parse_run(["--model", "mlp", "--write_folds", "folds.jsonl"], ROOT / "recipes")


def test_a_file_of_another_kind_is_never_replaced(tmp_path):
    file = tmp_path / "metadata.csv"
    file.write_text("file,label\n")
    with pytest.raises(ValueError, match=r"^expected a name that ends in .jsonl with --write_folds, found .*metadata"):
        TRAIN.main(["--write_folds", str(file), "--data", "synthetic"])
    assert file.read_text() == "file,label\n"
