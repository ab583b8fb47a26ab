"""Labels of many clips: each clip once, from any source, with any number of processes, also after one is killed."""

import errno
import io
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from checkpoints_of import write_checkpoint
from predicting import rows, sound, work
from scipy.special import softmax
from tqdm import tqdm

from hf_vivae import audio, load_classifier
from hf_vivae.files import DiskError
from hf_vivae.inference import predict as predicting
from hf_vivae.inference import sources
from hf_vivae.inference.predict import PredictResult, ProcessShard, predict
from hf_vivae.inference.scorer import Scorer
from hf_vivae.inference.sources import find_shards, read_whole
from hf_vivae.validation import UserError


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def scorer(checkpoint) -> Scorer:
    return Scorer(str(checkpoint), batch_size=3, workers=2)


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """Twelve clips in two folders, of which one is text, and files that are no clips."""
    folder = tmp_path_factory.mktemp("clips")
    for number in range(12):
        file = folder / "ab"[number % 2] / f"{number:02}.wav"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(sound(number) if number != 5 else b"hello")
    (folder / "notes.txt").write_text("none")
    return folder


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(sources, "FILES_PER_SHARD", 4)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_each_clip_has_the_scores_of_the_pipeline_or_a_reason(suffix, scorer, checkpoint, clips, tmp_path):
    output = tmp_path / "new" / f"x.{suffix}"
    assert work(scorer, find_shards([str(clips)]), output) == PredictResult(11, 1)
    found = rows(output)
    files = sorted(str(file) for file in clips.rglob("*.wav"))
    files = [file for file in files if not file.endswith("05.wav")]
    assert [row["file"] for row in found] == files
    classify = load_classifier(checkpoint)
    for row, file in zip(found, files, strict=True):
        expected = {item["label"]: item["score"] for item in classify(file)}
        assert row["label"] == max(expected, key=expected.get)
        assert {label: float(row[f"p_{label}"]) for label in expected} == pytest.approx(expected, abs=1e-6)
        assert float(row["probability"]) == pytest.approx(max(expected.values()), abs=1e-6)
    (failed,) = rows(tmp_path / "new" / f"x.{suffix}.errors.csv")
    assert failed["file"].endswith("b/05.wav")
    assert "no readable audio" in failed["error"]
    seen = {file.name for file in output.parent.iterdir() if not file.name.startswith(".")}
    assert seen == {output.name, f"{output.name}.errors.csv"}


def test_a_start_that_was_killed_goes_on_where_it_was(scorer, clips, tmp_path, monkeypatch):
    whole = tmp_path / "whole.csv"
    work(scorer, find_shards([str(clips)]), whole)
    read, scored = predicting.score_clips, []

    def dies_in_the_second(scorer, clips, bar):
        if len(scored) == 1:
            raise KeyboardInterrupt
        scored.append(1)
        return read(scorer, clips, bar)

    cut = tmp_path / "cut.csv"
    monkeypatch.setattr(predicting, "score_clips", dies_in_the_second)
    with pytest.raises(KeyboardInterrupt):
        work(scorer, find_shards([str(clips)]), cut)
    assert not cut.exists()
    scored.clear()
    monkeypatch.setattr(predicting, "score_clips", lambda *given: scored.append(1) or read(*given))
    assert work(scorer, find_shards([str(clips)]), cut) == PredictResult(11, 1)
    assert len(scored) == 2  # of three
    assert cut.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("processes", [2, 5])
def test_processes_share_the_shards_and_the_last_puts_them_together(processes, scorer, clips, tmp_path):
    alone, shared = tmp_path / "alone.jsonl", tmp_path / "shared.jsonl"
    work(scorer, find_shards([str(clips)]), alone)
    ends = [
        work(scorer, find_shards([str(clips)]), shared, ProcessShard(rank, processes)) for rank in range(processes)
    ]
    assert [end for end in ends if end] == [PredictResult(11, 1)]
    assert shared.read_bytes() == alone.read_bytes()


