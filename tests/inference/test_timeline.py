"""Timelines of long recordings: windows are scored as clips are, and silence has no label."""

import math
import os
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from checkpoints_of import write_checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_vivae import audio, load_classifier
from hf_vivae.annotations.segment import Segment
from hf_vivae.inference import timeline as recordings
from hf_vivae.inference.scorer import Scorer
from hf_vivae.inference.timeline import Recording, Timeline, Windows, find_segments, make_timeline
from hf_vivae.inference.timeline_figure import spectrogram, timeline_figure

RATE = 44100


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def scorer(checkpoint) -> Scorer:
    return Scorer(str(checkpoint))


def write(path: Path, samples: np.ndarray, rate: int = RATE) -> Recording:
    soundfile.write(path, samples, rate, subtype="FLOAT" if path.suffix == ".wav" else None)
    return Recording.open(path)


def noise(seconds: float, rate: int = RATE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, round(seconds * rate)).astype(np.float32)


@pytest.mark.parametrize(("rate", "target"), [(48000, 44100), (44100, 16000), (8000, 44100), (22050, 22050)])
@pytest.mark.parametrize("seconds", [0.3, 2.0, 3.9, 5.01])
def test_blocks_are_the_whole_recording_without_seams(rate, target, seconds, tmp_path, monkeypatch):
    monkeypatch.setattr(recordings, "BLOCK_SECONDS", 2)
    samples = noise(seconds, rate)
    blocks = list(write(tmp_path / "x.wav", samples, rate).blocks(target))
    assert max(map(len, blocks)) <= 2 * target
    np.testing.assert_allclose(np.concatenate(blocks), audio.resample(samples, rate, target), atol=1e-6)


def test_blocks_of_an_mp3_have_no_gaps(tmp_path, monkeypatch):
    monkeypatch.setattr(recordings, "BLOCK_SECONDS", 2)
    seconds = np.arange(7 * RATE) / RATE
    recording = write(tmp_path / "x.mp3", 0.3 * np.sin(2 * np.pi * (50 + 400 * seconds) * seconds))
    np.testing.assert_array_equal(np.concatenate(list(recording.blocks(RATE))), audio.load(recording.path)[0])


@pytest.mark.parametrize("suffix", ["wav", "rf64", "w64", "aiff", "au", "caf", "flac", "ogg", "mp3"])
def test_a_truncated_recording_is_refused(suffix, tmp_path, monkeypatch):
    """The part that is left would be a timeline of the whole, or of a shorter recording."""
    monkeypatch.setattr(recordings, "BLOCK_SECONDS", 1)
    path = tmp_path / f"x.{suffix}"
    soundfile.write(path, noise(4), RATE)
    assert len(list(Recording.open(path).blocks(RATE))) == 4
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    with pytest.raises(audio.BadAudio, match=rf"^x\.{suffix}: expected "):
        list(Recording.open(path).blocks(RATE))


def test_a_flac_that_does_not_announce_its_length_is_measured(tmp_path):
    recording = write(tmp_path / "x.flac", noise(3.5))
    data = bytearray(recording.path.read_bytes())
    data[21:26] = bytes([data[21] & 0xF0, 0, 0, 0, 0])
    recording.path.write_bytes(data)
    assert Recording.open(recording.path) == recording
    assert sum(map(len, recording.blocks(16000))) == 56000


@pytest.mark.parametrize(("seconds", "multiple"), [(1.0, 64), (0.75, 1)])
def test_each_step_is_the_mean_of_the_clips_that_it_lies_in(
    seconds, multiple, scorer, checkpoint, tmp_path, monkeypatch
):
    """Check windows that share frames, which begin at one of them, and shorter ones, which do not."""
    monkeypatch.setattr(recordings, "BLOCK_SECONDS", 1)
    samples, length = noise(3.1), round(seconds * RATE)
    timeline = make_timeline(scorer, write(tmp_path / "x.wav", samples), Windows(seconds, 0.25))
    assert timeline.probabilities.shape == (13, 6)
    classify = load_classifier(checkpoint)
    clips = [samples[round(step * 0.25 * RATE / multiple) * multiple :][:length] for step in range(13)]
    scores = [classify({"array": clip, "sampling_rate": RATE}) for clip in clips]
    scores = np.array([[{i["label"]: i["score"] for i in one}[label] for label in scorer.labels] for one in scores])
    for step in range(13):
        covering = scores[max(0, step + 1 - math.ceil(seconds / 0.25)) : step + 1]
        np.testing.assert_allclose(timeline.probabilities[step], covering.mean(axis=0), atol=1e-5)


