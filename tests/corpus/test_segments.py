"""Annotated segments of recordings as clips: names, columns and sound, and a sentence for what cannot be used."""

import re
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import soundfile
from datasets import Audio, Dataset

from hf_vivae.audio import load
from hf_vivae.corpus import CorpusError, load_corpus, read_hub_dataset, read_segments
from hf_vivae.corpus.arguments import CorpusArguments
from hf_vivae.corpus.schema import clip_digests
from hf_vivae.validation import UserError

RATE = 8000


def record(file: Path, seconds: float = 3.0, seed: int = 0) -> np.ndarray:
    """Write a recording of noise, and return its samples `(samples,)`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(seed).integers(-8000, 8000, round(seconds * RATE)) / 2**15
    soundfile.write(file, samples, RATE)
    return samples.astype(np.float32)


def table(file: Path, *rows: str, columns: str = "file,start,end,label,speaker") -> Path:
    file.write_text("\n".join([columns, *rows, ""]), encoding="utf-8")
    return file


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Two recordings of 3 s with four segments by three speakers in one table."""
    monkeypatch.setenv("HF_VIVAE_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "recordings"
    record(root / "day 1" / "a.wav", seed=1)
    record(root / "b.flac", seed=2)
    table(
        root / "all.csv",
        "a.wav,1.5,2.25,laugh,ann",
        "a.wav,0,0.5,cry,ben",
        "b.flac,0.25,1,cry,ann",
        "b.flac,2,3,laugh,",
    )
    return root


def refused(root: Path, message: str, **options) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        read_segments(root, **options)


def test_each_segment_is_a_clip_of_its_recording(folder):
    corpus = read_segments(folder)
    dataset = corpus.dataset
    assert (corpus.name, corpus.problems) == ("segments", ())
    assert dataset["file"][:] == [
        "b.flac#t=0.250,1.000",
        "b.flac#t=2.000,3.000",
        "day 1/a.wav#t=0.000,0.500",
        "day 1/a.wav#t=1.500,2.250",
    ]
    assert dataset["recording"][:] == ["b.flac", "b.flac", "day 1/a.wav", "day 1/a.wav"]
    assert dataset.features["emotion"].names == ["cry", "laugh"]
    assert dataset["emotion"][:] == [0, 1, 0, 1]
    assert dataset["speaker"][:] == ["ann", None, "ben", "ann"]
    assert dataset["duration"][:] == [0.75, 1, 0.5, 0.75]
    assert dataset["item"][0] == "0.250,1.000"
    assert dataset.features["audio"].sampling_rate == RATE
    samples, _ = load(dataset[3]["audio"])
    whole, _ = load(folder / "day 1" / "a.wav")
    np.testing.assert_array_equal(samples, whole[12000:18000])
    assert {path.name for path in folder.rglob("*.*")} == {"a.wav", "b.flac", "all.csv"}  # nothing is cut


def test_digests_differ_between_segments_and_with_the_sound(folder):
    first = clip_digests(read_segments(folder).dataset)
    assert len(set(first)) == 4
    assert clip_digests(read_segments(folder).dataset) == first
    record(folder / "day 1" / "a.wav", seed=3)
    changed = clip_digests(read_segments(folder).dataset)
    assert [old == new for old, new in zip(first, changed, strict=True)] == [True, True, False, False]


def test_a_recording_that_changes_after_its_check_is_refused(folder):
    dataset = read_segments(folder).dataset
    record(folder / "b.flac", 4.0)
    with pytest.raises(UserError, match=r"found a changed file in place of b.flac#t=0.250,1.000"):
        clip_digests(dataset)


def test_annotations_may_be_text_grids_elsewhere(folder, tmp_path):
    from praatio import textgrid

    (folder / "all.csv").unlink()
    (tmp_path / "grids").mkdir()
    for name in ("a", "b"):
        grid = textgrid.Textgrid()
        entries = [(0.5, 1.0, "cry"), (1.0, 1.5, "laugh")]
        grid.addTier(textgrid.IntervalTier("emotion", entries, 0, 3))
        grid.addTier(textgrid.IntervalTier("who", [(0.0, 1.2, f"{name}1"), (1.2, 3.0, f"{name}2")], 0, 3))
        grid.save(str(tmp_path / "grids" / f"{name}.TextGrid"), "short_textgrid", includeBlankSpaces=True)
    options = {"annotations": tmp_path / "grids", "tier": "emotion", "speaker_tier": "who"}
    dataset = load_corpus("segments", folder, **options).dataset
    assert dataset["speaker"][:] == ["b1", "b2", "a1", "a2"]
    assert dataset["file"][:2] == ["b.flac#t=0.500,1.000", "b.flac#t=1.000,1.500"]


def test_an_annotation_belongs_to_the_recording_beside_it(tmp_path):
    for name, label in (("x", "cry"), ("y", "laugh")):
        record(tmp_path / name / "interview.wav")
        (tmp_path / name / "interview.pfsx").write_text("settings of ELAN")
        (tmp_path / name / "interview.mp4").write_text("the film")
        table(tmp_path / name / "interview.csv", f"1,2,{label}", columns="start,end,label")
    (tmp_path / "readme.txt").write_text("Recordings.")
    corpus = read_segments(tmp_path)
    assert corpus.dataset["file"][:] == ["x/interview.wav#t=1.000,2.000", "y/interview.wav#t=1.000,2.000"]
    assert corpus.dataset["emotion"][:] == [0, 1]
    assert corpus.problems == ("a text of no recording's name: readme.txt",)


def test_speakers_may_be_in_the_names_of_recordings(folder):
    dataset = read_segments(folder, speaker_pattern=r"^(\w)\.").dataset
    assert dataset["speaker"][:] == ["b", "b", "a", "a"]
    refused(
        folder,
        "expected speakers from --speaker_tier or from --speaker_pattern, found both; leave one of them out.",
        speaker_pattern="(.)",
        speaker_tier="speaker",
    )


def test_recordings_and_annotations_without_segments_are_listed(folder):
    record(folder / "c.wav")
    record(folder / "d.wav")
    table(folder / "d.csv", columns="start,end,label")
    assert read_segments(folder).problems == (
        "without an annotation: c.wav",
        "without a segment in the annotation: d.wav",
    )


BAD = [
    ("a.wav,2.9,3.021,cry,x", "expected a part within its 3.000 s, found 2.900 to 3.021 s"),
    ("a.wav,2.5,2.52,cry,x", "expected at least 25 ms of sound, found 20 ms"),
    ("c.wav,1,2,cry,x", "expected sound, found silence"),
]


@pytest.mark.parametrize(("row", "reason"), BAD)
def test_segments_without_usable_sound_are_refused_or_left_out(folder, row, reason):
    soundfile.write(folder / "c.wav", np.zeros(3 * RATE), RATE)
    with (folder / "all.csv").open("a") as file:
        file.write(row + "\nb.flac,1.5,1.9,cry,ann\n")
    name, start, end, *_ = row.split(",")
    clip = f"{'day 1/' if name == 'a.wav' else ''}{name}#t={float(start):.3f},{float(end):.3f}"
    left_out = () if name == "c.wav" else ("without an annotation: c.wav",)
    with pytest.raises(CorpusError) as error:
        read_segments(folder)
    assert error.value.problems == (*left_out, f"bad audio: {clip}: {reason}")
    assert str(error.value).endswith(
        f"1 bad audio ({clip}: {reason}); correct the annotations or replace the recordings, or leave out those that "
        "cannot be used with --on_bad_audio skip."
    )
    corpus = read_segments(folder, on_bad_audio="skip")
    assert len(corpus.dataset) == 5
    assert corpus.problems == error.value.problems
    assert read_segments(folder, on_bad_audio="skip").problems == corpus.problems  # with the clips that were checked


def test_an_end_that_was_rounded_past_the_recording_is_that_of_the_recording(folder):
    table(folder / "all.csv", "a.wav,2.5,3.02,cry,x", "a.wav,1,2,laugh,x")
    assert read_segments(folder).dataset["duration"][:] == [1.0, 0.5]


def test_a_damaged_recording_is_named_once(folder):
    (folder / "b.flac").write_bytes(b"no sound")
    corpus = read_segments(folder, on_bad_audio="skip")
    assert len(corpus.dataset) == 2
    (problem,) = corpus.problems
    assert problem.startswith("bad audio: b.flac: expected WAV, FLAC")


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("a.wav,1,1.6,cry,ann", "overlapping with a segment of the same speaker: day 1/a.wav#t=1.500,2.250 (laugh)"),
        ("a.wav,1.5,2.25,cry,ben", "named twice: day 1/a.wav#t=1.500,2.250, as laugh and cry"),
    ],
)
def test_segments_that_contradict_each_other_are_refused(folder, row, problem):
    with (folder / "all.csv").open("a") as file:
        file.write(f"{row}\n")
    with pytest.raises(CorpusError) as error:
        read_segments(folder, on_bad_audio="skip")
    assert error.value.problems == (problem,)