def test_a_folder_keeps_the_parts(scorer, clips, tmp_path):
    assert work(scorer, find_shards([str(clips)]), tmp_path / "out") == PredictResult(11, 1)
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "_errors.csv", "_predict.json", "part-000000.parquet", "part-000001.parquet", "part-000002.parquet",
    ]  # fmt: skip
    table = pq.read_table(tmp_path / "out")
    assert table.num_rows == 12


def test_scores_of_another_checkpoint_or_of_other_clips_are_not_mixed(scorer, clips, tmp_path):
    work(scorer, find_shards([str(clips)]), tmp_path / "out")
    other = r"expected scores with checkpoint 'b' in .*, found"
    with tqdm(disable=True) as bar, pytest.raises(ValueError, match=other):
        predict(scorer, find_shards([str(clips)]), tmp_path / "out", {"checkpoint": "b"}, ProcessShard(), bar)
    with pytest.raises(ValueError, match="expected the clips of an earlier start, found others"):
        work(scorer, find_shards([str(clips / "a")]), tmp_path / "out")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("")
    with pytest.raises(ValueError, match="expected an empty or new folder, found other files in"):
        work(scorer, find_shards([str(clips)]), tmp_path / "other")
    (tmp_path / "old.csv").write_text("precious")
    with pytest.raises(ValueError, match="expected a new file as --output, found"):
        work(scorer, find_shards([str(clips)]), tmp_path / "old.csv")
    assert (tmp_path / "old.csv").read_text() == "precious"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("nowhere.wav", r"expected a file, a folder or a pattern of files at .*nowhere\.wav, found none"),
        ("*.flac", r"expected a file, a folder or a pattern of files at .*\*\.flac, found none"),
        ("empty", "expected clips in the folder .*empty, found none"),
        ("none.parquet", r"expected a file, a folder or a pattern of files at .*none\.parquet, found none"),
        ("silent.parquet", r"expected a column of audio files' bytes in .*silent\.parquet, found a, b; write"),
        ("damaged.parquet", r"expected a table of parquet at .*damaged\.parquet, found none"),
    ],
)
def test_inputs_without_clips_are_refused_by_name(name, sentence, tmp_path):
    (tmp_path / "empty").mkdir()
    pq.write_table(pa.table({"a": [1], "b": ["x"]}), tmp_path / "silent.parquet")
    (tmp_path / "damaged.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=sentence):
        list(find_shards([str(tmp_path / name)]))


def test_patterns_and_folders_leave_out_what_is_no_clip(clips):
    names = [[clip.file for clip in shard.read()] for shard in find_shards([str(clips / "**" / "0*.wav"), str(clips)])]
    assert [len(shard) for shard in names] == [4, 4, 4, 4, 4, 2][: len(names)]
    assert not any("notes" in name for shard in names for name in shard)
    assert len({name for shard in names for name in shard}) == 12


def test_patterns_name_tables_which_folders_leave_out(tmp_path):
    (tmp_path / "0.wav").touch()
    for name in ("1.parquet", "2.parquet", "3.PARQUET"):
        pq.write_table(pa.table({"audio": [b"0000"]}), tmp_path / name)
    with pa.ipc.new_stream(tmp_path / "4.arrow", pa.schema({"audio": pa.binary()})) as stream:
        stream.write_table(pa.table({"audio": [b"0000"]}))
    shards = [*find_shards([str(tmp_path / "*"), "-", str(tmp_path)])]
    names = [Path(clip.file).name for shard in shards for clip in shard.read()]
    assert names == ["0.wav", "1.parquet:0", "2.parquet:0", "3.PARQUET:0", "4.arrow:0", "<stdin>", "0.wav"]


def long_wave(file: Path, seconds: float, rate: int = 44100, channels: int = 1) -> Path:
    """A file of zeros that take no room on the disk, with their number in its header."""
    with soundfile.SoundFile(file, "w", rate, channels) as empty:
        empty.write(np.zeros((1, channels)))
    size = round(seconds * rate) * channels * 2
    with open(file, "r+b") as stream:
        stream.seek(4)
        stream.write((36 + size).to_bytes(4, "little"))
        stream.seek(40)
        stream.write(size.to_bytes(4, "little"))
        stream.truncate(44 + size)
    return file


def bad_file(name: str, folder: Path) -> Path:
    file = folder / name
    if name == "hours.wav":
        return long_wave(file, seconds=36_000)
    if name == "wide.wav":
        return long_wave(file, 59, rate=768_000, channels=8)
    if name == "pipe.wav":
        os.mkfifo(file)
    elif name == "samples.raw":
        file.write_bytes(np.random.default_rng(0).bytes(4000))
    elif name == "video.mp4":
        file.write_bytes(b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41" + bytes(1000))
    elif name == "text.wav":
        file.write_text("not sound at all")
    elif name == "empty.wav":
        file.touch()
    elif name == "short.wav":
        soundfile.write(file, np.full(800, 0.1), 44100)
    elif name == "nan.wav":
        soundfile.write(file, np.full(44100, np.nan, np.float32), 44100, subtype="FLOAT")
    return file


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("video.mp4", r"video\.mp4: expected WAV, FLAC, OGG, MP3 .*, found no readable audio"),
        ("text.wav", r"text\.wav: expected WAV, FLAC, OGG, MP3 .*, found no readable audio"),
        ("empty.wav", r"empty\.wav: expected sound, found an empty file \(0 bytes\)"),
        ("short.wav", r"short\.wav: expected at least 25 ms of sound, found 18.1 ms"),
        ("nan.wav", r"nan\.wav: expected finite samples, found 44100 NaN or infinite samples"),
        (
            "hours.wav",
            r"hours\.wav: expected a clip of up to 60 s at 1 x \d+ Hz, found one of 36000 s; use hf-vivae timeline",
        ),
        ("gone.wav", r"gone\.wav: expected an audio file, found no file at"),
        ("samples.raw", r"samples\.raw: expected WAV, FLAC, OGG, MP3 .*, found no readable audio"),
        ("pipe.wav", r"pipe\.wav: expected an audio file, found a pipe, socket or device"),
        ("wide.wav", r"wide\.wav: expected a clip of up to 10.92 s at 8 x 768000 Hz, found one of 59 s"),
    ],
)
def test_a_bad_file_has_its_reason_and_the_others_their_scores(name, sentence, scorer, clips, tmp_path):
    good = clips / "a" / "00.wav"
    failed, scores = scorer.score([str(bad_file(name, tmp_path)), str(good)])
    assert isinstance(failed, ValueError)
    assert re.search(sentence, str(failed))
    assert scores.sum() == pytest.approx(1, abs=1e-6)


