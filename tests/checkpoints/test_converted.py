"""Checkpoints with a pickle on the main branch: the safetensors of the Hub's converter are taken, and no others."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest
from huggingface_hub import Discussion, HfApi, ModelInfo, constants
from loopback_hub.server import Fault
from loopback_hub.store import PullRequest
from resolving import Client

from hf_vivae.checkpoints.resolve import CONVERTER, TITLE, find_checkpoint, find_conversion, resolve_checkpoint

MAIN = {"config.json": "{}", "pytorch_model.bin": "pickle", "README.md": "A card"}
CONVERTED = {**MAIN, "model.safetensors": "converted", ".gitattributes": "one more line"}
NONE = (
    "expected weights of {} as safetensors, found pytorch_model.bin (pickles are not read) and no open pull request "
    "of SFconvertbot that converts them; open one at https://huggingface.co/spaces/safetensors/convert, or give the "
    "folder of a converted copy."
)


@pytest.fixture
def no_network(client, monkeypatch):
    """Use the cache of the client in this process, which is offline."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(client.home / "hub"))


def push(client: Client, name: str, files: Mapping[str, str] = MAIN) -> str:
    return client.repo(name).commit("main", "push", client.keep(files)).oid


def propose(
    client: Client,
    name: str,
    files: Mapping[str, str] = CONVERTED,
    author: str = CONVERTER,
    title: str = TITLE,
    status: str = "open",
) -> PullRequest:
    pull = client.repo(name).propose(title, author, client.keep(files))
    pull.status = status
    return pull


def sentence(name: str, pull: PullRequest) -> str:
    return f"{name} has its weights as a pickle; those that SFconvertbot converted are taken (commit {pull.head[:7]})."


def content(found: dict) -> dict[str, str]:
    return {path.name: path.read_text() for path in Path(found["folder"]).iterdir()}


@pytest.mark.hub
def test_what_the_converter_made_is_taken_until_main_has_its_own(client):
    push(client, "tester/pickled")
    propose(client, "tester/pickled", {**CONVERTED, "model.safetensors": "an earlier try"})
    pull = propose(client, "tester/pickled")
    found = client("tester/pickled")
    assert content(found) == {"config.json": "{}", "model.safetensors": "converted"}
    assert found["warnings"] == [sentence("tester/pickled", pull)]
    client.requests()
    assert client("tester/pickled") == found
    assert not [path for _, path, _ in client.requests() if "/resolve/" in path], "nothing is fetched twice"
    push(client, "tester/pickled", {**MAIN, "model.safetensors": "merged"})
    found = client("tester/pickled")
    assert (content(found)["model.safetensors"], found["warnings"]) == ("merged", [])


@pytest.mark.hub
def test_weights_in_several_files_are_taken(client):
    push(client, "tester/sharded", {**MAIN, "pytorch_model.bin.index.json": "{}"})
    added = {"model-00001-of-00001.safetensors": "converted", "model.safetensors.index.json": "{}"}
    propose(client, "tester/sharded", {**MAIN, "pytorch_model.bin.index.json": "{}", **added})
    assert content(client("tester/sharded")).keys() >= added.keys()


@pytest.mark.hub
def test_a_card_that_was_written_since_changes_nothing(client):
    push(client, "tester/described")
    pull = propose(client, "tester/described")
    push(client, "tester/described", {**MAIN, "README.md": "A longer card", "LICENSE": "Apache"})
    assert client("tester/described")["warnings"] == [sentence("tester/described", pull)]


@pytest.mark.hub
@pytest.mark.parametrize(
    ("reason", "changed"),
    [
        ("of a stranger", {"author": "stranger"}),
        ("of a name that looks alike", {"author": "SFConvertBot"}),
        ("that its owner has closed", {"status": "closed"}),
        ("about something else", {"title": "Adding a file"}),
        ("without safetensors", {"files": MAIN}),
        ("with safetensors in a folder", {"files": {**MAIN, "onnx/model.safetensors": "x"}}),
        ("of another pickle", {"files": {**CONVERTED, "pytorch_model.bin": "an earlier pickle"}}),
        ("that changes the configuration", {"files": {**CONVERTED, "config.json": '{"auto_map": {}}'}}),
        ("that adds code", {"files": {**CONVERTED, "model.py": "import os"}}),
    ],
)
def test_no_other_pull_request_is_taken(reason, changed, client, no_network):
    name = f"tester/pull-{reason.replace(' ', '-')}"
    push(client, name)
    propose(client, name, **changed)
    client.requests()
    assert client(name) == {"error": NONE.format(name), "warnings": []}
    assert not [path for _, path, _ in client.requests() if "/resolve/" in path], "nothing of it is fetched"
    with pytest.raises(ValueError, match=f"^'{name}' is neither a folder nor in the cache, and HF_HUB_OFFLINE"):
        resolve_checkpoint(name)


