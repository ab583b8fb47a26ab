"""An encoder that trains from the shards of a dataset of the Hub, on loopback, without a local copy of them."""

import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Audio, Features, Value
from encoders import write_encoder
from forks import run_forked
from loopback_hub.server import WRITE_TOKEN, Fault
from predicting import sound
from runner import ROOT

pytestmark = pytest.mark.hub
TYPES = Features({"audio": Audio(), "emotion": Value("string"), "speaker": Value("string")})
# runs each command line of a list: the clips of the corpus, or the error
TRAIN = """
import json, sys
from pathlib import Path
from hf_vivae.files import read_json
from hf_vivae.training.recipes import parse_run
from hf_vivae.training.run import train

recipes, argvs = json.load(sys.stdin)
answers = []
for argv in argvs:
    try:
        _, (folder,) = train(*parse_run(argv, Path(recipes)))
        answers.append(read_json(folder / "run.json")["corpus"])
    except ValueError as error:
        answers.append("error: " + str(error))
print(json.dumps(answers))
"""


def shard(split: str, clips: int) -> bytes:
    file = io.BytesIO()
    rows = [
        {"audio": {"bytes": sound(row, seconds=3.0)}, "emotion": "ab"[row % 2], "speaker": f"{split}{row % 2}"}
        for row in range(clips)
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=TYPES.arrow_schema), file, row_group_size=4)
    return file.getvalue()


def test_shards_are_read_by_columns_and_row_groups_and_none_is_kept(hub, tmp_path):
    sizes = {"train-00000-of-00002": 8, "train-00001-of-00002": 4, "validation-00000-of-00001": 4}
    sizes["test-00000-of-00001"] = 4
    files = {f"data/{name}.parquet": shard(name.partition("-")[0], clips) for name, clips in sizes.items()}
    repo = hub.store.create("dataset", "tester/shards", private=False)
    commit = repo.commit("main", "shards", {path: hub.store.keep(content) for path, content in files.items()})
    encoder = write_encoder(tmp_path / "encoder", "group norm")
    argv = [
        "--model", f"encoder:{encoder}", "--data", "hub", "--dataset_name", "tester/shards", "--streaming",
        "--select_on", "validation", "--num_train_epochs", "1", "--disable_tqdm", "true", "--output_dir",
    ]  # fmt: skip
    home, asked = tmp_path / "home", len(hub.log)

    def train(name: str) -> dict | str:
        asks = json.dumps([str(ROOT / "recipes"), [[*argv, str(tmp_path / name)]]])
        done = run_forked([], code=TRAIN, input=asks, env=hub.environment(home, WRITE_TOKEN))
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])[0]

    corpus = train("run")
    assert isinstance(corpus, dict), corpus
    assert (corpus["name"], corpus["clips"]) == ("tester/shards", 20)
    assert [path for path in Path(home).rglob("*") if path.suffix in (".parquet", ".arrow")] == []
    largest = max((path for path in Path(home).rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    assert largest.stat().st_size < 50_000, f"{largest} may have clips"
    resolved = [path for method, path, _ in hub.log[asked:] if "/resolve/" in path and ".parquet" in path]
    assert resolved
    assert all(commit.oid in path for path in resolved), "of one commit"
    hub.faults.append(Fault("GET", r"resolve/.*train-00001", 404, times=99))
    try:
        error = train("cut")
    finally:
        hub.faults.clear()
    assert error.startswith("error: expected the whole shard train-00001-of-00002.parquet of the dataset, found none")
    assert not (tmp_path / "cut").exists()