def test_silence_has_no_label_and_is_not_scored(scorer, tmp_path):
    samples = np.concatenate([noise(2), np.zeros(3 * RATE, np.float32), noise(1, seed=1), 0.0001 * noise(1)])
    timeline = make_timeline(scorer, write(tmp_path / "x.wav", samples), Windows())
    silent = np.isnan(timeline.probabilities).all(axis=1)
    assert silent.tolist() == 8 * [False] + 12 * [True] + 4 * [False] + 4 * [True]
    assert {second for one in find_segments(timeline) for second in (one.start, one.end)} >= {0.0, 2.0, 5.0, 6.0}
    with pytest.raises(ValueError, match=r"x\.wav: expected sound, found silence from start to end"):
        make_timeline(scorer, write(tmp_path / "x.wav", np.zeros(RATE, np.float32)), Windows())


def timeline_of(labels: list[int | None], seconds: float, path: Path = Path("x.wav")) -> Timeline:
    rows = np.full((len(labels), 3), np.nan)
    for row, label in zip(rows, labels, strict=True):
        if label is not None:
            row[:] = 0.1
            row[label] = 0.8
    return Timeline(Recording(path, seconds, RATE), ["a", "b<", "c"], 0.25, rows, np.zeros(len(labels)))


@settings(max_examples=50)
@given(st.lists(st.sampled_from([None, 0, 1, 2]), min_size=1, max_size=30))
def test_segments_are_the_runs_of_one_label(labels):
    segments = find_segments(timeline_of(labels, 0.25 * len(labels)))
    found_labels = [None] * len(labels)
    for one in segments:
        assert one.score == pytest.approx(0.8)
        for step in range(round(4 * one.start), round(4 * one.end)):
            assert found_labels[step] is None
            found_labels[step] = ["a", "b<", "c"].index(one.label)
    assert found_labels == labels
    for one, other in pairwise(segments):
        assert one.end < other.start or one.label != other.label


def test_short_and_unsure_segments_are_left_out():
    timeline = timeline_of([0, 0, 1, None, 2, 2, 2], 1.7)
    assert [(one.start, one.end, one.label) for one in find_segments(timeline, min_seconds=0.5)] == [
        (0.0, 0.5, "a"), (1.0, 1.7, "c"),
    ]  # fmt: skip
    assert find_segments(timeline, min_score=0.9) == []


@pytest.mark.parametrize(
    ("window", "hop", "gate", "sentence"),
    [
        (1.0, 0.0, 40.0, "--hop of at least 0.01 and"),
        (1.0, 1e-7, 40.0, "found 1e-07"),
        (1.0, math.nan, 40.0, "found nan"),
        (1.0, 1.5, 40.0, "at most --window 1 s, found 1.5"),
        (math.inf, 0.25, 40.0, "expected --window in seconds, found inf; 1 is usual"),
        (math.nan, 0.25, 40.0, "expected --window in seconds, found nan"),
        (0.0, 0.25, 40.0, "expected --window in seconds, found 0"),
        (1.0, 0.5, 0.0, "--gate_db"),
        (1.0, 0.5, math.nan, "--gate_db above 0, found nan"),
    ],
)
def test_impossible_windows_are_refused(window, hop, gate, sentence):
    with pytest.raises(ValueError, match=sentence):
        Windows(window, hop, gate)


def test_windows_that_are_too_short_for_the_model_are_refused(scorer, tmp_path):
    with pytest.raises(ValueError, match=r"^x\.wav: expected .*25 ms"):
        make_timeline(scorer, write(tmp_path / "x.wav", noise(0.5)), Windows(0.02, 0.02))


