"""A repeated command: changed clips are scored again, other scores are kept, and no other process is disturbed."""

import errno
import json
import os
import shutil
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from checkpoints_of import write_checkpoint
from datasets import Audio, Dataset
from predicting import rows, sound, work

from hf_vivae import audio
from hf_vivae.files import DiskError
from hf_vivae.inference import predict as predicting
from hf_vivae.inference import shards as parts
from hf_vivae.inference import sources
from hf_vivae.inference.predict import PredictResult, ProcessShard, run_predict
from hf_vivae.inference.scorer import Scorer, checkpoint_digest
from hf_vivae.inference.sources import find_shards
from hf_vivae.inference.streamed_dataset import StreamedDataset


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def scorer(checkpoint) -> Scorer:
    return Scorer(str(checkpoint), batch_size=3, workers=2)


@pytest.fixture
def clips(tmp_path) -> Path:
    """Six clips, of which one is text, in three shards."""
    folder = tmp_path / "clips"
    folder.mkdir()
    for number in range(6):
        (folder / f"{number}.wav").write_bytes(sound(number, seconds=0.5) if number != 3 else b"hello")
    return folder


@pytest.fixture(autouse=True)
def scored(monkeypatch) -> list[int]:
    """Shards of two clips; how many clips each shard had that was scored."""
    counts, score_clips = [], predicting.score_clips

    def count(scorer, clips, bar):
        counts.append(len(clips := list(clips)))
        return score_clips(scorer, clips, bar)

    monkeypatch.setattr(sources, "FILES_PER_SHARD", 2)
    monkeypatch.setattr(predicting, "score_clips", count)
    return counts


def probabilities(file: Path) -> dict[str, float]:
    return {Path(row["file"]).name: row["p_anger"] for row in rows(file)}


def test_a_clip_that_was_replaced_is_scored_again_with_its_shard_alone(scorer, clips, tmp_path, scored):
    output = tmp_path / "out"
    work(scorer, find_shards([str(clips)]), output)
    before = probabilities(output)
    (clips / "0.wav").write_bytes(sound(9, seconds=0.5))
    scored.clear()
    assert work(scorer, find_shards([str(clips)]), output) == PredictResult(5, 1)
    assert scored == [2]
    after = probabilities(output)
    assert {name for name in before if before[name] != after[name]} == {"0.wav"}


def test_a_clip_that_was_repaired_is_no_longer_listed_as_failed(scorer, clips, tmp_path):
    output = tmp_path / "out"
    assert work(scorer, find_shards([str(clips)]), output) == PredictResult(5, 1)
    assert (output / "_errors.csv").is_file()
    (clips / "3.wav").write_bytes(sound(3))
    assert work(scorer, find_shards([str(clips)]), output) == PredictResult(6, 0)
    assert not (output / "_errors.csv").exists()


def test_a_clip_that_vanished_has_its_error_until_it_is_back(scorer, clips, tmp_path):
    names, output = [str(clips / f"{number}.wav") for number in range(2)], tmp_path / "out"
    shards = list(find_shards(names))
    content = (clips / "0.wav").read_bytes()
    (clips / "0.wav").unlink()
    assert work(scorer, shards, output) == PredictResult(1, 1)
    assert "no file at" in rows(output / "_errors.csv")[0]["error"]
    (clips / "0.wav").write_bytes(content)
    assert work(scorer, find_shards(names), output) == PredictResult(2, 0)


def test_a_clip_that_could_not_be_read_is_tried_again_and_one_that_was_refused_is_not(
    scorer, clips, tmp_path, scored, monkeypatch
):
    output, load = tmp_path / "out", audio.load

    def no_connection(source, rate, name, max_seconds):
        if name == "0.wav":
            raise OSError(errno.EIO, "Input/output error")
        return load(source, rate, name)

    monkeypatch.setattr(audio, "load", no_connection)
    assert work(scorer, find_shards([str(clips)]), output) == PredictResult(4, 2)
    assert rows(output / "_errors.csv")[0]["error"] == "OSError: [Errno 5] Input/output error"
    monkeypatch.setattr(audio, "load", load)
    scored.clear()
    assert work(scorer, find_shards([str(clips)]), output) == PredictResult(5, 1)
    assert scored == [2]


