"""The command `timeline` with a reference: tables, pictures, and thresholds that are fitted and used."""

import csv
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from checkpoints_of import write_checkpoint
from typer.testing import CliRunner

from hf_vivae.inference.scorer import Scorer
from hf_vivae.timelines.references import Reference
from hf_vivae.timelines.run import run_timeline
from hf_vivae.timelines.thresholds import run_fit
from hf_vivae_cli import app

RATE = 16000


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> str:
    return str(write_checkpoint(tmp_path_factory.mktemp("checkpoint"), "mlp"))


@pytest.fixture(autouse=True)
def study(tmp_path, monkeypatch, checkpoint) -> None:
    """Two recordings and silence, with their own timelines as references."""
    monkeypatch.chdir(tmp_path)
    Path("study").mkdir()
    rng = np.random.default_rng(0)
    for name, seconds, loudness in (("a", 2.5, 0.1), ("b", 1.5, 0.1), ("c", 1, 0)):
        sound = loudness * rng.normal(size=round(seconds * RATE))
        sound[len(sound) // 4 :] *= 0.003  # 50 dB quieter
        soundfile.write(f"study/{name}.wav", sound, RATE, subtype="FLOAT")


def rows(file: str) -> dict[str, dict[str, str]]:
    with open(file, newline="", encoding="utf-8") as stream:
        return {next(iter(row.values())): row for row in csv.DictReader(stream)}


def test_a_timeline_agrees_with_itself_and_not_with_another(checkpoint, capsys):
    run_timeline(checkpoint, ["study"], outputs=[Path("gold")])
    capsys.readouterr()
    reference = Reference(Path("gold/segments.csv"))
    # silence has no segment, so that the table does not name it
    assert run_timeline(checkpoint, ["study/a.wav", "study/b.wav"], outputs=[Path("out")], reference=reference) == 0
    printed = capsys.readouterr().out
    assert "Event F1: starts within 0.2 s, ends within 0.2 s or 50% of the reference's length." in printed
    assert re.search(r"\| all +\|", printed)
    table = rows("out/agreement.csv")
    assert list(table) == ["study/a.wav", "study/b.wav", "all"]
    for row in table.values():
        assert (row["event F1"], row["segment F1"]) == ("1.0", "1.0")
        assert int(row["reference"]) == int(row["predicted"]) > 0
        assert row["error rate"] in ("0.0", "")
    assert {"all"} < set(rows("out/agreement_labels.csv"))
    pictures = {path.name: path.read_bytes() for path in Path("out").glob("*.png")}
    assert sorted(pictures) == ["a.png", "b.png"]
    lines = [line for line in Path("gold/segments.csv").read_text().splitlines() if "/a" not in line]
    Path("gold/segments.csv").write_text("\n".join([*lines, "study/a.wav,2.4,2.5,fear,1", ""]))
    run_timeline(checkpoint, ["study/a.wav", "study/b.wav"], outputs=[Path("out")], reference=reference)
    again = rows("out/agreement.csv")
    assert again["study/b.wav"] == table["study/b.wav"]
    assert float(again["study/a.wav"]["event F1"]) == 0
    assert Path("out/a.png").read_bytes() != pictures["a.png"], "the picture shows the new reference"
    assert Path("out/b.png").read_bytes() == pictures["b.png"]


def test_a_recording_that_cannot_be_used_is_listed_and_not_scored(checkpoint, capsys):
    run_timeline(checkpoint, ["study"], outputs=[Path("gold")])
    Path("study/b.wav").write_text("no sound")
    reference = Reference(Path("gold"), tier="labels")
    for file in Path("gold").glob("s*.csv"):  # a folder of annotations has one of each recording
        file.unlink()
    for options in ({"outputs": [Path("out")], "formats": [".csv"]}, {}):
        capsys.readouterr()
        assert run_timeline(checkpoint, ["study"], reference=reference, **options) == 3
        printed = capsys.readouterr().out
        assert "| study/a.wav |" in printed
        assert "| study/b.wav |" not in printed
    table = rows("out/agreement.csv")
    assert list(table) == ["study/a.wav", "study/c.wav", "all"]
    assert (table["study/c.wav"]["reference"], table["study/c.wav"]["error rate"]) == ("0", "")


def test_one_recording_needs_no_output(checkpoint, capsys):
    run_timeline(checkpoint, ["study/a.wav"], outputs=[Path("gold.TextGrid")])
    capsys.readouterr()
    reference = Reference(Path("gold.TextGrid"), tier="labels")
    run_timeline(checkpoint, ["study/a.wav"], reference=reference)
    printed = capsys.readouterr().out
    run_timeline(checkpoint, ["study/a.wav"], outputs=[Path("x.png")], reference=reference)
    tables = capsys.readouterr().out.removeprefix("x.png\n")
    assert printed.endswith(tables)
    assert re.search(r"\| study/a\.wav +\| +2\.5 \|.* 1\.000 \| +1\.000 \|", tables)


def test_thresholds_are_fitted_stored_used_and_reported(checkpoint, tmp_path, capsys):
    folder = Path(shutil.copytree(checkpoint, tmp_path / "fitted"))
    run_timeline(checkpoint, ["study/a.wav", "study/b.wav"], outputs=[Path("gold")], gate_db=60.0, min_seconds=0.5)
    reference = Reference(Path("gold/segments.csv"))
    before = Scorer(str(folder))
    capsys.readouterr()
    assert run_fit(str(folder), ["study/a.wav", "study/b.wav"], reference) == 0
    printed = capsys.readouterr().out
    config = json.loads((folder / "config.json").read_text())
    assert f"--gate_db {config['timeline_gate_db']:g}\n" in printed
    assert config["timeline_gate_db"] == 60
    assert re.search(r"^event F1 1\.000 of these 2 recordings \(4\.0 s\)", printed, re.MULTILINE)
    assert "of each recording with thresholds fitted on the others" in printed
    fitted_on = config["timeline_fitted_on"]
    assert (fitted_on["recordings"], fitted_on["seconds"], fitted_on["event_f1"]) == (2, 4.0, 1.0)
    after = Scorer(str(folder))
    clip = {"array": np.random.default_rng(1).normal(size=RATE).astype(np.float32), "sampling_rate": RATE}
    np.testing.assert_array_equal(before.score([clip])[0], after.score([clip])[0])
    assert before.identity != after.identity, "the note about unfinished predictions would be wrong"
    run_timeline(str(folder), ["study/a.wav", "study/b.wav"], outputs=[Path("out")], reference=reference)
    assert rows("out/agreement.csv")["all"]["event F1"] == "1.0"
    note = "The thresholds of the checkpoint were fitted on 2 of these 2 recordings: scores of others will be lower."
    assert note in capsys.readouterr().err
    run_timeline(checkpoint, ["study/a.wav", "study/b.wav"], reference=reference)
    assert "fitted" not in capsys.readouterr().err


def test_the_command_passes_its_flags_on_and_keeps_a_threshold_that_is_given(checkpoint, tmp_path):
    folder = Path(shutil.copytree(checkpoint, tmp_path / "fitted"))
    run_timeline(checkpoint, ["study/a.wav"], outputs=[Path("gold.csv")])
    shutil.copy("gold.csv", "before.csv")
    renamed = re.sub(r",label,", ",mood,", Path("gold.csv").read_text())
    Path("gold.csv").write_text(re.sub(r"^(\d[^,]*,[^,]*),[^,]*,", r"\1,sound,", renamed, flags=re.MULTILINE))
    label = max(Scorer(checkpoint).labels, key=Path("before.csv").read_text().count)
    Path("map.yaml").write_text(f"sound: {label}\n")
    flags = ["--reference", "gold.csv", "--tier", "mood", "--label_map", "map.yaml", "--collar", "0.3"]
    done = CliRunner().invoke(app, ["timeline", str(folder), "study/a.wav", *flags, "--fit", "--gate_db", "33"])
    assert done.exit_code == 0, done.output
    config = json.loads((folder / "config.json").read_text())
    assert (config["timeline_gate_db"], config["timeline_fitted_on"]["collar"]) == (33, 0.3)
    done = CliRunner().invoke(app, ["timeline", str(folder), "study/a.wav", *flags])
    assert done.exit_code == 0, done.output
    assert f"| {label} |" in done.stdout
    assert "starts within 0.3 s" in done.stdout


def test_what_cannot_be_fitted_is_refused_and_nothing_is_written(checkpoint, tmp_path, monkeypatch):
    folder = Path(shutil.copytree(checkpoint, tmp_path / "fitted"))
    before = (folder / "config.json").read_bytes()
    Path("gold.csv").write_text("start,end,label\n0,0.001,fear\n")
    reference = Reference(Path("gold.csv"), collar=0.0)
    with pytest.raises(ValueError, match=r"^expected the folder of a checkpoint with --fit, .*found someone/model"):
        run_fit("someone/model", ["study/a.wav"], reference)
    with pytest.raises(ValueError, match=r"^expected thresholds with which a segment agrees"):
        run_fit(str(folder), ["study/c.wav"], reference)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "touch", lambda path: os.open(path / "of a folder that is no folder", os.O_CREAT))
        patch.setattr("hf_vivae.timelines.thresholds.make_timeline", lambda *_: pytest.fail("scored"))
        with pytest.raises(ValueError, match=r"^expected a folder to write to, .*make the folder of the checkpoint"):
            run_fit(str(folder), ["study/a.wav"], reference)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"^expected one process with --fit, found several"):
        run_fit(str(folder), ["study/a.wav"], reference)
    assert (folder / "config.json").read_bytes() == before
