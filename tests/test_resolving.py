"""Checkpoints of a Hub: the newest unless another is asked for, what the cache has where the Hub cannot be reached."""

from pathlib import Path

import pytest
from huggingface_hub import constants
from loopback_hub.server import Fault

from hf_vivae.checkpoints.resolve import resolve_checkpoint


def weights(found: dict) -> str:
    assert found["warnings"] == [], found
    return (Path(found["folder"]) / "model.safetensors").read_text()


@pytest.mark.hub
def test_what_was_pushed_again_is_seen(client):
    client.push("tester/newest", "first")
    assert weights(client("tester/newest")) == "first"
    client.requests()
    assert weights(client("tester/newest")) == "first"
    assert not [path for _, path, _ in client.requests() if "/resolve/" in path], "nothing is fetched twice"
    client.push("tester/newest", "second")
    assert weights(client("tester/newest")) == "second"


@pytest.mark.hub
def test_a_branch_a_tag_and_a_commit_are_found(client):
    commit = client.push("tester/revisions", "first")
    client.hub.store.repos["model", "tester/revisions"].tags["v1"] = commit
    client.push("tester/revisions", "second")
    client.push("tester/revisions", "other", branch="trial")
    found = {name: weights(client("tester/revisions", revision=name)) for name in (None, "trial", "v1", commit)}
    assert found == {None: "second", "trial": "other", "v1": "first", commit: "first"}
    client.requests()
    assert weights(client("tester/revisions", revision=commit)) == "first"
    assert client.requests() == [], "a commit cannot change"


@pytest.mark.hub
def test_only_what_a_model_needs_is_fetched(client):
    others = {"checkpoint-3/model.safetensors": "x", "training_args.bin": "x", "pytorch_model.bin": "x", "mlp.py": "x"}
    client.push("tester/files", "first", **others)
    folder = Path(client("tester/files")["folder"])
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    folder = Path(client("tester/files", code=True)["folder"])
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "mlp.py", "model.safetensors"]


@pytest.mark.hub
def test_what_the_hub_refuses_is_said_in_a_sentence(client):
    client.push("tester/private", "first")
    assert weights(client("tester/private")) == "first"
    client.hub.store.repos["model", "tester/private"].private = True
    login = "check the name, or log in with `hf auth login` if it is private or gated."
    expected = "expected a checkpoint folder or a Hub id that can be downloaded, found"
    for repo in ("tester/private", "tester/privat"):
        assert client(repo)["error"] == f"{expected} '{repo}' (HTTP 401); {login}"
    client.push("tester/gated", "first")
    client.hub.faults.append(Fault("HEAD", "gated/resolve/.*/model.safetensors", 403))
    assert client("tester/gated")["error"] == f"{expected} 'tester/gated' (HTTP 403); {login}"
    for revision in ("v9", 40 * "a"):
        sentence = f"expected a branch, tag or commit of tester/gated, found none called '{revision}'; correct it."
        assert client("tester/gated", revision=revision)["error"] == sentence


@pytest.mark.hub
@pytest.mark.parametrize(
    ("kind", "reason"),
    [(503, "the Hub answers HTTP 503"), ("answer", "the Hub gives no answer (RemoteProtocolError)")],
)
def test_a_hub_that_fails_is_warned_of_once_and_the_cache_used(kind, reason, client):
    repo = f"tester/failing-{kind}"
    client.hub.faults.append(Fault("GET", f"^/api/models/{repo}", kind))
    sentence = f"'{repo}' is neither a folder nor in the cache, and {reason}; download it elsewhere and"
    assert client(repo)["error"].startswith(sentence)
    commit = client.push(repo, "first")
    assert weights(client(repo)) == "first"
    client.hub.faults.append(Fault("GET", f"^/api/models/{repo}", kind))
    found = client(repo)
    assert found.pop("warnings") == [f"{repo} is taken from the cache (commit {commit[:7]}), for {reason}."]
    assert weights({**found, "warnings": []}) == "first"


@pytest.mark.hub
def test_a_download_that_fails_is_said_and_can_be_repeated(client):
    client.push("tester/cut", "first")
    client.hub.faults.append(Fault("GET", "cut/resolve/.*/model.safetensors", 503))
    sentence = "expected a whole download of 'tester/cut', found it cut (Server error '503 Service Unavailable' "
    found = client("tester/cut")["error"]
    assert found.startswith(sentence)
    assert found.endswith("; try again, what has arrived is kept.")
    assert weights(client("tester/cut")) == "first"


@pytest.fixture(scope="module")
def cached() -> Path:
    """A snapshot of `tester/cached` as the library keeps it; its name is the commit."""
    repo = Path(constants.HF_HUB_CACHE, "models--tester--cached")
    snapshot = repo / "snapshots" / (20 * "c0")
    for path, content in ((snapshot / "model.safetensors", ""), (repo / "refs" / "main", snapshot.name)):
        path.parent.mkdir(parents=True)
        path.write_text(content)
    return snapshot


def test_offline_the_cache_is_used_without_a_word(cached, caplog):
    assert resolve_checkpoint("tester/cached") == resolve_checkpoint("tester/cached", revision="main") == cached
    assert caplog.records == []
    with pytest.raises(ValueError, match=r"^'tester/cached' is neither a folder nor in the cache, and HF_HUB_OFFLINE"):
        resolve_checkpoint("tester/cached", revision="v1")


def test_without_a_network_the_cache_is_used_with_a_warning(cached, caplog, monkeypatch):
    monkeypatch.setattr(constants, "is_offline_mode", lambda: False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # the discard port refuses at once
    assert resolve_checkpoint("tester/cached", revision=cached.name) == cached
    assert caplog.records == [], "a commit cannot change"
    assert resolve_checkpoint("tester/cached") == cached
    reason = "there is no connection to 127.0.0.1 (Connection refused)"
    assert caplog.messages == [f"tester/cached is taken from the cache (commit c0c0c0c), for {reason}."]
    with pytest.raises(ValueError, match=r"^'tester/cached' is neither a folder nor in the cache, and there is no"):
        resolve_checkpoint("tester/cached", revision="v1")
