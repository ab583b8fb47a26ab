"""Clips of tables and datasets: the scores of their files, whatever holds them, and no file that lies elsewhere."""

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
from forks import run_forked
from loopback_hub.server import WRITE_TOKEN
from predicting import rows, sound, work

from hf_vivae.inference import streamed_dataset as streams
from hf_vivae.inference.predict import PredictResult
from hf_vivae.inference.scorer import Scorer
from hf_vivae.inference.sources import find_shards, read_reference, row_clip
from hf_vivae.inference.streamed_dataset import StreamedDataset

# pushes a folder and reads it as a dataset, twice with another clip: names, bytes and what tells the shards
HUB = """
import json, sys
from pathlib import Path
from huggingface_hub import HfApi
from hf_vivae.inference.streamed_dataset import StreamedDataset

def names_and_scores(file):
    HfApi().upload_folder(repo_id="tester/loose", repo_type="dataset", folder_path=sys.argv[1])
    for _ in range(2):
        (shard,) = StreamedDataset("tester/loose", "train").shards()
        yield {
            "clips": [[clip.file, clip.sound()["bytes"].hex()] for clip in shard.read()],
            "key": shard.key,
            "version": shard.version,
        }

HfApi().create_repo("tester/loose", repo_type="dataset")
first = Path(sys.argv[1], "a", "0.wav")
answers = [*names_and_scores(first)]
first.write_bytes(b"other")
print(json.dumps([*answers, *names_and_scores(first)]))
"""


@pytest.fixture(scope="module")
def scorer(tmp_path_factory) -> Scorer:
    return Scorer(str(write_checkpoint(tmp_path_factory.mktemp("checkpoint"))), batch_size=3, workers=2)


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """Three clips of two labels each."""
    folder = tmp_path_factory.mktemp("clips")
    for number in range(6):
        file = folder / "ab"[number % 2] / f"{number}.wav"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(sound(number))
    return folder


@pytest.fixture(scope="module")
def expected(scorer, clips) -> dict[str, float]:
    """Return what the clips' files give, by their names below the folder."""
    files = sorted(clips.rglob("*.wav"))
    place = scorer.labels.index("anger")
    scores = scorer.score(list(map(str, files)))
    return {str(file.relative_to(clips)): row[place] for file, row in zip(files, scores, strict=True)}


def found(file: Path) -> dict[str, float]:
    return {row["file"]: row["p_anger"] for row in rows(file)}


def test_tables_and_datasets_give_what_their_files_give(scorer, clips, expected, tmp_path):
    data = {"audio": [{"bytes": (clips / name).read_bytes(), "path": None} for name in expected], "file": [*expected]}
    dataset = Dataset.from_dict(data).cast_column("audio", Audio(decode=False))
    (tmp_path / "set").mkdir()
    dataset.to_parquet(tmp_path / "set" / "train.parquet", batch_size=2)
    dataset.cast_column("audio", Audio(decode=False)).save_to_disk(tmp_path / "disk")
    arrow = next((tmp_path / "disk").glob("*.arrow"))
    several = list(find_shards([str(tmp_path / "set" / "train.parquet")]))
    assert [shard.clips for shard in several] == [2, 2, 2]
    for name, shards in {
        "parquet": several,
        "arrow": list(find_shards([str(arrow)])),
        "dataset": list(StreamedDataset(str(tmp_path / "set"), "train").shards()),
    }.items():
        work(scorer, shards, tmp_path / f"{name}.parquet")
        assert found(tmp_path / f"{name}.parquet") == pytest.approx(expected, abs=1e-6), name


def with_metadata(folder: Path) -> None:
    lines = [json.dumps({"file_name": str(file.relative_to(folder)), "n": 1}) for file in folder.rglob("*.wav")]
    (folder / "metadata.jsonl").write_text("\n".join(sorted(lines)))


def as_archive(folder: Path) -> None:
    with zipfile.ZipFile(folder / "clips.zip", "w") as archive:
        for file in sorted(folder.rglob("*.wav")):
            archive.write(file, file.relative_to(folder))
    for label in "ab":
        shutil.rmtree(folder / label)