def listed(monkeypatch, author: str, status: str) -> None:
    """Imitate a mirror of the Hub that lists one pull request for every request."""
    ids = {"num": 1, "repo_id": "a/b", "repo_type": "model", "is_pull_request": True, "endpoint": "http://mirror"}
    pull = Discussion(TITLE, status, author=author, created_at=datetime.now(UTC), **ids)
    monkeypatch.setattr(HfApi, "get_repo_discussions", lambda *_, **filters: iter([pull]))


@pytest.mark.parametrize(("author", "status"), [("stranger", "open"), (CONVERTER, "closed"), ("deleted", "open")])
def test_a_mirror_that_filters_nothing_is_not_trusted(author, status, monkeypatch):
    listed(monkeypatch, author, status)
    monkeypatch.setattr(HfApi, "model_info", lambda *_, **named: pytest.fail("it is asked for"))
    assert find_conversion(ModelInfo(id="a/b", siblings=[{"rfilename": "pytorch_model.bin"}])) is None


@pytest.mark.parametrize(("contents", "taken"), [({"blobId": "1"}, "c0ffee"), ({}, None)])
def test_a_mirror_without_the_metadata_of_files_is_not_trusted(contents, taken, monkeypatch):
    listed(monkeypatch, CONVERTER, "open")
    pickle, converted = {"rfilename": "pytorch_model.bin", **contents}, {"rfilename": "model.safetensors"}
    commit = ModelInfo(id="a/b", sha="c0ffee", siblings=[pickle, converted])
    monkeypatch.setattr(HfApi, "model_info", lambda *_, **named: commit)
    assert find_conversion(ModelInfo(id="a/b", siblings=[pickle])) == taken


@pytest.mark.hub
def test_later_without_the_hub_the_cache_has_it(client, no_network, caplog):
    push(client, "tester/later")
    pull = propose(client, "tester/later")
    folder = client("tester/later")["folder"]
    assert resolve_checkpoint("tester/later") == find_checkpoint("encoder:tester/later") == Path(folder)
    assert caplog.messages == []
    with pytest.raises(ValueError, match=r"^'tester/later' is neither a folder nor in the cache"):
        resolve_checkpoint("tester/later", revision="main")
    for path in ("^/api/models/tester/later$", "^/api/models/tester/later/discussions$"):
        client.hub.faults.append(Fault("GET", path, 503))
        reason = "the Hub answers HTTP 503"
        words = f"tester/later is taken from the cache (commit {pull.head[:7]}), for {reason}."
        assert client("tester/later") == {"folder": folder, "warnings": [words]}


@pytest.mark.hub
def test_a_repository_without_pull_requests_is_the_same_sentence(client):
    push(client, "tester/switched-off")
    client.hub.faults.append(Fault("GET", "switched-off/discussions", 403))
    assert client("tester/switched-off")["error"] == NONE.format("tester/switched-off")


@pytest.mark.hub
def test_a_revision_is_taken_as_it_is(client):
    push(client, "tester/asked")
    pull = propose(client, "tester/asked", author="stranger")
    client.requests()
    assert content(client("tester/asked", revision="main")) == {"config.json": "{}"}
    asked = client("tester/asked", revision=pull.reference)
    assert (content(asked)["model.safetensors"], asked["warnings"]) == ("converted", [])
    assert not [path for _, path, _ in client.requests() if "/discussions" in path]
    assert client("tester/asked")["error"] == NONE.format("tester/asked"), "who asked once is not given it unasked"


@pytest.mark.hub
def test_an_untrained_model_needs_no_weights(client, no_network):
    push(client, "tester/untrained")
    client.push("tester/large", "first")
    for name in ("tester/untrained", "tester/large"):
        found = client(name, weights=False)
        assert (content(found), found["warnings"]) == ({"config.json": "{}"}, [])
        assert find_checkpoint(f"encoder:{name}", from_scratch=True) == Path(found["folder"])
    with pytest.raises(ValueError, match=r"^'tester/large' is neither a folder nor in the cache"):
        resolve_checkpoint("tester/large")
