"""The benchmark of EmoGator's size: a trial with few speakers gives all figures, and leaves nothing."""

import json
import os
import tempfile
from pathlib import Path

import pytest
from emogator_copies import names_of, write_folder
from encoders import write_encoder
from runner import ROOT, script

from hf_vivae.corpus import read_emogator

SCRIPT = ROOT / "benchmarks" / "emogator.py"


@pytest.fixture
def clips(tmp_path) -> Path:
    return write_folder(tmp_path / "clips", names_of(speakers=(1,)))


def test_a_trial_measures_each_step_and_leaves_nothing(clips, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_VIVAE_CACHE", str(tmp_path / "unused"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    encoder, output = write_encoder(tmp_path / "encoder", "layer norm"), tmp_path / "figures.json"
    script(SCRIPT).main(["--clips", str(clips), "--encoder", str(encoder), "--speakers", "3", "--output", str(output)])
    rows = json.loads(output.read_text())["rows"]
    assert [(row["step"], row["clips"]) for row in rows] == [(step, 270) for step in ("read", "split", "probe")]
    assert all(row["seconds"] > 0 and row["peak_memory_mb"] >= row["before_mb"] > 0 for row in rows)
    assert "| 270 | read |" in capsys.readouterr().out
    assert os.listdir(tmp_path / "temporary") == []
    assert not (tmp_path / "unused").exists()


def test_the_copies_are_a_whole_corpus_without_duplicates(clips, tmp_path, monkeypatch):
    monkeypatch.setattr("hf_vivae.corpus.emogator.SPEAKERS", 2)
    script(SCRIPT).write_copies(sorted(clips.rglob("*.mp3")), tmp_path / "copies", 2)
    corpus = read_emogator(tmp_path / "copies", "all")
    assert (len(corpus.dataset), corpus.problems) == (180, ())
    assert len({file.read_bytes() for file in (tmp_path / "copies").iterdir()}) == 180


@pytest.mark.parametrize("flags", [["--speakers", "0"], ["--speakers", "358"]])
def test_an_impossible_number_of_speakers_is_a_sentence(clips, flags):
    with pytest.raises(SystemExit, match=r"^error: expected MP3 files and --speakers from 1 to 357, found 18 files"):
        script(SCRIPT).main(["--clips", str(clips), "--encoder", "x", *flags])
