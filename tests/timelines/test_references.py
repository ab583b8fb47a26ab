"""References of recordings: matched, mapped, and refused where they do not fit, each with one sentence."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hf_vivae.annotations.segment import Annotation, Segment
from hf_vivae.annotations.write import write_annotation
from hf_vivae.timelines.references import Reference, make_reference

LABELS = ["anger", "fear"]


@pytest.fixture(autouse=True)
def study(tmp_path, monkeypatch) -> None:
    """Two recordings of 2 s with a reference each, in a folder."""
    monkeypatch.chdir(tmp_path)
    Path("gold/deep").mkdir(parents=True)
    for name in ("a", "b"):
        soundfile.write(f"{name}.wav", np.full(32000, 0.1), 16000)
    write_annotation(
        Path("gold/a.TextGrid"), Annotation("a.wav", (Segment(0, 1, "fear"), Segment(1, 1.5, "laugh")), 2)
    )
    write_annotation(Path("gold/deep/b.TextGrid"), Annotation("b.wav", (), 2))
    Path("map.yaml").write_text("laugh: anger\nspeech: null\n")


def read(path: str, recordings: tuple[str, ...] = ("a.wav", "b.wav"), **options) -> dict[str, list]:
    segments = Reference(Path(path), **options).read([Path(name) for name in recordings], LABELS)
    return {path.name: [(one.start, one.end, one.label) for one in of] for path, of in segments.items()}


def test_a_folder_has_the_reference_of_each_recording_with_mapped_labels():
    found = read("gold", ("b.wav", "a.wav"), label_map=Path("map.yaml"))
    assert list(found.items()) == [("b.wav", []), ("a.wav", [(0, 1, "fear"), (1, 1.5, "anger")])]


def test_a_folder_may_have_notes_and_the_tables_of_a_timeline(capsys):
    expected = read("gold", label_map=Path("map.yaml"))
    Path("gold/README.txt").write_text("Coded by two people.\n")
    for name in ("_timeline.json", "segments.csv", "summary.csv"):
        Path("gold/deep", name).write_text("file,seconds\n")
    assert read("gold", label_map=Path("map.yaml")) == expected
    assert capsys.readouterr().err == (
        "Files that are not annotations of these recordings: gold/README.txt, gold/deep/segments.csv, "
        "gold/deep/summary.csv.\n"
    )
    Path("gold/summary.csv").write_text("file,seconds\n")
    with pytest.raises(ValueError, match=r"^gold/summary\.csv: expected one column start, found"):
        read("gold")


def test_recordings_of_one_name_have_references_in_folders_of_their_names():
    for folder, end in (("mon", 1), ("tue", 2)):
        Path("study", folder).mkdir(parents=True)
        shutil.copy("a.wav", f"study/{folder}/a.wav")
        Path("both", folder).mkdir(parents=True)
        Path(f"both/{folder}/a.csv").write_text(f"start,end,label\n0,{end},fear\n")
    paths = [Path("study/tue/a.wav"), Path("study/mon/a.wav")]
    segments = Reference(Path("both")).read(paths, LABELS)
    assert [(path, of[0].end) for path, of in segments.items()] == list(zip(paths, (2, 1), strict=True))


def test_null_leaves_segments_out():
    Path("map.yaml").write_text("laugh: null\n")
    assert read("gold", label_map=Path("map.yaml"))["a.wav"] == [(0, 1, "fear")]


def test_a_file_without_the_name_of_a_recording_belongs_to_the_only_one():
    write_annotation(Path("second coder.TextGrid"), Annotation("x.wav", (Segment(0, 1, "fear"),), 2))
    assert read("second coder.TextGrid", ("a.wav",)) == {"a.wav": [(0, 1, "fear")]}
    Path("table.csv").write_text("file,start,end,label\nother.wav,0,1,fear\n")
    with pytest.raises(ValueError, match=r"^expected one recording for the annotation of other\.wav, found none"):
        read("table.csv", ("a.wav",))


def test_a_table_has_the_references_of_several_recordings():
    Path("table.csv").write_text("file,start,end,label,mood\na.wav,0,1,fear,anger\nb.wav,0.5,1,anger,fear\n")
    assert read("table.csv") == {"a.wav": [(0, 1, "fear")], "b.wav": [(0.5, 1, "anger")]}
    assert read("table.csv", tier="mood")["b.wav"] == [(0.5, 1, "fear")]


BOTH, ONE = ("a.wav", "b.wav"), ("a.wav",)


@pytest.mark.parametrize(
    ("path", "recordings", "options", "sentence"),
    [
        (
            "gold", BOTH, {},
            r"a\.wav: expected labels of the checkpoint \(anger, fear\) in the reference, found laugh; give a "
            "--label_map with lines such as `laugh: anger`, or `laugh: null` to leave its segments out",
        ),
        (
            "gold", BOTH, {"label_map": Path("wrong.yaml")},
            r"found fears \(did you mean fear\?\); correct the --label_map wrong",
        ),
        ("gold", ONE, {}, "expected one recording for the annotation of b, found none"),
        ("gold/deep", BOTH, {}, r"expected an annotation of every recording in gold/deep, found none of a\.wav; add"),
        (
            "late.csv", ONE, {},
            r"a\.wav: expected a reference that ends with the recording, at 2\.00 s, found a segment until 2\.20 s; ",
        ),
        ("nowhere", ONE, {}, "expected an annotation file or a folder .* as --reference, found nothing at nowhere"),
        ("empty", ONE, {}, "expected annotation files .*TextGrid.* in the folder empty of --reference, found none"),
        ("gold", ONE, {"collar": -0.1}, r"expected --collar of at least 0 s, found -0\.1; 0\.2 is usual"),
        ("gold", ONE, {"collar": float("nan")}, "expected --collar of at least 0 s, found nan"),
        ("a.wav", ONE, {}, r"expected an annotation as \.TextGrid, .*found a\.wav"),
    ],
)  # fmt: skip
def test_a_reference_that_does_not_fit_is_refused(path, recordings, options, sentence):
    Path("wrong.yaml").write_text("laugh: fears\n")
    Path("late.csv").write_text("start,end,label\n1,2.2,fear\n")
    Path("empty").mkdir()
    with pytest.raises(ValueError, match=f"^.*{sentence}"):
        read(path, recordings, **options)


def test_an_mp3_may_be_a_little_shorter_than_its_reference():
    Path("a.csv").write_text("start,end,label\n1,2.05,fear\n")
    assert read("a.csv", ("a.wav",)) == {"a.wav": [(1, 2.05, "fear")]}


def test_a_missing_library_is_named_before_anything_is_read(monkeypatch):
    monkeypatch.setattr("hf_vivae.timelines.references.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"^expected pyannote\.metrics, .* pip install 'hf_vivae\[annotation\]'\.$"):
        Reference(Path("gold"))


def test_flags_need_a_reference():
    assert make_reference(None, None, None, None) is None
    assert make_reference(Path("gold"), None, None, None, fit=True) == Reference(Path("gold"), collar=0.2)
    with pytest.raises(ValueError, match=r"^expected --reference with --tier, found none"):
        make_reference(None, "x", None, None)
    with pytest.raises(ValueError, match=r"^expected --reference with --fit, found none"):
        make_reference(None, None, None, None, fit=True)
    with pytest.raises(ValueError, match=r"^expected --fit without --output, found both"):
        make_reference(Path("gold"), None, None, None, fit=True, outputs=[Path("x")])