def test_parts_of_clips_that_are_no_longer_asked_for_are_removed(scorer, clips, tmp_path, capsys):
    output = tmp_path / "out"
    names = [str(clips / f"{number}.wav") for number in (0, 1, 2, 4, 5)]
    assert work(scorer, find_shards(names), output) == PredictResult(5, 0)
    assert work(scorer, find_shards(names[:2]), output) == PredictResult(2, 0)
    assert pq.read_table(output).num_rows == 2
    assert (
        "2 parts of an earlier start, with clips that are no longer in the input, were removed."
        in capsys.readouterr().err
    )


def test_each_output_has_a_list_of_errors_of_its_own_that_replaces_no_other_file(scorer, clips, tmp_path):
    bad, good = str(clips / "3.wav"), str(clips / "0.wav")
    assert work(scorer, find_shards([bad]), tmp_path / "x.csv") == PredictResult(0, 1)
    lists = tmp_path / "x.csv.errors.csv"
    assert work(scorer, find_shards([good]), tmp_path / "x.jsonl") == PredictResult(1, 0)
    assert [row["file"] for row in rows(lists)] == [bad], "that of another output stays"
    (tmp_path / "x.csv").unlink()
    assert work(scorer, find_shards([good]), tmp_path / "x.csv") == PredictResult(1, 0)
    assert not lists.exists(), "that of an earlier start goes"
    (tmp_path / "x.csv").unlink()
    lists.write_text("precious")
    with pytest.raises(ValueError, match=r"^expected no file at .*x\.csv\.errors\.csv, where .*; remove it, or give"):
        work(scorer, find_shards([good]), tmp_path / "x.csv")
    assert lists.read_text() == "precious"
    assert not (tmp_path / ".x.csv.parts").exists()


def write_table(file: Path, seeds: list[int]) -> None:
    """Clips in row groups of two."""
    sounds = [{"bytes": sound(seed, seconds=0.5), "path": None} for seed in seeds]
    dataset = Dataset.from_dict({"audio": sounds, "id": list(map(str, range(len(seeds))))})
    file.parent.mkdir(exist_ok=True)
    dataset.cast_column("audio", Audio(decode=False)).to_parquet(file, batch_size=2)


@pytest.mark.parametrize("kind", ["table", "dataset"])
def test_a_table_that_was_rewritten_is_scored_again(kind, scorer, tmp_path):
    file, output = tmp_path / "set" / "train.parquet", tmp_path / "out"

    def shards():
        return StreamedDataset(str(file.parent), "train").shards() if kind == "dataset" else find_shards([str(file)])

    write_table(file, [0, 1, 2, 3])
    work(scorer, shards(), output)
    before = probabilities(output)
    write_table(file, [4, 1, 2])
    assert work(scorer, shards(), output) == PredictResult(3, 0)
    after = probabilities(output)
    assert after.keys() == {"0", "1", "2"}
    assert after["0"] != before["0"]
    assert after["1"] == pytest.approx(before["1"])


def write_references(folder: Path, kind: str) -> None:
    """A table whose rows name `a.wav`, and `b.wav` in an archive."""
    with zipfile.ZipFile(folder / "b.zip", "w") as archive:
        archive.writestr("b.wav", sound(1, seconds=0.5))
    (folder / "a.wav").write_bytes(sound(0, seconds=0.5)[:-1000])
    sounds = [{"bytes": None, "path": path} for path in ("a.wav", "zip://b.wav::b.zip")]
    dataset = Dataset(pa.table({"audio": pa.array(sounds, Audio().pa_type)})).cast_column("audio", Audio(decode=False))
    if kind == "arrow":
        with pa.ipc.new_stream(folder / "x.arrow", dataset.data.table.schema) as stream:
            stream.write_table(dataset.data.table)
        return
    pq.write_table(dataset.data.table, folder / "x.parquet")
    (folder / "README.md").write_text("---\nconfigs:\n- config_name: default\n  data_files: x.parquet\n---\n")


