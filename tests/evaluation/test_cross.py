"""Every system on every corpus whose labels it has: own test clips, mean of folds elsewhere, nothing it has learnt."""

import json
import logging
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from runner import ROOT, flags, run, script
from scipy.special import softmax

from hf_vivae.corpus import read_folder
from hf_vivae.corpus.arguments import CorpusArguments
from hf_vivae.evaluation import cross
from hf_vivae.evaluation.arguments import parse_evaluation
from hf_vivae.evaluation.cross import CrossEvaluation, cross_evaluate
from hf_vivae.evaluation.cross_report import cross_figure, cross_table, format_cross
from hf_vivae.evaluation.rescore import UNKNOWN, score_checkpoint
from hf_vivae.files import read_json
from hf_vivae.run_folder import read_predictions
from hf_vivae.validation import UserError

LABELS = ("anger", "fear", "pain")


@pytest.fixture(scope="module")
def trained(tiny_vivae, tmp_path_factory) -> Path:
    """Two folds of a run: S01 tests, S02 validates, the others train; then S02 tests and S03 validates."""
    folder = tmp_path_factory.mktemp("trained") / "mlp"
    run(flags(tiny_vivae, folder, "mlp", "--folds", "0", "1", "--normalization", "mean_std"))
    return folder


@pytest.fixture(scope="module")
def mixed(tiny_vivae, tmp_path_factory) -> Path:
    """A folder of three labels: all clips of S01 and S04 under other names, and as many new ones of a speaker S09."""
    root = tmp_path_factory.mktemp("mixed")
    for path in sorted((tiny_vivae / "full_set").glob("S0[14]_*")):
        speaker, label, _ = path.name.split("_", 2)
        if label in LABELS:
            (root / label).mkdir(exist_ok=True)
            shutil.copy(path, root / label / f"{speaker}_copy_{path.name[4:]}")
            samples, rate = soundfile.read(path)
            soundfile.write(root / label / f"S{int(speaker[1:]) + 8:02d}_{path.name[4:]}", samples[::-1], rate)
    return root


def vivae(folder: Path, **options) -> CorpusArguments:
    return CorpusArguments(data="vivae", data_dir=str(folder), allow_partial=True, **options)


def of_folder(folder: Path, **options) -> CorpusArguments:
    return CorpusArguments(data="folder", data_dir=str(folder), speaker_pattern="(S..)_", **options)


def write_map(folder: Path, name: str, targets: dict[str, str | None]) -> str:
    file = folder / f"{name}.yaml"
    file.write_text(json.dumps(targets))
    return str(file)


def test_its_own_corpus_is_scored_by_the_test_clips_of_its_run(trained, tiny_vivae, monkeypatch):
    monkeypatch.setattr(cross, "load_for_inference", None)  # their predictions are in the run folders
    found = cross_evaluate([str(trained)], [vivae(tiny_vivae)], "emotion")
    ((cell,),) = found.cells
    results = read_json(trained / "results.json")["test"]
    assert (cell.clips, cell.tested, cell.labels, cell.reason) == (24, 24, 6, "")
    for name in ("accuracy", "uar"):
        assert cell.estimates[name].value == pytest.approx(results[name])
    assert (found.rows[0].trained_on, found.columns[0].title) == ("vivae", "vivae")


def test_elsewhere_the_folds_are_averaged_that_have_not_learnt_from_a_clip(trained, mixed, tmp_path, monkeypatch):
    corpus = read_folder(mixed, "(S..)_")
    logits = []
    for fold in ("S01", "S02"):
        folder = score_checkpoint(fold, trained / fold, corpus, "emotion", tmp_path)
        logits.append({row["file"]: np.array(row["logits"]) for row in read_predictions(folder)})
    scored, score = [], cross.score_estimates
    monkeypatch.setattr(
        cross, "score_estimates", lambda tests, names: scored.extend([*tests, names]) or score(tests, names)
    )
    cross_evaluate([str(trained)], [of_folder(mixed)], "emotion")
    test, names = scored
    assert names == ["anger", "fear", "pain", "achievement", "pleasure", "surprise"]
    # of S04 each fold has learnt, and of S01 the second one, whose test clip of the first one it is
    assert set(test.speakers) == {"S01", "S09", "S12"}
    for file, found in zip(test.files, test.logits, strict=True):
        folds = logits if file.split("/")[1].startswith(("S09", "S12")) else logits[:1]
        expected = np.mean([softmax(of_fold[file]) for of_fold in folds], axis=0)
        np.testing.assert_allclose(softmax(found), expected, atol=1e-5)
    assert {names[label] for label in test.labels} == set(LABELS)


def test_scores_of_a_mixed_corpus(trained, mixed):
    ((cell,),) = cross_evaluate([str(trained)], [of_folder(mixed)], "emotion").cells
    assert (cell.clips, cell.tested, cell.labels, cell.caveats) == (18, 6, 3, ())
    assert 0 <= cell.estimates["uar"].value <= 1


