"""Corpora read from a Hub on loopback: a pushed dataset, files of audio, and ids that cannot be read."""

import json
from typing import Any

import pytest
from forks import run_forked
from loopback_hub.server import READ_TOKEN, WRITE_TOKEN, Fault, HubServer
from runner import push
from vivae_copies import CLIP

from hf_vivae.corpus import read_vivae
from hf_vivae.corpus.schema import corpus_digest

pytestmark = pytest.mark.hub
# reads a list of arguments of `read_hub_dataset`: facts of each corpus, or the error; after "offline", without the Hub
READ = """
import json, sys
import datasets
from huggingface_hub import constants
from hf_vivae.corpus import read_hub_dataset
from hf_vivae.corpus.schema import corpus_digest

answers = []
for arguments in json.load(sys.stdin):
    if arguments == "offline":
        datasets.config.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE = True
        continue
    try:
        corpus = read_hub_dataset(**arguments)
        dataset = corpus.dataset
        digest = corpus_digest(corpus, dataset["emotion"][:])
        answers.append([corpus.name, corpus.license, digest, sorted(set(dataset["split"])), dataset["file"][:2]])
    except ValueError as error:
        answers.append("error: " + str(error))
print(json.dumps(answers))
"""


def read(hub: HubServer, arguments: list[Any], token: str | None = WRITE_TOKEN) -> list[Any]:
    """Return the answers of `READ` in a new process."""
    done = run_forked([], code=READ, input=json.dumps(arguments), env=hub.environment(hub.home, token))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def add(hub: HubServer, name: str, files: dict[str, bytes], **options: bool) -> None:
    """Add a dataset with these files to the Hub."""
    repo = hub.store.create("dataset", name, options.pop("private", False))
    repo.gated = options.pop("gated", False)
    repo.commit("main", "files", {path: hub.store.keep(content) for path, content in files.items()})


def test_a_pushed_corpus_comes_back_from_the_hub_and_from_the_cache(hub, tiny_vivae):
    argv = ["--dataset", "--data", "vivae", "--data_dir", str(tiny_vivae), "--allow_partial", "true", "--yes"]
    push(hub, [[*argv, "--repo", "tester/round", "--license", "cc-by-nc-4.0"]])
    corpus = read_vivae(tiny_vivae, allow_partial=True)
    digest = corpus_digest(corpus, corpus.dataset["emotion"][:])
    splits = ["test", "train", "validation"]
    expected = ["tester/round", "cc-by-nc-4.0", digest, splits, corpus.dataset["file"][:2]]
    revision = hub.store.repos["dataset", "tester/round"].branches["main"]
    plain = {"name": "tester/round"}
    assert read(hub, [plain, plain | {"revision": revision}, "offline", plain]) == [expected] * 3


def test_files_of_audio_in_folders_are_read_without_ffmpeg(hub):
    files = {f"{split}/{label}/{split}{row}.wav": CLIP + bytes(row) for split in ("train", "test") for row, label in
             enumerate(("joy", "fear"))}  # fmt: skip
    add(hub, "tester/files", {"README.md": b"---\nlicense: other\n---\n", **files})
    ((name, license, _, splits, names),) = read(hub, [{"name": "tester/files"}])
    assert (name, license, splits, names) == ("tester/files", "other", ["test", "train"], ["test0.wav", "test1.wav"])


def test_ids_that_cannot_be_read_are_sentences(hub):
    table = {"clips.csv": b"a,label\n1,2\n"}
    add(hub, "tester/secret", table, private=True)
    add(hub, "tester/gated", table, gated=True)
    add(hub, "tester/table", table)
    add(hub, "tester/script", {"script.py": b"print()"})
    add(hub, "tester/empty", {"notes.rst": b"none"})
    asked = [
        (
            {"name": "tester/absent"},
            "expected a dataset of the Hub that can be downloaded, found none called",
        ),
        (
            {"name": "tester/gated"},
            "expected a dataset that your account may download, found that tester/gated is g",
        ),
        (
            {"name": "tester/table"},
            "expected a column of audio in tester/table, found none that looks like one;",
        ),
        (
            {"name": "tester/table", "revision": "v9"},
            "expected a branch, tag or commit of tester/table as --dataset_revision, found none called 'v9'; ",
        ),
        (
            {"name": "tester/table", "config": "en"},
            "expected a configuration of tester/table as --dataset_config (default), found 'en'; give one of them.",
        ),
        (
            {"name": "tester/script"},
            "expected data files in tester/script, found a Python script, which `datasets`",
        ),
        ({"name": "tester/empty"}, "expected files of a dataset in tester/empty, found none that `datasets` loads;"),
    ]
    for (arguments, sentence), answer in zip(asked, read(hub, [each for each, _ in asked], READ_TOKEN), strict=True):
        assert answer.startswith(f"error: {sentence}"), (arguments, answer)
    (answer,) = read(hub, [{"name": "tester/secret"}], None)
    assert answer == (
        "error: expected a dataset of the Hub that can be downloaded, found none called 'tester/secret'; check the "
        "name, or log in with `hf auth login` if it is private."
    )


def test_a_cut_download_is_a_sentence(hub):
    add(hub, "tester/cut", {"train/joy/1.wav": CLIP, "train/fear/2.wav": CLIP})
    hub.faults.append(Fault("GET", r"tester/cut/resolve/.*\.wav", 404, times=99))
    try:
        (answer,) = read(hub, [{"name": "tester/cut"}])
    finally:
        hub.faults.clear()
    assert answer.startswith("error: expected a whole download"), answer