def test_what_is_read_whole_is_limited():
    with pytest.raises(
        UserError, match=r"^<stdin>: expected a clip of up to 256 MiB, found more; save it as a file\.$"
    ):
        read_whole(open("/dev/zero", "rb"), "<stdin>")  # noqa: SIM115


@pytest.mark.parametrize("format", ["FLAC", "MP3"])
def test_a_recording_whose_header_gives_no_length_is_refused_as_any_other(format, scorer):
    """A FLAC that was written to a pipe, and an MP3 of constant bit rate without its Info frame."""

    def clip(seconds: int) -> bytes:
        file, rate, noise = io.BytesIO(), 16000, np.random.default_rng(0).uniform(-0.1, 0.1, 16000 * seconds)
        if format == "MP3":
            soundfile.write(file, noise, rate, format="MP3", bitrate_mode="CONSTANT", compression_level=0.5)
            data = file.getvalue()
            return data[data.index(data[:2], data.index(b"Info")) :]
        soundfile.write(file, noise, rate, format="FLAC")
        data = file.getvalue()
        return data[:21] + bytes([data[21] & 0xF0, 0, 0, 0, 0]) + data[26:]

    short, long = scorer.score_clips([clip(59), clip(61)])
    assert short.duration == pytest.approx(59, abs=0.3)
    assert str(long).startswith("<bytes>: expected a clip of up to 60 s at 1 x 16000 Hz, found a longer one; use hf-")


