"""The command `timeline`: one recording into files, several into a folder or onto the terminal."""

import csv
import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
from checkpoints_of import write_checkpoint

from hf_vivae.annotations.read import read_annotations
from hf_vivae.timelines import run
from hf_vivae.timelines.formats import FORMATS
from hf_vivae.timelines.run import run_timeline
from hf_vivae.timelines.thresholds import run_fit

RATE = 16000


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> str:
    return str(write_checkpoint(tmp_path_factory.mktemp("checkpoint"), "mlp"))


@pytest.fixture(autouse=True)
def study(tmp_path, monkeypatch) -> Path:
    """Two recordings, one of silence, and a text."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "study"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, seconds, loudness in (("a.wav", 2.5, 0.1), ("b.flac", 1.2, 0.1), ("silence.wav", 1, 0)):
        soundfile.write(folder / name, loudness * rng.normal(size=round(seconds * RATE)), RATE)
    (folder / "text.wav").write_text("no sound")
    return folder


def rows(file: str) -> list[dict[str, str]]:
    with open(file, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_one_recording_is_written_in_every_format(checkpoint, capsys):
    outputs = [Path(f"x{suffix}") for suffix in FORMATS]
    assert run_timeline(checkpoint, ["study/a.wav"], outputs=outputs) == 0
    assert capsys.readouterr().out.splitlines() == [str(file) for file in outputs]
    expected = json.loads(Path("x.json").read_text())["segments"]
    assert expected
    (annotation,) = read_annotations(Path("x.TextGrid"))
    assert [(segment.label, pytest.approx(segment.start)) for segment in annotation.segments] == [
        (segment["label"], segment["start"]) for segment in expected
    ]
    assert [row["label"] for row in rows("x.csv")] == [segment["label"] for segment in expected]


def test_several_recordings_are_written_into_a_folder(checkpoint, capsys):
    assert run_timeline(checkpoint, ["study"], outputs=[Path("out")]) == 3
    printed = capsys.readouterr()
    assert printed.out == "3 recordings annotated: out\n"
    assert printed.err.endswith("1 recordings not, with the reason: out/_errors.csv\n")
    summary = rows("out/summary.csv")
    assert [(row["file"], float(row["seconds"])) for row in summary] == [
        ("study/a.wav", 2.5), ("study/b.flac", 1.2), ("study/silence.wav", 1.0),
    ]  # fmt: skip
    for row in summary:
        labels = [float(row[name]) for name in row if name.startswith("seconds_") and name != "seconds_silent"]
        assert sum(labels) + float(row["seconds_silent"]) == pytest.approx(float(row["seconds"]), abs=0.01)
    assert float(summary[2]["seconds_silent"]) == 1.0
    segments = [row for row in rows("out/segments.csv") if row["file"] == "study/a.wav"]
    (annotation,) = read_annotations(Path("out/a.TextGrid"))
    assert [segment.label for segment in annotation.segments] == [row["label"] for row in segments]
    (silence,) = read_annotations(Path("out/silence.TextGrid"))
    assert silence.segments == ()
    with pytest.raises(ValueError, match=r"^expected timelines with min_score 0\.5 in out, found some with 0\.0"):
        run_timeline(checkpoint, ["study"], outputs=[Path("out")], min_score=0.5)


def test_silence_has_a_file_of_every_format(checkpoint):
    assert run_timeline(checkpoint, ["study/silence.wav"], outputs=[Path("out")], formats=FORMATS) == 0
    assert {file.name for file in Path("out").glob("silence*")} == {f"silence{suffix}" for suffix in FORMATS}


def test_several_recordings_are_printed_with_their_names(checkpoint, study, capsys):
    (study / "b.flac").rename(study / "b\x1b[31m.flac")
    assert run_timeline(checkpoint, ["study"]) == 3
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == [
        "study/a.wav", "study/b\\x1b[31m.flac", "study/silence.wav",
    ]  # fmt: skip
    assert lines[1].split()[0] == "0.00"
    assert "study/text.wav\ttext.wav: expected WAV, FLAC" in printed.err


def test_a_single_recording_that_cannot_be_used_is_an_error(checkpoint):
    with pytest.raises(ValueError, match=r"^silence\.wav: expected sound, found silence from start to end; check"):
        run_timeline(checkpoint, ["study/silence.wav"])
    with pytest.raises(ValueError, match=r"^text\.wav: expected WAV, FLAC"):
        run_timeline("nowhere", ["study/text.wav"])


def test_thresholds_are_those_of_the_checkpoint_unless_a_flag_is_given(checkpoint, tmp_path, capsys):
    folder = Path(shutil.copytree(checkpoint, tmp_path / "fitted"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"timeline_min_seconds": 60}))
    assert run_timeline(str(folder), ["study/a.wav"]) == 0
    assert capsys.readouterr().out == ""
    run_timeline(str(folder), ["study/a.wav"], min_seconds=0.0)
    assert capsys.readouterr().out != ""


def test_a_recording_that_is_too_long_for_a_page_is_listed_before_it_is_scored(checkpoint, monkeypatch):
    monkeypatch.setattr("hf_vivae.timelines.page.LONGEST", 2.0)
    monkeypatch.setattr(run, "make_timeline", lambda *_: pytest.fail("scored"))
    assert run_timeline(checkpoint, ["study/a.wav"], outputs=[Path("out")], formats=[".html"]) == 3
    assert rows("out/_errors.csv")[0]["file"] == "study/a.wav"


def test_a_library_that_is_not_installed_is_named_before_anything_is_loaded(monkeypatch):
    monkeypatch.setattr("hf_vivae.annotations.parsing.find_spec", lambda name: None)
    for where in ({"outputs": [Path("x.eaf")]}, {"outputs": [Path("out")], "formats": [".csv", ".eaf"]}):
        with pytest.raises(ValueError, match=r"^expected pympi, which .*; pip install 'hf_vivae\[annotation\]'\.$"):
            run_timeline("nowhere", ["study/a.wav"], **where)


@pytest.mark.parametrize("command", [run_timeline, partial(run_fit, reference=None)])
def test_thresholds_and_windows_that_cannot_be_used_are_refused_first(command, checkpoint):
    with pytest.raises(ValueError, match=r"^expected a number from 0 to 1 as --min_score, found 1\.5; the default"):
        command(checkpoint, ["nowhere.wav"], min_score=1.5)
    # of which a model with an input of 1 s would take the first second for all of them
    with pytest.raises(ValueError, match=r"^expected --window of at most 1 s, of which the model takes no more"):
        command(checkpoint, ["study/a.wav"], window=3.0)
