"""Timelines of many recordings: each once, also after a start that was killed, with tables of all."""

import csv
import errno
from pathlib import Path

import numpy as np
import pytest
from tqdm import tqdm

from hf_vivae.annotations.segment import Segment
from hf_vivae.files import DiskError
from hf_vivae.inference import shards
from hf_vivae.inference.shards import ProcessShard
from hf_vivae.inference.timeline import Recording, Timeline, find_segments
from hf_vivae.timelines import folder as timeline_folder
from hf_vivae.timelines.folder import write_timelines
from hf_vivae.timelines.recordings import find_recordings
from hf_vivae.validation import UserError

ALONE = ProcessShard()
LABELS = ["anger", "=fear", "unknown"]
STEPS = {"a": 0, "f": 1, "u": 2, ".": None}


def annotate(path: Path) -> tuple[Timeline, list[Segment]]:
    """Return the timeline that a file spells, a letter for each step of half a second; the last one has 0.3 s."""
    text = path.read_text()
    if text.startswith("!"):
        raise UserError(f"{path.name}: expected sound, found {text}; replace it.")
    rows = np.full((len(text), 3), np.nan)
    for row, letter in zip(rows, text, strict=True):
        if STEPS[letter] is not None:
            row[:] = np.where(np.arange(3) == STEPS[letter], 0.8, 0.1)
    seconds = 0.5 * len(text) - 0.2
    timeline = Timeline(Recording(path, seconds, 16000), LABELS, 0.5, rows, np.zeros(len(text)), unknown=2)
    return timeline, find_segments(timeline)


class Annotator:
    """`annotate`, with the names of the files that it was given; it is killed at one of them."""

    def __init__(self, killed_at: str = "") -> None:
        self.names: list[str] = []
        self.killed_at = killed_at

    def __call__(self, path: Path) -> tuple[Timeline, list[Segment]]:
        self.names.append(path.name)
        if path.name == self.killed_at:
            raise KeyboardInterrupt
        return annotate(path)


@pytest.fixture(autouse=True)
def study(tmp_path, monkeypatch) -> Path:
    """Four recordings, of which one cannot be used and one is silent."""
    monkeypatch.chdir(tmp_path)
    Path("study/sub").mkdir(parents=True)
    for name, text in {"0.wav": "aa.fu", "1.wav": "!", "=2.wav": "...", "sub/3.wav": "f"}.items():
        Path("study", name).write_text(text)
    return tmp_path / "study"


def work(
    annotator=annotate, output: str = "out", share=ALONE, formats=(".csv",), inputs=("study",), **settings
) -> tuple[int, int] | None:
    with tqdm(disable=True) as bar:
        return write_timelines(
            annotator, find_recordings(inputs), Path(output), formats=formats, labels=LABELS[:2],
            rejects=True,
            settings={"gate_db": 40.0} | settings, share=share, bar=bar,
        )  # fmt: skip