def test_whatever_a_library_raises_on_a_clip_the_others_have_their_scores(scorer, clips, tmp_path, monkeypatch):
    load = audio.load

    def fails_once(source, rate, name, max_seconds):
        if name == "02.wav":
            raise RuntimeError("the decoder has given up")
        return load(source, rate, name)

    monkeypatch.setattr(audio, "load", fails_once)
    assert work(scorer, find_shards([str(clips / "a")]), tmp_path / "x.csv") == PredictResult(5, 1)
    (failed,) = rows(tmp_path / "x.csv.errors.csv")
    assert failed == {"file": str(clips / "a" / "02.wav"), "error": "RuntimeError: the decoder has given up"}


def test_names_of_any_bytes_are_written_readably(scorer, tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    for name, content in ((b"lach\xe9.wav", sound(0)), (b"still\xff.wav", b""), ("ü.wav".encode(), sound(1))):
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(content)
    for suffix in ("csv", "jsonl", "parquet"):
        assert work(scorer, find_shards([str(folder)]), tmp_path / f"x.{suffix}") == PredictResult(2, 1)
        assert [row["file"] for row in rows(tmp_path / f"x.{suffix}")] == [
            f"{folder}/lach\\xe9.wav",
            f"{folder}/ü.wav",
        ]
        (failed,) = rows(tmp_path / f"x.{suffix}.errors.csv")
        assert failed["file"] == f"{folder}/still\\xff.wav"
        assert failed["error"].startswith("still\\xff.wav: expected sound, found an empty file")


def test_spreadsheets_take_no_name_for_a_formula(scorer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, content in (("=HYPERLINK(1).wav", sound(0)), ("@SUM(1).wav", b""), ("-5.wav", sound(1))):
        Path(name).write_bytes(content)
    names = ["=HYPERLINK(1).wav", "@SUM(1).wav", "-5.wav"]
    assert work(scorer, find_shards(names), tmp_path / "x.csv") == PredictResult(2, 1)
    found = rows(tmp_path / "x.csv")
    assert [row["file"] for row in found] == ["'=HYPERLINK(1).wav", "'-5.wav"]
    assert all(0 <= float(row["probability"]) <= 1 for row in found)
    assert rows(tmp_path / "x.csv.errors.csv")[0]["file"] == "'@SUM(1).wav"
    work(scorer, find_shards(names), tmp_path / "x.jsonl")
    assert [row["file"] for row in rows(tmp_path / "x.jsonl")] == ["=HYPERLINK(1).wav", "-5.wav"]


def test_a_clip_beyond_the_models_input_has_the_length_that_was_used(scorer, tmp_path):
    for name, seconds in (("half", 0.5), ("one", 1.0), ("ten", 10.0)):
        (tmp_path / f"{name}.wav").write_bytes(sound(0, 44100, seconds))
    outcome = work(scorer, find_shards([str(tmp_path / "*.wav")]), tmp_path / "x.parquet")
    assert outcome.longer == 1
    half, one, ten = rows(tmp_path / "x.parquet")
    assert [row["duration"] for row in (half, one, ten)] == pytest.approx([0.5, 1, 10])
    assert [row["duration_used"] for row in (half, one, ten)] == pytest.approx([0.5, 1, 1])
    assert one["p_anger"] == pytest.approx(ten["p_anger"]), "else more of it was used"


@pytest.mark.parametrize(
    ("kind", "num_samples", "seconds"), [("wav2vec2", None, 30), ("wav2vec2", 8000, 0.5), ("vit-16-69", 44100, 1)]
)
def test_the_length_that_is_used_is_that_of_the_model(kind, num_samples, seconds, tmp_path):
    folder = write_checkpoint(tmp_path / kind, kind)
    file = folder / "preprocessor_config.json"
    settings = json.loads(file.read_text()) | {"num_samples": num_samples}
    file.write_text(json.dumps({name: value for name, value in settings.items() if value is not None}))
    (clip,) = Scorer(str(folder)).score_clips([sound(0, 16000, 40.0)])
    assert [clip.duration, clip.duration_used] == pytest.approx([40, seconds], abs=1e-3)


def test_silence_that_is_trimmed_is_not_used(tmp_path):
    folder = write_checkpoint(tmp_path / "vit")
    file = folder / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"trim_db": 40.0, "trim_margin": 0.0}))
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 22050).astype(np.float32)
    clip = {"array": np.pad(noise, 44100), "sampling_rate": 44100}
    (found,) = Scorer(str(folder)).score_clips([clip])
    assert found.duration == pytest.approx(2.5)
    assert found.duration_used == pytest.approx(0.5, abs=0.02)