def test_segments_of_two_speakers_may_overlap(folder):
    with (folder / "all.csv").open("a") as file:
        file.write("a.wav,1,1.6,cry,ben\n")
    assert len(read_segments(folder, speaker_pattern=r"^(\w)\.").dataset) == 5


def test_missing_recordings_annotations_and_labels_are_sentences(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    refused(
        folder,
        f"expected annotations (.TextGrid, .eaf, .rttm, .csv, .tsv, .txt) at {tmp_path / 'empty'}, found none; give "
        "their file or folder with --annotations.",
        annotations=tmp_path / "empty",
    )
    with (folder / "all.csv").open("a") as file:
        file.write("absent.wav,1,2,cry,x\n")
    with pytest.raises(UserError, match=r"^expected one recording for the annotation of absent.wav, found none of "):
        read_segments(folder)
    table(folder / "all.csv", "a.wav,1,2,cry,x")
    refused(
        folder,
        f"expected segments of at least two labels in {folder}, found only cry; correct --annotations, or the --tier "
        "of the labels.",
    )
    with pytest.raises(UserError, match=r"^expected the folder of the recordings with --data segments, found none; "):
        load_corpus("segments")


def test_labels_outside_a_map_are_one_sentence(folder, tmp_path):
    (tmp_path / "map.yaml").write_text("cry: sadness\n")
    with pytest.raises(
        UserError, match=r"^expected every label of the segments clips in the label map map, found none"
    ):
        load_corpus("segments", folder, label_map=tmp_path / "map.yaml")


def test_the_command_line_keeps_absolute_paths(folder, monkeypatch):
    monkeypatch.chdir(folder)
    arguments = CorpusArguments(data="segments", data_dir=".", annotations="all.csv")
    assert arguments.annotations == str(folder / "all.csv")
    assert len(arguments.load().dataset) == 4
    assert arguments.folder_name == "segments"


def test_a_dataset_that_names_parts_of_its_files_is_read(folder, tmp_path):
    """And none that names a part of a file elsewhere, through a link."""
    record(tmp_path / "mine.flac")
    (folder / "link.flac").symlink_to(tmp_path / "mine.flac")
    for name, file in (("mine", "link.flac"), ("ours", "b.flac")):
        parts = [{"bytes": None, "path": f"{folder / file}#t={start},{start + 1}"} for start in (0, 1)]
        sounds = pyarrow.array(parts, Audio().pa_type)
        table = pyarrow.table({"audio": sounds, "label": ["cry", "laugh"]})
        dataset = Dataset(table).cast_column("audio", Audio(decode=False))
        pyarrow.parquet.write_table(dataset.data.table, folder / f"{name}.parquet")
    with pytest.raises(CorpusError, match=r"found 2 outside the dataset \(link\.flac#t=0,1, with the path "):
        read_hub_dataset(str(folder / "mine.parquet"))
    dataset = read_hub_dataset(str(folder / "ours.parquet")).dataset
    assert dataset["file"][:] == ["b.flac#t=0,1", "b.flac#t=1,2"]
    np.testing.assert_array_equal(load(dataset[1]["audio"])[0], load(folder / "b.flac")[0][RATE : 2 * RATE])