def table(name: str, output: str = "out") -> list[list[str]]:
    with open(Path(output, name), newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def contents(output: str = "out") -> dict[str, bytes]:
    files = (file for file in Path(output).rglob("*") if file.is_file() and ".parts" not in file.parts)
    return {str(file.relative_to(output)): file.read_bytes() for file in files}


def test_each_recording_has_its_files_and_all_are_in_two_tables():
    assert work(formats=(".csv", ".json")) == (3, 1)
    assert table("segments.csv") == [
        ["file", "start", "end", "label", "score"],
        ["study/0.wav", "0.000", "1.000", "anger", "0.8000"],
        ["study/0.wav", "1.500", "2.000", "'=fear", "0.8000"],
        ["study/sub/3.wav", "0.000", "0.300", "'=fear", "0.8000"],
    ]
    assert table("summary.csv") == [
        ["file", "seconds", "seconds_silent", "seconds_unknown", "seconds_anger", "seconds_=fear"],
        ["study/0.wav", "2.300", "0.500", "0.300", "1.000", "0.500"],
        ["study/=2.wav", "1.300", "1.300", "0.000", "0.000", "0.000"],
        ["study/sub/3.wav", "0.300", "0.000", "0.000", "0.000", "0.300"],
    ]
    assert table("_errors.csv") == [
        ["file", "error"], ["study/1.wav", "1.wav: expected sound, found !; replace it."],
    ]  # fmt: skip
    assert contents().keys() == {
        "0.csv", "0.json", "=2.csv", "=2.json", "sub/3.csv", "sub/3.json",
        "segments.csv", "summary.csv", "_errors.csv", "_timeline.json",
    }  # fmt: skip
    assert table("sub/3.csv")[1:] == [["0.000", "0.300", "'=fear", "0.8000"]]


def test_a_damaged_part_is_made_again_and_damaged_settings_are_refused():
    work()
    before = contents()
    Path("out", "sub", "3.csv").write_text("kept")
    part = next(file for file in Path("out/.parts").iterdir() if b"study/0.wav" in file.read_bytes())
    part.write_bytes(b"PAR1")
    again = Annotator()
    assert work(again) == (3, 1)
    assert again.names == ["0.wav"]
    assert contents() == before | {"sub/3.csv": b"kept"}
    Path("out/_timeline.json").write_text("{")
    with pytest.raises(UserError, match=r"^expected JSON in out/_timeline\.json, found .*; give another --output, or"):
        work()


def test_a_start_that_was_killed_loses_the_recording_at_hand():
    work(output="whole")
    with pytest.raises(KeyboardInterrupt):
        work(Annotator(killed_at="3.wav"))
    assert not Path("out/segments.csv").exists()
    again = Annotator()
    assert work(again) == (3, 1)
    assert again.names == ["3.wav"]
    assert contents() == contents("whole")


def test_new_and_changed_recordings_and_those_without_their_files_are_annotated_again(study, capsys):
    work()
    (study / "00.wav").write_text("a")
    (study / "1.wav").write_text("aa")
    (study / "=2.wav").unlink()
    Path("out/sub/3.csv").unlink()
    again = Annotator()
    assert work(again) == (4, 0)
    assert again.names == ["00.wav", "1.wav", "3.wav"]
    assert [row[0] for row in table("summary.csv")[1:]] == [
        "study/0.wav", "study/00.wav", "study/1.wav", "study/sub/3.wav",
    ]  # fmt: skip
    assert not Path("out/_errors.csv").exists()
    assert "1 parts of an earlier start" in capsys.readouterr().err
    with_another_format = Annotator()
    work(with_another_format, formats=(".csv", ".json"))
    assert len(with_another_format.names) == 4


def test_a_recording_that_could_not_be_read_is_tried_again():
    def unreadable(path: Path) -> tuple[Timeline, list[Segment]]:
        if path.name == "0.wav":
            raise OSError(errno.EIO, "Input/output error")
        return annotate(path)

    assert work(unreadable) == (2, 2)
    assert table("_errors.csv")[1] == ["study/0.wav", "OSError: [Errno 5] Input/output error"]
    again = Annotator()
    assert work(again) == (3, 1)
    assert again.names == ["0.wav"]


def test_processes_share_the_recordings_and_the_last_writes_the_tables():
    work(output="whole")
    first, second = Annotator(), Annotator()
    assert work(first, share=ProcessShard(0, 2)) is None
    assert not Path("out/summary.csv").exists()
    assert work(second, share=ProcessShard(1, 2)) == (3, 1)
    assert (first.names, second.names) == (["0.wav", "=2.wav"], ["1.wav", "3.wav"])
    assert contents() == contents("whole")


def test_two_commands_without_a_launcher_do_not_share_a_folder(monkeypatch):
    monkeypatch.setattr(shards, "CLAIM_SECONDS", 0.1)

    def meanwhile(path: Path) -> tuple[Timeline, list[Segment]]:
        with pytest.raises(UserError, match=r"^expected no other process at work on out, found one; wait"):
            work()
        return annotate(path)

    assert work(meanwhile) == (3, 1)


def test_timelines_of_other_settings_are_not_mixed():
    work()
    with pytest.raises(UserError, match=r"^expected timelines with gate_db 30\.0 in out, found some with 40\.0; give"):
        work(gate_db=30.0)


def test_a_folder_with_other_files_is_left_alone(study):
    with pytest.raises(UserError, match=r"^expected an empty or new folder, found other files in study; give another"):
        work(output="study")
    assert not (study / "segments.csv").exists()


def test_a_full_disk_keeps_the_recordings_that_are_done(monkeypatch):
    write = timeline_folder.write_timeline

    def full(file: Path, *arguments) -> None:
        if "3" in file.name.split(".")[2]:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(file, *arguments)

    monkeypatch.setattr(timeline_folder, "write_timeline", full)
    with pytest.raises(
        DiskError, match=r"No space left on device\); free some room and repeat the command, which goes"
    ):
        work()
    assert {file.name for file in Path("out").rglob("*.csv")} == {"0.csv", "=2.csv"}
    monkeypatch.setattr(timeline_folder, "write_timeline", write)
    again = Annotator()
    assert work(again) == (3, 1)
    assert again.names == ["3.wav"]