def test_eight_channels_are_heard_as_their_mean(scorer, tmp_path):
    channels = np.random.default_rng(0).uniform(-0.5, 0.5, (20000, 8))
    soundfile.write(tmp_path / "eight.wav", channels, 44100, subtype="FLOAT")
    soundfile.write(tmp_path / "mean.wav", channels.astype(np.float32).mean(axis=1), 44100, subtype="FLOAT")
    eight, mean = scorer.score([str(tmp_path / "eight.wav"), str(tmp_path / "mean.wav")])
    np.testing.assert_allclose(eight, mean, atol=1e-6)


def test_a_full_disk_keeps_the_parts_that_are_there(scorer, clips, tmp_path, monkeypatch):
    write, written = pq.write_table, []

    def full_after_one(table, file):
        if written:
            Path(file).write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(file)
        write(table, file)

    monkeypatch.setattr(pq, "write_table", full_after_one)
    with pytest.raises(
        DiskError, match=r"found .*out \(No space left on device\); .* goes on after the finished parts"
    ):
        work(scorer, find_shards([str(clips)]), tmp_path / "out")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["_predict.json", "part-000000.parquet"]
    monkeypatch.undo()
    monkeypatch.setattr(sources, "FILES_PER_SHARD", 4)
    assert work(scorer, find_shards([str(clips)]), tmp_path / "out") == PredictResult(11, 1)


def test_probabilities_are_calibrated_where_the_checkpoint_has_a_temperature(checkpoint, clips, tmp_path):
    folder = Path(shutil.copytree(checkpoint, tmp_path / "calibrated"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"calibration_temperature": 2.5}))
    file = str(clips / "a" / "00.wav")
    plain = {item["label"]: np.log(item["score"]) / 2.5 for item in load_classifier(folder)(file)}
    scorer = Scorer(str(folder))
    (scores,) = scorer.score([file])
    assert scorer.temperature == 2.5
    expected = softmax([plain[label] for label in scorer.labels])
    np.testing.assert_allclose(scores, expected, atol=1e-6)


def test_threads_that_score_padded_batches_at_once_do_not_disturb_each_other(tmp_path):
    folder = write_checkpoint(tmp_path / "wav2vec2", "wav2vec2")
    sounds = [sound(seed) for seed in range(40)]
    alone = Scorer(str(folder), batch_size=1, workers=1).score(sounds)
    together = Scorer(str(folder), batch_size=3, workers=4)
    for _ in range(5):
        np.testing.assert_allclose(together.score(sounds), alone, atol=1e-5)


def test_clips_are_read_while_earlier_ones_are_scored(scorer):
    submitted = []
    chunks = ([(f"clip {number}", submitted.append(number) or sound(number))] for number in range(3))
    scores = scorer.score_chunks(chunks)
    ((name, first),) = next(scores)
    assert submitted == [0, 1]
    assert name == "clip 0"
    np.testing.assert_allclose(first.probabilities, scorer.score([sound(0)])[0], atol=1e-6)
    assert len(list(scores)) == 2
    assert list(scorer.score_chunks([])) == []


def test_bfloat16_moves_probabilities_a_little(checkpoint, clips):
    file = str(clips / "a" / "00.wav")
    (exact,), (rounded,) = (Scorer(str(checkpoint), bf16=bf16).score([file]) for bf16 in (False, True))
    assert rounded.sum() == pytest.approx(1, abs=1e-5)
    assert 0 < np.abs(exact - rounded).max() < 0.05
