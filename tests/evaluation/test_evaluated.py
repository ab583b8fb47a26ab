"""Run folders are found and joined by their settings, not by their place; what cannot be used is named."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from fake_runs import clips, write_run
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_vivae.evaluation import runs as evaluation_runs
from hf_vivae.evaluation.runs import find_folders
from hf_vivae.evaluation.systems import Group, System, join_folds, name_settings
from hf_vivae.run_folder import read_predictions, write_predictions
from hf_vivae.version import __version__


def groups(*places: Path) -> list[Group]:
    """The groups of finished folders, of which none may be left out."""
    found, left_out = find_folders(places)
    assert not left_out
    return join_folds(found)


def only_system(*places: Path) -> System:
    (group,) = groups(*places)
    (system,) = group.systems
    return system


def change(file: Path, **entries) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | entries))


def test_folds_from_two_places_are_the_run_of_one(tmp_path):
    write_run(tmp_path / "one" / "run")
    write_run(tmp_path / "two" / "here", folds=[2, 0])
    write_run(tmp_path / "three" / "deep" / "there", folds=[1])
    one = only_system(tmp_path / "one")
    several = only_system(tmp_path / "two", tmp_path / "three")
    assert (one.name, one.covered, one.whole) == (several.name, several.covered, several.whole)
    assert (one.name, one.covered, one.whole) == ("mlp paper", "3 of 3", True)
    for part in ("train", "validation", "test"):
        first, second = one.runs[0].read(part), several.runs[0].read(part)
        assert len(first) == 72
        for name in ("files", "labels", "logits", "folds"):
            assert np.array_equal(getattr(first, name), getattr(second, name)), (part, name)


def test_settings_of_machine_and_logging_do_not_separate_runs(tmp_path):
    write_run(tmp_path / "a", folds=[0, 1])
    elsewhere = {"data_dir": "/other/machine", "run_name": "tuesday", "folds": [2]}
    write_run(tmp_path / "b", folds=[2], settings=elsewhere)
    assert only_system(tmp_path).whole


def test_runs_that_differ_only_by_seed_are_one_system(tmp_path):
    for seed in (10, 9):
        write_run(tmp_path / str(seed), seed=seed)
    write_run(tmp_path / "order", seed=9, settings={"data_seed": 3})
    system = only_system(tmp_path)
    assert system.seeds == ["9", "9/3", "10"]
    assert [fold.fold for fold in system.runs[0].folds] == ["1-of-3", "2-of-3", "3-of-3"]


def test_a_run_without_some_folds_stands_apart(tmp_path):
    write_run(tmp_path / "whole", seed=1)
    write_run(tmp_path / "part", seed=2, folds=[0, 2])
    (group,) = groups(tmp_path)
    assert {system.name: (system.whole, system.covered) for system in group.systems} == {
        "mlp paper": (True, "3 of 3"),
        "mlp paper (2 of 3 folds, seed 2)": (False, "2 of 3"),
    }


def test_systems_on_other_clips_labels_or_splits_are_other_groups(tmp_path):
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", corpus={"digest": "f" * 16})
    write_run(tmp_path / "c", settings={"task": "valence"})
    write_run(tmp_path / "d", settings={"protocol": "random-10-fold"})
    for folder in write_run(tmp_path / "e"):
        change(folder / "results.json", of_folds=10)
    assert len(groups(tmp_path)) == 5


def test_a_fold_that_is_found_twice_counts_once(tmp_path):
    first, again = write_run(tmp_path / "a")[1], write_run(tmp_path / "b", folds=[1])[0]
    found, left_out = find_folders([tmp_path])
    assert len(found) == 3
    assert left_out == [f"{again} is left out: {first} has the same fold of the same run; remove one of them."]


def test_a_folder_that_is_given_twice_is_the_same(tmp_path):
    folder = write_run(tmp_path / "a" / "b")[0]
    found, left_out = find_folders([tmp_path, folder, tmp_path / "a", folder.parent / ".." / "b"])
    assert (len(found), left_out) == (3, [])


def test_half_written_copies_are_no_runs(tmp_path):
    write_run(tmp_path / "a" / "run")
    shutil.copytree(tmp_path / "a" / "run", tmp_path / "a" / ".run.123")
    assert len(only_system(tmp_path / "a").folds) == 3
    assert only_system(tmp_path / "a" / ".run.123").whole, "unless they are asked for"


DAMAGES = {
    "expected a finished run, found no results.json; repeat": lambda folder: (folder / "results.json").unlink(),
    "expected a finished run, found no predictions.parquet": lambda folder: (folder / "predictions.parquet").unlink(),
    "expected JSON in .*run.json, found a damaged file": lambda folder: cut(folder / "run.json"),
    "expected JSON in .*results.json, found a damaged file": lambda folder: cut(folder / "results.json"),
    "expected the predictions of a run in .*parquet, found a damaged": lambda folder: cut(
        folder / "predictions.parquet"
    ),
    "expected the keys of a run in results.json, found no of_folds; train": lambda folder: drop(
        folder / "results.json", "of_folds"
    ),
    "expected the keys of a run in run.json, found no corpus.name, corpus.clips, .*; train": lambda folder: drop(
        folder / "run.json", "corpus"
    ),
    "expected the predictions of a run in .*parquet, found a damaged file .* train": lambda folder: scribble(
        folder / "predictions.parquet"
    ),
    "expected a JSON object in .*results.json, found NoneType": lambda folder: (folder / "results.json").write_text(
        "null"
    ),
    "expected the keys of a run in run.json, found no run.task, run.protocol; train": lambda folder: change(
        folder / "run.json", run={}
    ),
    "expected the folders of a run's folds in it, found none; repeat": lambda folder: drop(
        folder / "run.json", "fold"
    ),
}


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-40])


def scribble(file: Path) -> None:
    """Damage the data of the columns, and leave the footer with their positions intact."""
    content = bytearray(file.read_bytes())
    content[4 : len(content) // 2] = bytes(len(content) // 2 - 4)
    file.write_bytes(content)


def drop(file: Path, key: str) -> None:
    content = json.loads(file.read_text())
    del content[key]
    file.write_text(json.dumps(content))


@pytest.mark.parametrize("reason", DAMAGES)
def test_what_cannot_be_used_is_left_out_with_the_reason(reason, tmp_path):
    folder = write_run(tmp_path)[1]
    DAMAGES[reason](folder)
    found, left_out = find_folders([tmp_path])
    assert [fold.fold for fold in found] == ["1-of-3", "3-of-3"]
    (sentence,) = left_out
    assert re.match(rf"{re.escape(str(folder))} is left out: {reason}.*[^.]\.$", sentence), sentence


def test_folds_that_test_a_clip_twice_are_no_run(tmp_path):
    """Two machines with other libraries may have drawn the folds of one seed differently."""
    write_run(tmp_path / "good", "vit-32-30")
    first, second, _ = write_run(tmp_path / "run")
    rows = [row | {"fold": "2-of-3"} for row in read_predictions(first)]
    write_predictions(second, rows)
    found, left_out = find_folders([tmp_path])
    assert {fold.path.parent for fold in found} == {tmp_path / "good"}
    assert left_out == [
        f"{first} and all folds of its run are left out: expected folds that test different clips, found "
        f"{clips(1)[0]['file']} in 1-of-3 and in 2-of-3 ({second}); train both again in one environment."
    ]


def test_a_sound_that_two_folds_test_under_two_names_is_one_clip(tmp_path):
    rows = [row | {"digest": f"{number:016x}"} for number, row in enumerate(clips(72))]
    write_run(tmp_path / "alone", rows=rows)
    assert only_system(tmp_path / "alone").whole
    rows[6]["digest"] = rows[1]["digest"]  # of which 2-of-3 and 1-of-3 test one each
    first, second, _ = write_run(tmp_path / "copied", rows=rows)
    with pytest.raises(ValueError, match="found 1 that cannot be used; ") as refused:
        find_folders([tmp_path / "copied"])
    assert (
        f"{first} and all folds of its run are left out: expected folds that test different clips, found "
        f"{rows[6]['file']} of 1-of-3 in 2-of-3 ({second}) as {rows[1]['file']}; remove the copies"
    ) in str(refused.value)


def test_a_run_with_more_test_clips_than_its_corpus_has_is_left_out(tmp_path):
    write_run(tmp_path / "good", "vit-32-30")
    (folder, *_) = write_run(tmp_path / "run", rows=clips(75), corpus={"clips": 72, "digest": f"{72:016x}"})
    found, (sentence,) = find_folders([tmp_path])
    assert {fold.path.parent for fold in found} == {tmp_path / "good"}
    assert sentence == (
        f"{folder} and all folds of its run are left out: expected the 72 clips of the corpus in all test "
        "parts, found 75; train the run again."
    )


def test_a_run_of_all_folds_that_lacks_test_clips_is_left_out(tmp_path):
    write_run(tmp_path / "good", "vit-32-30")
    write_run(tmp_path / "run", rows=clips(60), corpus={"clips": 72, "digest": f"{72:016x}"})
    found, (sentence,) = find_folders([tmp_path])
    assert {fold.path.parent for fold in found} == {tmp_path / "good"}
    assert "expected the 72 clips of the corpus in all test parts, found 60; train the run again." in sentence


def test_what_an_evaluation_has_scored_is_no_run_unless_it_is_given(tmp_path):
    write_run(tmp_path / "run")
    scored = tmp_path / "evaluation" / "scored"
    (folder,) = write_run(scored, "vit-32-30", folds=[0], settings={"protocol": "other-clips"})
    (elsewhere,) = write_run(tmp_path / "moved", "vit-16-69", folds=[0], settings={"protocol": "other-clips"})
    write_run(tmp_path / "mine" / "scored", "wav2vec2")
    models = {"mlp", "wav2vec2", "vit-16-69"}
    found, left_out = find_folders([tmp_path])
    assert {dict(fold.settings)["model"].strip('"') for fold in found} == models
    assert left_out == []
    for places in ([scored], [folder], [tmp_path, scored], [folder, tmp_path]):
        assert folder in {fold.path for fold in find_folders(places)[0]}, places
    assert elsewhere in {fold.path for fold in found}


def test_a_fold_without_test_clips_is_left_out(tmp_path):
    write_run(tmp_path, rows=clips(72)[:1])
    _, left_out = find_folders([tmp_path])
    assert len(left_out) == 2
    assert "expected test clips in predictions.parquet, found none; train the run again" in left_out[0]


def test_the_folder_around_a_runs_folds_is_not_mentioned(tmp_path):
    write_run(tmp_path)
    (tmp_path / "run.json").write_text('{"run": {}}')
    (tmp_path / "results.json").write_text("{}")
    assert only_system(tmp_path).whole


def test_a_defect_leaves_no_run_out(tmp_path, monkeypatch):
    def fail(*arguments):
        raise KeyError("a defect")

    write_run(tmp_path)
    monkeypatch.setattr(evaluation_runs, "EvaluationSet", fail)
    with pytest.raises(KeyError, match="a defect"):
        find_folders([tmp_path])


def test_errors_name_the_place(tmp_path):
    with pytest.raises(
        ValueError, match=r"expected a folder with runs, found no folder .*/nowhere; check the path\.$"
    ):
        find_folders([tmp_path / "nowhere"])
    with pytest.raises(ValueError, match=rf"finished trainings in {tmp_path}, found none; give those of train\.py\.$"):
        find_folders([tmp_path])
    (write_run(tmp_path, folds=[0])[0] / "results.json").unlink()
    with pytest.raises(ValueError, match=r"found 1 that cannot be used; .*1-of-3 is left out: .*no results.json"):
        find_folders([tmp_path])


def test_names_contain_the_settings_that_differ(tmp_path):
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", settings={"learning_rate": 1e-4})
    write_run(tmp_path / "c", settings={"model_config": {"hidden_sizes": [16, 8]}})
    write_run(tmp_path / "d", model="vit-32-30", settings={"as_coded": ["full-scale", "one-split"]})
    write_run(tmp_path / "e", model="probe:openai/whisper-base", settings={"recipe": "none"})
    write_run(tmp_path / "f", model="wav2vec2", settings={"recipe": "as_coded", "as_coded": ["full-scale"]})
    (group,) = groups(tmp_path)
    assert [system.name for system in group.systems] == [
        "mlp paper hidden_sizes=[16, 8] learning_rate=0.001",
        "mlp paper learning_rate=0.0001",
        "mlp paper learning_rate=0.001",
        "probe:whisper-base",
        "vit-32-30 paper+full-scale+one-split",
        "wav2vec2 as_coded",
    ]


def test_runs_of_two_versions_are_not_joined(tmp_path):
    write_run(tmp_path / "a", folds=[0, 1])
    (folder,) = write_run(tmp_path / "b", folds=[2])
    change(folder / "run.json", environment={"hf_vivae": "0.0.1"})
    (group,) = groups(tmp_path)
    assert [system.name for system in group.systems] == [
        'mlp paper hf_vivae="0.0.1" (1 of 3 folds, seed 1)',
        f'mlp paper hf_vivae="{__version__}" (2 of 3 folds, seed 1)',
    ]


values = st.one_of(st.none(), st.booleans(), st.integers(0, 3), st.sampled_from(["a", "b c", "1", "true", "default"]))
arguments = st.fixed_dictionaries(
    {
        "model": st.sampled_from(["mlp", "a/b", "c/b"]),
        "recipe": st.sampled_from(["paper", "tuned", "none"]),
        "as_coded": st.lists(st.sampled_from(["x", "y"]), max_size=2, unique=True),
        "model_config": st.dictionaries(st.sampled_from(["h", "k"]), values, max_size=2),
    },
    optional={"rate": values, "decay": values},
)


@settings(deadline=None)
@given(st.lists(arguments, min_size=1, max_size=8))
def test_each_settings_has_a_name_of_its_own(several):
    different = {tuple(sorted((name, json.dumps(value)) for name, value in one.items())) for one in several}
    assert len(set(name_settings(different).values())) == len(different)
