"""Names of recordings on a command line, and the names of their files in an output folder."""

from pathlib import Path

import pytest

from hf_vivae.timelines.recordings import find_recordings

FILES = ("monday/a.wav", "monday/b.flac", "monday/b.wav", "tuesday/a.wav", "tuesday/a.TextGrid", "tuesday/notes.txt")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    for name in FILES:
        (tmp_path / "study" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "study" / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "study"


def stems(*inputs: str) -> dict[str, str]:
    return {recording.path.as_posix(): recording.stem for recording in find_recordings(inputs)}


def test_a_folder_keeps_its_subfolders_and_leaves_annotations_out():
    assert stems("study") == {
        "study/monday/a.wav": "monday/a",
        "study/monday/b.flac": "monday/b.flac",
        "study/monday/b.wav": "monday/b.wav",
        "study/tuesday/a.wav": "tuesday/a",
    }


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        (["study/monday/a.wav"], ["a"]),
        (["study/monday"], ["a", "b.flac", "b.wav"]),
        (["study/*/a.wav"], ["monday/a", "tuesday/a"]),
        (["study/mon*/a.wav"], ["monday/a"]),
        (["study/monday/a.wav", "study/tuesday/a.wav"], ["monday/a", "tuesday/a"]),
        (["study/tuesday", "study/monday/*.flac"], ["tuesday/a", "monday/b"]),
        (["study/tuesday", "study/tuesday/a.wav", "./study/../study/tuesday/*.wav"], ["a"]),
    ],
)
def test_files_have_the_folders_below_that_of_all_inputs(inputs, expected):
    assert list(stems(*inputs).values()) == expected


def test_no_two_recordings_share_a_file_and_none_has_the_name_of_a_table(folder):
    for name in ("a.WAV", "A.flac", "a.wav.mp3", "segments.wav", "Summary.wav", "take[1].wav"):
        (folder / name).touch()
    (folder / "monday").rename(folder.parent / "elsewhere")
    names = list(stems("study").values())
    assert names == [
        "A.flac", "Summary.wav", "a.WAV", "a.wav.mp3", "segments.wav", "take[1]", "tuesday/a",
    ]  # fmt: skip
    assert stems("study/take[1].wav") == {"study/take[1].wav": "take[1]"}


@pytest.mark.parametrize("name", ["study/none.wav", "study/*.ogg"])
def test_names_without_recordings_are_refused(name):
    with pytest.raises(ValueError, match=r"^expected a file, .* of files at study/.*, found none; check the path\.$"):
        find_recordings(["study", name])


def test_a_folder_without_recordings_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"^expected recordings in the folder empty, found none; check the path\.$"):
        find_recordings(["empty"])