def test_what_all_folds_have_learnt_from_has_no_score(trained, mixed, tmp_path, caplog):
    for path in mixed.glob("*/S04_*"):
        (tmp_path / "known" / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp_path / "known" / path.parent.name / path.name)
    with caplog.at_level(logging.WARNING):
        found = cross_evaluate([str(trained)], [of_folder(tmp_path / "known"), of_folder(mixed)], "emotion")
    (first, second) = found.cells[0]
    assert (first.estimates, first.reason) == ({}, "all 6 clips trained or selected it")
    assert second.clips == 18
    assert "has no score on folder known: all 6 clips trained or selected it." in caplog.text
    with pytest.raises(UserError, match="expected clips that a checkpoint has not learnt from, found none; give"):
        cross_evaluate([str(trained)], [of_folder(tmp_path / "known")], "emotion")


def test_labels_are_shared_by_name_through_maps(trained, mixed, tmp_path, caplog):
    joy = write_map(tmp_path, "joy", {"anger": "joy", "fear": "fear", "pain": None})
    states = write_map(tmp_path, "states", {"anger": "joy", "fear": "grief", "pain": None})
    two = write_map(tmp_path, "two", {"anger": "pain", "fear": "anger", "pain": None})
    corpora = [of_folder(mixed, label_map=label_map) for label_map in (joy, states, two)]
    with caplog.at_level(logging.WARNING):
        found = cross_evaluate([str(trained)], corpora, "emotion")
    (row,) = found.cells
    assert [cell.reason for cell in row] == ["no label joy", "no common label", ""]
    assert [cell.labels for cell in row] == [2, 2, 2]
    title = f"folder {mixed.name} (labels by "
    assert [column.title for column in found.columns] == [f"{title}{name})" for name in ("joy", "states", "two")]
    assert f"has no score on {title}states): no common label." in caplog.text
    sentence = (
        f"expected a corpus with labels of a checkpoint, found that {title}states) (grief, joy) and mlp paper (2 of 4 "
        "folds, seed 42) (achievement, anger, fear, pain, pleasure, surprise) do not share theirs; give another "
        "--data, or a --label_map to the labels of the checkpoint."
    )
    with pytest.raises(UserError, match=re.escape(sentence)):
        cross_evaluate([str(trained)], [corpora[1]], "emotion")


def test_other_clips_of_one_name_have_other_titles(trained, tiny_vivae, tmp_path):
    (tmp_path / "full_set").mkdir()
    for path in (tiny_vivae / "full_set").glob("S0[1-3]_*"):
        shutil.copy(path, tmp_path / "full_set" / path.name)
    found = cross_evaluate([str(trained)], [vivae(tiny_vivae), vivae(tmp_path)], "emotion")
    titles = [column.title for column in found.columns]
    assert titles[0] == found.rows[0].trained_on != titles[1]
    assert all(re.fullmatch("vivae, digest [0-9a-f]{6}", title) for title in titles)
    assert [(cell.clips, cell.tested) for cell in found.cells[0]] == [(24, 24), (24, 24)]


def test_a_checkpoint_without_its_run_is_marked(trained, mixed, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors", "preprocessor_config.json"):
        shutil.copy(trained / "S01" / name, bare / name)
    found = cross_evaluate([str(bare), str(trained)], [of_folder(mixed)], "emotion")
    assert [(row.name, row.trained_on) for row in found.rows] == [
        ("mlp paper (2 of 4 folds, seed 42)", "vivae"), (str(bare), "vivae"),
    ]  # fmt: skip
    ((whole,), (cell,)) = found.cells
    assert (whole.caveats, cell.caveats) == ((), (UNKNOWN,))
    assert (cell.clips, cell.tested) == (24, 0)
    table = cross_table(found)
    assert [row[0] for row in table.rows] == ["mlp paper (2 of 4 folds, seed 42)", f"{bare} *"]
    assert f"* {UNKNOWN}: {bare}." in table.caption
    assert f"* {UNKNOWN}: {bare}." in format_cross(found)


def changed_copy(trained: Path, folder: Path, file: str, part: str | None, **entries) -> Path:
    """A copy of the run with other entries in a file of each fold."""
    shutil.copytree(trained, folder)
    for path in folder.glob(f"S0*/{file}"):
        content = read_json(path)
        (content if part is None else content[part]).update(entries)
        path.write_text(json.dumps(content))
    return folder


def test_a_star_of_the_run_marks_its_own_test_clips_alone(trained, mixed, tiny_vivae, tmp_path):
    habits = ["its epochs are selected on the test clips"]
    starred = changed_copy(trained, tmp_path / "starred", "results.json", None, habits=habits)
    for path in mixed.glob("*/S09_*"):
        (tmp_path / "new" / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp_path / "new" / path.parent.name / path.name)
    found = cross_evaluate([str(starred)], [vivae(tiny_vivae), of_folder(tmp_path / "new")], "emotion")
    assert [cell.caveats for cell in found.cells[0]] == [tuple(habits), ()]


def test_one_system_under_two_protocols_has_two_names(trained, tiny_vivae, tmp_path):
    other = changed_copy(trained, tmp_path / "other", "run.json", "run", protocol="group-k-fold")
    found = cross_evaluate([str(trained), str(other)], [vivae(tiny_vivae)], "emotion")
    name = "mlp paper (2 of 4 folds, seed 42) (emotion, "
    assert [row.name for row in found.rows] == [f"{name}{rest}" for rest in (
        "group-k-fold, 4 folds)", "leave-one-speaker-out, 4 folds)",
    )]  # fmt: skip


def test_each_data_has_the_options_after_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    argv = ["--cross", "runs/a", "runs/b", "--data", "emogator", "--label_map", "m.yaml", "--categories", "all"]
    argv += ["--data", "folder", "--data_dir", "clips", "--task", "valence", "--data=synthetic", "--output_dir", "x"]
    arguments = parse_evaluation(argv)
    assert (arguments.runs, arguments.task, arguments.output_dir) == (["runs/a", "runs/b"], "valence", "x")
    emogator, folder, synthetic = arguments.corpora
    assert emogator == CorpusArguments(data="emogator", label_map=str(tmp_path / "m.yaml"), categories=["all"])
    assert folder == CorpusArguments(data="folder", data_dir=str(tmp_path / "clips"))
    assert synthetic == CorpusArguments(data="synthetic")
    assert parse_evaluation(["--cross", "a", "--data", "synthetic"]).output_dir == "runs/cross"
    assert parse_evaluation(["a", "--data", "folder", "--data_dir", "b"]).output_dir == "runs/evaluation"
    assert parse_evaluation(["a"]).corpora == []


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ("--cross a", "expected --data for each corpus with --cross, found none; add the corpora to score on."),
        ("a --data vivae --data noise", "expected one --data, found 2; add --cross to score on several corpora."),
        (
            "--cross a --data_dir b --data folder",
            "expected the options of a corpus after its --data, found --data_dir before the first one; move it.",
        ),
        (
            "--cross a --data noise --baseline mlp",
            "--cross compares no systems; leave out --baseline and --ensemble.",
        ),
        ("--cross a --data noise --label_mop b", "unknown argument '--label_mop' (did you mean --label_map?)"),
    ],
)
def test_command_lines_that_cannot_be_meant_are_refused(argv, sentence):
    with pytest.raises(UserError, match=re.escape(sentence)):
        parse_evaluation(argv.split())