@pytest.mark.parametrize("kind", ["parquet", "arrow", "dataset"])
def test_a_table_is_scored_again_when_a_file_has_changed_that_its_rows_name(kind, scorer, tmp_path, scored):
    folder, output = tmp_path / "set", tmp_path / "out"
    folder.mkdir()
    write_references(folder, kind)

    def repeat() -> PredictResult | None:
        dataset = kind == "dataset"
        shards = StreamedDataset(str(folder), "train").shards() if dataset else find_shards([f"{folder}/x.{kind}"])
        return work(scorer, shards, output)

    assert repeat() == PredictResult(1, 1), "a.wav is cut"
    (folder / "a.wav").write_bytes(sound(0, seconds=0.5))
    assert repeat() == PredictResult(2, 0)
    before = {row["file"]: row["p_anger"] for row in rows(output)}
    with zipfile.ZipFile(folder / "b.zip", "w") as archive:
        archive.writestr("b.wav", sound(2, seconds=0.6))
    repeat()
    after = {row["file"]: row["p_anger"] for row in rows(output)}
    assert [name for name in before if before[name] != after[name]] == ["zip://b.wav::b.zip"]

    scored.clear()
    repeat()
    assert scored == []


def test_a_table_is_told_by_its_footer_where_size_and_time_are_the_same(tmp_path):
    file = tmp_path / "x.parquet"
    versions = []
    for value in (1, 2):
        pq.write_table(pa.table({"audio": [b"0000"], "n": [value]}), file, compression="none")
        os.utime(file, (0, 0))
        versions += [(file.stat().st_size, next(find_shards([str(file)])).version)]
    assert versions[0][0] == versions[1][0]
    assert versions[0][1] != versions[1][1]


def test_standard_input_is_identified_by_its_content(scorer, tmp_path):
    work(scorer, find_shards(["-"], sound(0, seconds=0.5)), tmp_path / "out")
    before = probabilities(tmp_path / "out")
    work(scorer, find_shards(["-"], sound(1, seconds=0.5)), tmp_path / "out")
    assert probabilities(tmp_path / "out") != before


def test_old_parts_of_other_processes_are_not_put_together(scorer, clips, tmp_path, monkeypatch, capsys):
    """The first process is done while the second has not yet scored again what has changed among its clips."""
    output, write = tmp_path / "x.csv", predicting.write_output

    def dies(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(predicting, "write_output", dies)
    with pytest.raises(KeyboardInterrupt):
        work(scorer, find_shards([str(clips)]), output)
    monkeypatch.setattr(predicting, "write_output", write)
    (clips / "3.wav").write_bytes(sound(3))
    assert work(scorer, find_shards([str(clips)]), output, ProcessShard(0, 2)) is None
    assert "1 of 3 parts are missing, which other processes score; " in capsys.readouterr().err
    assert not output.exists()
    assert work(scorer, find_shards([str(clips)]), output, ProcessShard(1, 2)) == PredictResult(6, 0)
    assert len(rows(output)) == 6
    assert work(scorer, find_shards([str(clips)]), output, ProcessShard(1, 2)) is None, (
        "the other process has joined the scores"
    )


def test_a_second_process_without_a_launcher_is_told_of_the_first(scorer, clips, tmp_path, monkeypatch):
    output, count = tmp_path / "x.csv", predicting.score_clips
    monkeypatch.setattr(parts, "CLAIM_SECONDS", 0.1)

    def meanwhile(*arguments):
        monkeypatch.setattr(predicting, "score_clips", count)
        with pytest.raises(ValueError, match=r"^expected no other process at work on .*x\.csv, found one; wait"):
            work(scorer, find_shards([str(clips)]), output)
        return count(*arguments)

    monkeypatch.setattr(predicting, "score_clips", meanwhile)
    assert work(scorer, find_shards([str(clips)]), output) == PredictResult(5, 1)
    assert len(rows(output)) == 5


def test_a_process_that_is_still_at_work_puts_the_parts_together(scorer, clips, tmp_path, monkeypatch):
    """Of two processes, the first is done while the second tries clips again that could not be read."""
    output, load, count = tmp_path / "x.csv", audio.load, predicting.score_clips

    def no_connection(source, rate, name, max_seconds):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(audio, "load", no_connection)
    shards = list(find_shards([str(clips)]))
    with monkeypatch.context() as patch:
        patch.setattr(predicting, "write_output", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            work(scorer, shards, output)
    monkeypatch.setattr(audio, "load", load)

    def meanwhile(*arguments):
        monkeypatch.setattr(predicting, "score_clips", count)
        assert work(scorer, shards, output, ProcessShard(0, 2)) is None
        return count(*arguments)

    monkeypatch.setattr(predicting, "score_clips", meanwhile)
    assert work(scorer, shards, output, ProcessShard(1, 2)) == PredictResult(5, 1)


@pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json", "model.safetensors"])
def test_a_checkpoint_is_told_by_all_that_its_scores_depend_on(file, checkpoint, tmp_path):
    folder = Path(shutil.copytree(checkpoint, tmp_path / "checkpoint"))
    before = checkpoint_digest(folder)
    (folder / "run.json").write_text("{}")
    assert checkpoint_digest(folder) == before == checkpoint_digest(checkpoint)
    with open(folder / file, "ab") as stream:
        stream.write(b" ")
    assert checkpoint_digest(folder) != before


def test_an_adapter_is_told_by_its_own_files(checkpoint, tmp_path):
    folder = Path(shutil.copytree(checkpoint, tmp_path / "checkpoint"))
    digests = {checkpoint_digest(folder)}
    (folder / "adapter").mkdir()
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        (folder / "adapter" / name).write_text("{}")
        digests.add(checkpoint_digest(folder))
    assert len(digests) == 3


def test_scores_of_another_temperature_are_not_mixed(checkpoint, clips, tmp_path):
    folder, output = Path(shutil.copytree(checkpoint, tmp_path / "checkpoint")), tmp_path / "out"
    arguments = {"output": output, "device": "cpu", "workers": 1}
    assert run_predict(str(folder), [str(clips)], **arguments) == 3
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"calibration_temperature": 2.5}))
    with pytest.raises(ValueError, match=r"expected scores with checkpoint '.*' in .*out, found some with"):
        run_predict(str(folder), [str(clips)], **arguments)


