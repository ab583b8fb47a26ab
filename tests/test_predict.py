"""Labels of many clips: each clip once, whatever it comes from, whoever is killed, however many share the work."""

import csv
import errno
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from checkpoints_of import write_checkpoint
from datasets import Audio, Dataset
from scipy.special import softmax
from tqdm import tqdm

from hf_vivae import load_classifier
from hf_vivae.disk import DiskError
from hf_vivae.inference import predict as predicting
from hf_vivae.inference import sources
from hf_vivae.inference.predict import Outcome, Share, predict
from hf_vivae.inference.scorer import Scorer
from hf_vivae.inference.sources import find_shards
from hf_vivae.inference.tables import dataset_shards

SETTINGS = {"checkpoint": "a"}
ALONE = Share()


def sound(seed: int, rate: int = 16000) -> bytes:
    rng, file = np.random.default_rng(seed), io.BytesIO()
    soundfile.write(file, rng.uniform(-0.5, 0.5, int(rate * rng.uniform(0.1, 1.5))), rate, format="WAV")
    return file.getvalue()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def scorer(checkpoint) -> Scorer:
    return Scorer(str(checkpoint), batch_size=3, workers=2)


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """Twelve clips in two folders, of which one is text, and what is no clip beside them."""
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


def work(scorer: Scorer, shards, output: Path, share: Share = ALONE) -> Outcome | None:
    with tqdm(disable=True) as bar:
        return predict(scorer, shards, output, SETTINGS, share, bar)


def rows(file: Path) -> list[dict]:
    if file.suffix == ".parquet":
        return pq.read_table(file).to_pylist()
    if file.suffix == ".jsonl":
        return [json.loads(line) for line in file.read_text().splitlines()]
    with open(file, newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_each_clip_has_the_scores_of_the_pipeline_or_a_reason(suffix, scorer, checkpoint, clips, tmp_path):
    output = tmp_path / "new" / f"x.{suffix}"
    assert work(scorer, find_shards([str(clips)]), output) == Outcome(11, 1)
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
    (failed,) = rows(tmp_path / "new" / "x.errors.csv")
    assert failed["file"].endswith("b/05.wav")
    assert "no readable audio" in failed["error"]
    seen = {file.name for file in output.parent.iterdir() if not file.name.startswith(".")}
    assert seen == {output.name, "x.errors.csv"}


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
    assert work(scorer, find_shards([str(clips)]), cut) == Outcome(11, 1)
    assert len(scored) == 2  # of three
    assert cut.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("processes", [2, 5])
def test_processes_share_the_shards_and_the_last_puts_them_together(processes, scorer, clips, tmp_path):
    alone, shared = tmp_path / "alone.jsonl", tmp_path / "shared.jsonl"
    work(scorer, find_shards([str(clips)]), alone)
    ends = [work(scorer, find_shards([str(clips)]), shared, Share(rank, processes)) for rank in range(processes)]
    assert [end for end in ends if end] == [Outcome(11, 1)]
    assert shared.read_bytes() == alone.read_bytes()


def test_a_folder_keeps_the_parts(scorer, clips, tmp_path):
    assert work(scorer, find_shards([str(clips)]), tmp_path / "out") == Outcome(11, 1)
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "_errors.csv", "_predict.json", "part-000000.parquet", "part-000001.parquet", "part-000002.parquet",
    ]  # fmt: skip
    table = pq.read_table(tmp_path / "out")
    assert table.num_rows == 12


def test_scores_of_another_checkpoint_or_of_other_clips_are_not_mixed(scorer, clips, tmp_path):
    work(scorer, find_shards([str(clips)]), tmp_path / "out")
    other = r"expected scores with checkpoint 'b' in .*, found"
    with tqdm(disable=True) as bar, pytest.raises(ValueError, match=other):
        predict(scorer, find_shards([str(clips)]), tmp_path / "out", {"checkpoint": "b"}, Share(), bar)
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


def test_tables_and_datasets_give_what_their_files_give(scorer, clips, tmp_path):
    files = [clips / "a" / f"{number:02}.wav" for number in range(0, 12, 2)]
    data = {"audio": [{"bytes": file.read_bytes(), "path": None} for file in files], "file": [f.name for f in files]}
    dataset = Dataset.from_dict(data).cast_column("audio", Audio(decode=False))
    (tmp_path / "set").mkdir()
    dataset.to_parquet(tmp_path / "set" / "train.parquet", batch_size=2)
    dataset.cast_column("audio", Audio(decode=False)).save_to_disk(tmp_path / "disk")
    arrow = next((tmp_path / "disk").glob("*.arrow"))
    work(scorer, find_shards(list(map(str, files))), tmp_path / "files.parquet")
    expected = [{**row, "file": Path(row["file"]).name} for row in rows(tmp_path / "files.parquet")]
    several = list(find_shards([str(tmp_path / "set" / "train.parquet")]))
    assert [shard.clips for shard in several] == [2, 2, 2]
    for name, shards in {
        "parquet": several,
        "arrow": list(find_shards([str(arrow)])),
        "dataset": list(dataset_shards(str(tmp_path / "set"), "train")),
    }.items():
        work(scorer, shards, tmp_path / f"{name}.parquet")
        found = rows(tmp_path / f"{name}.parquet")
        assert [row["file"] for row in found] == [row["file"] for row in expected], name
        for row, other in zip(found, expected, strict=True):
            assert row["p_anger"] == pytest.approx(other["p_anger"], abs=1e-6)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("nowhere.wav", r"expected a file, a folder or a pattern of files at .*nowhere\.wav, found none"),
        ("*.flac", r"expected a file, a folder or a pattern of files at .*\*\.flac, found none"),
        ("empty", "expected clips in the folder .*empty, found none"),
        ("none.parquet", r"expected a table of parquet at .*none\.parquet, found none"),
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


def long_wave(file: Path, hours: float) -> Path:
    """A file whose header says hours of sound, all of it zeros that take no room."""
    with soundfile.SoundFile(file, "w", 44100, 1) as empty:
        empty.write(np.zeros(1))
    size = round(hours * 3600 * 44100) * 2
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
        return long_wave(file, hours=10)
    if name == "video.mp4":
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
        ("hours.wav", r"hours\.wav: expected a clip of up to 60 s, found 36000 s; use hf-vivae timeline"),
        ("gone.wav", r"gone\.wav: expected an audio file, found no file at"),
    ],
)
def test_a_bad_file_has_its_reason_and_the_others_their_scores(name, sentence, scorer, clips, tmp_path):
    good = clips / "a" / "00.wav"
    failed, scores = scorer.score([str(bad_file(name, tmp_path)), str(good)])
    assert isinstance(failed, ValueError)
    assert re.search(sentence, str(failed))
    assert scores.sum() == pytest.approx(1, abs=1e-6)


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
        DiskError, match=r"found .*out \(No space left on device\); .* goes on after the parts that are"
    ):
        work(scorer, find_shards([str(clips)]), tmp_path / "out")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["_predict.json", "part-000000.parquet"]
    monkeypatch.undo()
    monkeypatch.setattr(sources, "FILES_PER_SHARD", 4)
    assert work(scorer, find_shards([str(clips)]), tmp_path / "out") == Outcome(11, 1)


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


def test_bfloat16_moves_probabilities_a_little(checkpoint, clips):
    file = str(clips / "a" / "00.wav")
    (exact,), (rounded,) = (Scorer(str(checkpoint), bf16=bf16).score([file]) for bf16 in (False, True))
    assert rounded.sum() == pytest.approx(1, abs=1e-5)
    assert 0 < np.abs(exact - rounded).max() < 0.05