def test_predictions_of_another_program_are_refused(mixed, tmp_path):
    file = tmp_path / "bands.csv"
    file.write_text("file,label,p_fear,p_pain\n")
    with pytest.raises(UserError, match=r"^expected runs or checkpoints with --cross, .*bands.csv"):
        cross_evaluate([str(file)], [of_folder(mixed)], "emotion")


def test_the_script_writes_a_report(trained, mixed, tiny_vivae, tmp_path, capsys):
    argv = ["--cross", str(trained), "--data", "vivae", "--data_dir", str(tiny_vivae), "--allow_partial"]
    argv += ["--data", "folder", "--data_dir", str(mixed), "--speaker_pattern", "(S..)_"]
    argv += ["--data", "folder", "--data_dir", str(mixed)]
    argv += ["--label_map", write_map(tmp_path, "joy", {"anger": "joy", "fear": "fear", "pain": None})]
    evaluate = script(ROOT / "recipes" / "evaluate.py").main
    evaluate([*argv, "--output_dir", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    assert "mlp paper (2 of 4 folds, seed 42), trained on vivae\n" in printed
    assert re.search(r"\n  vivae .* 24, own test clips\n", printed)
    assert re.search(r"\n  folder mixed0 \(labels by joy\)  no score: no label joy\n", printed)
    own, other, none = read_json(tmp_path / "out" / "results.json")["cross"]
    assert (own["corpus"], own["tested"], other["clips"], none["estimates"]) == ("vivae", 24, 18, {})
    table = (tmp_path / "out" / "tables" / "cross.md").read_text()
    assert f"{own['estimates']['uar']['value']:.1%}" in table
    assert "| no label joy |\n" in table
    report = (tmp_path / "out" / "report.html").read_text()
    assert 'src="data:image/png' in report
    shutil.copy(tmp_path / "out" / "results.json", tmp_path / "other.json")
    with pytest.raises(UserError, match="expected no results of another command in --output_dir"):
        evaluate([str(trained), "--output_dir", str(tmp_path / "out")])
    assert read_json(tmp_path / "out" / "results.json") == read_json(tmp_path / "other.json")


def test_a_heat_map_shows_each_score_each_reason_and_own_corpora(trained, mixed, tiny_vivae, tmp_path):
    states = write_map(tmp_path, "states", {"anger": "joy", "fear": "grief", "pain": None})
    corpora = [vivae(tiny_vivae), of_folder(mixed), of_folder(mixed, label_map=states)]
    found: CrossEvaluation = cross_evaluate([str(trained)], corpora, "emotion")
    (axes, _) = cross_figure(found).axes
    texts = [text.get_text().split("\n")[0] for text in axes.texts]
    assert texts == [*(f"{cell.estimates['uar'].value:.1%}" for cell in found.cells[0][:2]), "no common label"]
    frames = [patch for patch in axes.patches if not patch.get_fill()]
    assert [round(frame.get_x() + 0.48) for frame in frames] == [0]  # a part of the other was tested
