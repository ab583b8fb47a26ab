"""Runs whose labels are by a label map: groups of their own, and the map in titles and tables."""

import json
from dataclasses import fields

import pytest
from fake_runs import score, write_run

from hf_vivae.corpus.arguments import CorpusArguments
from hf_vivae.evaluation.evaluate import evaluate, our_scores
from hf_vivae.evaluation.runs import GROUPING, find_folders
from hf_vivae.evaluation.systems import join_folds

FIRST = {"name": "to-vivae", "targets": {"Fear": "fear", "Awe": None}}


def test_runs_are_compared_only_where_their_maps_are_the_same(tmp_path):
    other = {"name": "to-vivae", "targets": {"Fear": "pain", "Awe": None}}
    maps = {"plain": None, "first": FIRST, "again": dict(reversed(FIRST.items())), "other": other}
    for model, label_map in maps.items():
        write_run(tmp_path / model, model, corpus={"label_map": label_map} if label_map else None)
    groups = join_folds(find_folders([tmp_path])[0])
    models = [sorted(system.name.split()[0] for system in group.systems) for group in groups]
    assert sorted(models) == [["again", "first"], ["other"], ["plain"]]
    assert len({group.clips.slug for group in groups}) == 3


def test_flags_that_choose_clips_are_no_settings_of_a_system(tmp_path):
    old = write_run(tmp_path / "old", seed=1)
    new = write_run(tmp_path / "new", seed=2, settings={"label_map": "/a/map.yaml", "categories": ["vivae"]})
    (group,) = join_folds(find_folders([old[0].parent, new[0].parent])[0])
    assert [system.seeds for system in group.systems] == [["1", "2"]]
    assert {"task", "protocol", *(entry.name for entry in fields(CorpusArguments))} == set(GROUPING)


@pytest.mark.parametrize("label_map", [FIRST, None])
def test_only_vivaes_own_labels_are_compared_with_published_figures(label_map, tmp_path, monkeypatch):
    monkeypatch.setattr("hf_vivae.evaluation.evaluate.VIVAE_CLIPS", 72)
    write_run(tmp_path, corpus={"name": "vivae", **({"label_map": label_map} if label_map else {})})
    assert {ours.whole_vivae for ours in our_scores([score(tmp_path)])} == {label_map is None}


@pytest.mark.parametrize("label_map", [FIRST, None])
def test_the_map_is_in_titles_captions_and_the_overview(label_map, tmp_path, undrawn):
    write_run(tmp_path / "run", corpus={"label_map": label_map} if label_map else None)
    evaluate([tmp_path / "run"], tmp_path / "out")
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["groups"][0]["label_map"] == ("to-vivae" if label_map else "")
    title = "72 synthetic clips (labels by to-vivae), emotion, speaker-k-fold"
    tables = {file.stem: file.read_text() for file in (tmp_path / "out" / "tables").rglob("*.md")}
    report = (tmp_path / "out" / "report.md").read_text()
    for text in (tables["scores"], tables["by-speaker"], report):
        assert (title in text) == bool(label_map)
    assert ("| labels by |\n" in tables["overview"]) == bool(label_map)
    assert ("| to-vivae |\n" in tables["overview"]) == bool(label_map)