@pytest.mark.parametrize("name", ["/proc/x.csv", "/proc/x", "FILE/x.csv", "FILE/x"])
def test_a_place_that_cannot_be_written_to_is_refused_at_once(name, scorer, clips, tmp_path):
    output = Path(name.replace("FILE", str(clips / "0.wav")))
    with pytest.raises(
        ValueError, match=rf"^expected a folder to write to, found {output.parent} \(.*\); give another"
    ):
        work(scorer, find_shards([str(clips)]), output)


def test_a_disk_without_room_for_a_first_file_is_said_to_be_full(scorer, clips, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "touch", full)
    with pytest.raises(
        DiskError, match=r"^expected a folder to write to, found .* \(No space left on device\); free some"
    ):
        work(scorer, find_shards([str(clips)]), tmp_path / "x.csv")


def test_an_output_may_be_the_folder_that_the_command_is_in_and_no_root(scorer, clips, tmp_path, monkeypatch):
    for name in (".", "../here"):
        folder = tmp_path / "here"
        folder.mkdir(exist_ok=True)
        monkeypatch.chdir(folder)
        assert work(scorer, find_shards([str(clips)]), Path(name)) == PredictResult(5, 1)
        assert pq.read_table(folder).num_rows == 6
    with pytest.raises(ValueError, match="expected an empty or new folder, found other files in"):
        work(scorer, find_shards([str(clips)]), Path(".."))
    with pytest.raises(ValueError, match=r"^expected --output as a file or a new folder, found /; give another place"):
        work(scorer, find_shards([str(clips)]), Path("/"))


def test_a_folder_does_not_take_the_place_of_a_file(scorer, clips, tmp_path):
    (tmp_path / "thesis").write_text("precious")
    with pytest.raises(ValueError, match=r"expected a new folder as --output, found the file .*thesis"):
        work(scorer, find_shards([str(clips)]), tmp_path / "thesis")


def test_numbers_that_no_launcher_sets_are_refused(monkeypatch):
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"expected RANK below WORLD_SIZE, .* found '2' and '2'"):
        ProcessShard.of_this_process()