@pytest.mark.parametrize("name", ["x.wav", "x.raw"])
@pytest.mark.parametrize("content", [b"text", b"RIFF", bytes(5000)])
def test_what_is_no_recording_is_named(content, name, tmp_path):
    (tmp_path / name).write_bytes(content)
    sentence = rf"^{name}: expected WAV, FLAC.*; replace the file, .* with ffmpeg -i FILE sound\.wav\.$"
    with pytest.raises(audio.BadAudio, match=sentence):
        Recording.open(tmp_path / name)


def test_a_recording_that_is_absent_empty_or_no_file_is_named(tmp_path):
    os.mkfifo(tmp_path / "x.wav")
    for sentence in (
        "expected an audio file, found a pipe, socket or device; check the path.",
        f"expected an audio file, found no file at {tmp_path / 'x.wav'}; check the path.",
        "expected sound, found an empty file (0 bytes); replace the file.",
    ):
        with pytest.raises(audio.BadAudio, match=re.escape(f"x.wav: {sentence}")):
            Recording.open(tmp_path / "x.wav")
        (tmp_path / "x.wav").unlink() if "pipe" in sentence else (tmp_path / "x.wav").touch()


def test_nan_in_a_recording_is_named_with_its_place(tmp_path):
    samples = noise(2)
    samples[RATE] = np.nan
    with pytest.raises(audio.BadAudio, match=r"NaN or infinite samples from second 1\.00 on; replace the file\.$"):
        list(write(tmp_path / "x.wav", samples).blocks(RATE))


@pytest.mark.parametrize(("seconds", "width", "rows"), [(0.02, 12, 1), (1.0, 12, 1), (130.0, 12, 3), (130.0, 5.5, 5)])
def test_pictures_of_recordings_of_any_length(seconds, width, rows, scorer, tmp_path):
    recording = write(tmp_path / "$x.wav", noise(seconds, 16000), 16000)
    image = spectrogram(recording, 16000)
    assert image.shape[0] == 64
    assert 1 <= image.shape[1] <= 1200
    steps = int(np.ceil(seconds / 0.25))
    shown = Timeline(recording, scorer.labels, 0.25, np.full((steps, 6), 1 / 6), np.zeros(steps))
    segments = [Segment(0.0, seconds, scorer.labels[0], 0.5)]
    by_hand = [Segment(0.0, seconds, "\u7b11\u3044"), Segment(seconds / 2, seconds, scorer.labels[1])]
    for reference in (None, by_hand):
        figure = timeline_figure(shown, segments, reference, width)
        strips = [axes for axes in figure.axes if axes.get_ylabel() in ("labels", "reference")]
        assert len(strips) == rows * (1 if reference is None else 2)
        drawn = sum(patch.get_width() for axes in strips for patch in axes.patches if axes.get_ylabel() == "labels")
        assert drawn == pytest.approx(seconds)  # a segment over several rows is drawn in each
        assert any(axes.get_ylabel() == "probability" for axes in figure.axes) == (rows == 1)
        figure.savefig(tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size > 10_000


@pytest.mark.parametrize(("seconds", "shown"), [(20.0, True), (70.0, False)])
def test_unknown_is_in_the_legend_of_pictures_with_probabilities(seconds, shown, scorer, tmp_path):
    recording, steps = write(tmp_path / "x.wav", noise(seconds, 8000), 8000), int(4 * seconds)
    labels = [*scorer.labels[:5], "unknown"]
    timeline = Timeline(recording, labels, 0.25, np.full((steps, 6), 1 / 6), np.zeros(steps), unknown=5)
    (legend,) = timeline_figure(timeline, []).legends
    assert ("unknown" in [text.get_text() for text in legend.get_texts()]) == shown


def test_a_recording_of_an_hour_and_more_has_sixty_rows(scorer, tmp_path, monkeypatch):
    monkeypatch.setattr("hf_vivae.inference.timeline_figure.MOST_ROWS", 2)
    recording = write(tmp_path / "x.wav", noise(200, 8000), 8000)
    shown = Timeline(recording, scorer.labels, 0.25, np.full((800, 6), 1 / 6), np.zeros(800))
    axes = [axes for axes in timeline_figure(shown, []).axes if axes.get_ylabel() == "kHz"]
    assert [tuple(map(float, panel.get_xlim())) for panel in axes] == [(0, 100), (100, 200)]