@pytest.mark.parametrize("change", [None, with_metadata, as_archive])
def test_datasets_of_loose_files_are_streamed_without_torchcodec(
    change, scorer, clips, expected, tmp_path, monkeypatch
):
    folder = Path(shutil.copytree(clips, tmp_path / "set"))
    if change:
        change(folder)
    monkeypatch.setattr(streams, "ROWS_PER_SHARD", 4)
    monkeypatch.chdir(tmp_path)
    shards = list(StreamedDataset("set", "train").shards())
    assert [shard.clips for shard in shards] == [4, 2]
    assert work(scorer, shards, tmp_path / "x.parquet") == PredictResult(6, 0)
    below = "clips.zip/" if change is as_archive else ""
    scores = {f"{below}{name}": score for name, score in expected.items()}
    assert found(tmp_path / "x.parquet") == pytest.approx(scores, abs=1e-6)
    changed = next(folder.rglob("*.zip"), folder / "b" / "5.wav")
    os.utime(changed, (0, 0))
    again = list(StreamedDataset("set", "train").shards())
    assert [shard.key for shard in again] == [shard.key for shard in shards]
    differ = [one.version != other.version for one, other in zip(shards, again, strict=True)]
    assert differ == [change is as_archive, True], "an archive's clips change together"


@pytest.mark.hub
def test_loose_files_of_the_hub_are_told_by_their_commit(hub, clips, tmp_path):
    folder = Path(shutil.copytree(clips, tmp_path / "set"))
    before = {str(file.relative_to(folder)): file.read_bytes().hex() for file in folder.rglob("*.wav")}
    done = run_forked([folder], code=HUB, env=hub.environment(tmp_path / "home", WRITE_TOKEN))
    assert done.returncode == 0, done.stderr
    one, same, other, last = json.loads(done.stdout.splitlines()[-1])
    assert dict(one["clips"]) == before
    assert one == same
    assert other == last
    assert dict(other["clips"]) == before | {"a/0.wav": b"other".hex()}
    assert other["key"] == one["key"]
    assert other["version"] != one["version"]


@pytest.fixture
def stranger(tmp_path) -> tuple[Path, dict[str, str]]:
    """A table whose rows name files, and of each row what is amiss."""
    folder, secret = tmp_path / "theirs", tmp_path / "mine.wav"
    folder.mkdir()
    secret.write_bytes(sound(0))
    (folder / "good.wav").write_bytes(sound(1, seconds=0.5))
    (folder / "link.wav").symlink_to(secret)
    refused = "expected a file below"
    wrong = {
        "good.wav": "",
        str(folder / "good.wav"): "",
        str(secret): refused,
        "../mine.wav": refused,
        "link.wav": refused,
        "good.wav#t=0.1,0.4": "",
        "link.wav#t=0.1,0.4": refused,
        f"file://{secret}": "no file at",
        f"file://{secret}::good.wav": refused,
        f"zip://x.wav::{secret}": refused,
    }
    sounds = pa.array([{"bytes": None, "path": path} for path in wrong], Audio().pa_type)
    table = pa.table({"audio": sounds})
    dataset = Dataset(table).cast_column("audio", Audio(decode=False))
    pq.write_table(dataset.data.table, folder / "train.parquet")
    with pa.ipc.new_stream(folder / "train.arrow", table.schema) as stream:
        stream.write_table(table)
    return folder, wrong


@pytest.mark.parametrize("kind", ["parquet", "arrow", "dataset"])
def test_rows_name_files_below_their_table_alone(kind, scorer, stranger, tmp_path):
    folder, wrong = stranger
    file = folder / f"train.{kind}"
    if kind == "dataset":
        (folder / "train.arrow").unlink()
    shards = StreamedDataset(str(folder), "train").shards() if kind == "dataset" else find_shards([str(file)])
    assert work(scorer, shards, tmp_path / "x.jsonl") == PredictResult(3, 7)
    assert [row["file"] for row in rows(tmp_path / "x.jsonl")] == [name for name, text in wrong.items() if not text]
    for row in rows(tmp_path / "x.jsonl.errors.csv"):
        assert wrong[row["file"]] in row["error"]


def test_a_row_that_names_a_part_depends_on_the_whole_file(tmp_path):
    row = {"audio": {"bytes": None, "path": "a.wav#t=0,1"}}
    clip = row_clip(row, "audio", None, "0", str(tmp_path))
    assert (clip.file, clip.named) == ("a.wav#t=0,1", str(tmp_path / "a.wav"))


@pytest.mark.parametrize(
    "path",
    [
        "/etc/hostname",
        "clip.wav",
        "hf://datasets/someone/else@main/clip.wav",
        "hf://datasets/someone/clips@abc/../../else/clip.wav",
        "hf://datasets/someone/clips@abcd/clip.wav",
        "file:///etc/hostname::hf://datasets/someone/clips@abc/clip.wav",
        "zip://x::file:///etc/hostname::hf://datasets/someone/clips@abc/clip.zip",
        "http://127.0.0.1/clip.wav",
    ],
)
def test_rows_of_the_hub_name_files_of_their_dataset_alone(path):
    with pytest.raises(ValueError, match="expected a file below hf://datasets/someone/clips@abc, found "):
        read_reference(path, "hf://datasets/someone/clips@abc")


