"""The corpus pushed as a dataset to a Hub on loopback, and loaded from there."""

import json
from hashlib import sha256
from pathlib import Path

import pytest
from forks import run_forked
from loopback_hub.server import WRITE_TOKEN
from runner import push

from hf_vivae.corpus import read_vivae
from hf_vivae.splits import make_folds

pytestmark = pytest.mark.hub
# all rows, at once and streamed, without decoding, which would need FFmpeg; and the card's blocks
LOAD = """
import hashlib, json, re, sys
from datasets import Audio, load_dataset
from huggingface_hub import DatasetCard

def summary(row):
    digest = hashlib.sha256(row["audio"]["bytes"]).hexdigest()
    return [row["file"], row["speaker"], row["emotion"], row["fold"], digest]

loaded, streamed = load_dataset("tester/clips"), load_dataset("tester/clips", streaming=True)
files = {name: split.cast_column("audio", Audio(decode=False)) for name, split in loaded.items()}
whole = {name: [summary(row) for row in split] for name, split in files.items()}
again = {name: [summary(row) for row in split.decode(False)] for name, split in streamed.items()}
assert again == whole
names = loaded["train"].features["emotion"].names
for block in re.findall(r"```python\\n(.*?)```", DatasetCard.load("tester/clips").text, re.DOTALL):
    exec(block, {})
print(json.dumps([whole, names, loaded["train"].features["audio"].sampling_rate]))
"""


def test_the_corpus_is_pushed_and_loaded_whole(hub, tiny_vivae, tmp_path):
    argv = ["--dataset", "--data", "vivae", "--data_dir", str(tiny_vivae), "--allow_partial", "true"]
    argv += ["--protocol", "leave-one-speaker-out", "--repo", "tester/clips", "--yes"]
    confirmed = [*argv, "--license", "cc-by-nc-4.0"]
    refused, done, again = push(hub, [argv, confirmed, [*argv, "--license", "CC-BY-NC-4.0"]])
    assert refused.startswith("error: expected ")
    assert "--license cc-by-nc-4.0" in refused
    assert f"pushed      {hub.url}/datasets/tester/clips/commit/" in done
    assert again == done, "the same bytes make no commit"
    assert hub.store.repos["dataset", "tester/clips"].private
    assert len(hub.store.repos["dataset", "tester/clips"].commits) == 2, "that of its making, and one push"
    loading = run_forked([], code=LOAD, cwd=tmp_path, env=hub.environment(hub.home, WRITE_TOKEN))
    assert loading.returncode == 0, loading.stderr
    rows, emotions, rate = json.loads(loading.stdout.splitlines()[-1])
    dataset = read_vivae(tiny_vivae, allow_partial=True).dataset
    assert emotions == dataset.features["emotion"].names
    assert rate == 44100
    folds = make_folds(dataset, "leave-one-speaker-out", dataset["emotion"][:], 42)
    tested = {dataset["file"][row]: fold.name for fold in folds for row in fold.test}
    for part in ("train", "validation", "test"):
        chosen = dataset.select(getattr(folds[0], part))
        expected = [[row["file"], row["speaker"], row["emotion"], tested[row["file"]]] for row in chosen]
        assert [row[:4] for row in rows[part]] == expected
        digests = [sha256_of(tiny_vivae / "full_set" / row["file"]) for row in chosen]
        assert [row[4] for row in rows[part]] == digests


def sha256_of(file: Path) -> str:
    return sha256(file.read_bytes()).hexdigest()


def test_a_dataset_is_shown_without_being_sent(hub, tiny_vivae, tmp_path):
    before = len(hub.log)
    argv = ["--dataset", "--data", "vivae", "--data_dir", str(tiny_vivae), "--allow_partial", "--repo", "tester/shown"]
    (shown,) = push(hub, [argv], token=None)
    assert hub.log[before:] == []
    assert shown.startswith("tester/shown (dataset, private)\n")
    assert "data/train-00000-of-00001.parquet\n" in shown
    assert shown.rstrip().endswith("Nothing was sent; add --yes to push.")