def test_tables_have_names_of_any_bytes(scorer, tmp_path):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    dataset = Dataset.from_dict({"audio": [{"bytes": sound(0), "path": None}]}).cast_column(
        "audio", Audio(decode=False)
    )
    dataset.to_parquet(tmp_path / "x.parquet")
    dataset.cast_column("audio", Audio(decode=False)).save_to_disk(tmp_path / "disk")
    folder.mkdir()
    shutil.move(tmp_path / "x.parquet", folder)
    shutil.copy(next((tmp_path / "disk").glob("*.arrow")), folder / "x.arrow")
    names = [str(folder / "x.parquet"), str(folder / "x.arrow")]
    assert work(scorer, find_shards(names), tmp_path / "x.jsonl") == PredictResult(2, 0)
    with pytest.raises(ValueError, match=r"^expected --output with a name in UTF-8, found .*caf\\xe9; give another"):
        work(scorer, find_shards(names), folder)


@pytest.mark.parametrize(
    ("name", "split", "sentence"),
    [
        (
            "CLIPS",
            "test",
            r"^expected a dataset with the split test at .*, found none that loads \(.*'train'.*\); correct",
        ),
        ("EMPTY", "train", r"^expected a dataset with the split train at .*empty, found none that loads \("),
        ("someone/nothing", "train", r"^expected a dataset with the split train at someone/nothing, found none"),
    ],
)
def test_a_dataset_that_is_not_there_is_one_sentence(name, split, sentence, clips, tmp_path):
    (tmp_path / "empty").mkdir()
    name = name.replace("CLIPS", str(clips)).replace("EMPTY", str(tmp_path / "empty"))
    with pytest.raises(ValueError, match=sentence) as caught:
        StreamedDataset(name, split)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("set.py", b"", "RuntimeError: Dataset scripts are no longer supported"),
        ("x.zip", b"PK\3\4junk", "BadZipFile: File is not a zip file"),
        ("x.tar", b"junk" * 999, "ReadError: "),
        ("README.md", b"---\na: [\n---\n", "ParserError: "),
    ],
)
def test_whatever_a_library_raises_on_a_dataset_is_one_sentence(file, content, reason, tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / file).write_bytes(content)
    if file != "x.tar":
        (folder / "a.wav").write_bytes(sound(0))
    with pytest.raises(ValueError, match=rf"at .*/set, found none that loads \({reason}.*\); correct") as caught:
        StreamedDataset(str(folder), "train")
    assert "\n" not in str(caught.value)


def test_rows_that_cannot_be_read_are_one_sentence(tmp_path):
    sounds = [{"bytes": sound(seed, seconds=0.5), "path": None} for seed in range(4)]
    dataset = Dataset.from_dict({"audio": sounds}).cast_column("audio", Audio(decode=False))
    file = tmp_path / "set" / "x.parquet"
    file.parent.mkdir()
    dataset.to_parquet(file)
    data = bytearray(file.read_bytes())
    data[4:20000] = bytes(19996)
    file.write_bytes(data)
    (shard,) = StreamedDataset(str(file.parent), "train").shards()
    sentence = r"^expected rows of the dataset .*/set, split train, found one that cannot be read \(\w+: .*\); replace"
    with pytest.raises(ValueError, match=sentence) as caught:
        list(shard.read())
    assert "\n" not in str(caught.value)


def test_files_that_are_links_are_those_of_their_dataset(scorer, clips, expected, tmp_path):
    """As in a snapshot of the Hub's cache, of git-annex and of DVC."""
    blobs, snapshot = tmp_path / "repository" / "blobs", tmp_path / "repository" / "snapshots" / "abc"
    blobs.mkdir(parents=True)
    for number, name in enumerate(expected):
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(clips / name, blobs / str(number))
        (snapshot / name).symlink_to(f"../../../blobs/{number}")
    annex = Path(shutil.copytree(snapshot, tmp_path / "annex" / "a" / "b", symlinks=True))
    for name in expected:
        (annex / name).unlink()
        (annex / name).symlink_to(clips / name)
    sounds = pa.array([{"bytes": None, "path": name} for name in expected], Audio().pa_type)
    for name, shards in {
        "annex": StreamedDataset(str(annex), "train").shards(),
        "snapshot": StreamedDataset(str(snapshot), "train").shards(),
    }.items():
        assert work(scorer, list(shards), tmp_path / f"{name}.parquet") == PredictResult(6, 0), name
        assert found(tmp_path / f"{name}.parquet") == pytest.approx(expected, abs=1e-6)
    pq.write_table(pa.table({"audio": sounds}), snapshot / "x.parquet")
    assert work(scorer, find_shards([str(snapshot / "x.parquet")]), tmp_path / "table.parquet") == PredictResult(6, 0)
