"""The loopback Hub, proved with the real client in a process of its own and with raw requests."""

import http.client
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
from loopback_hub.server import READ_TOKEN, WRITE_TOKEN, Fault, HubServer
from packaging.version import Version

pytestmark = pytest.mark.hub
# runs the programs that it reads, one a line; each leaves a `result` that JSON can hold
CLIENT = """
import json, sys
from pathlib import Path
from huggingface_hub import HfApi, ModelCard, hf_hub_download, snapshot_download

api = HfApi()

def refusal(function, *positional, **named):
    try:
        function(*positional, **named)
    except Exception as error:
        return type(error).__name__ + ": " + str(error)

for line in sys.stdin:
    exec(json.loads(line))
    print(json.dumps(result), flush=True)
"""
Client = Callable[..., Any]
CARD = """---
license: other
license_name: vivae
pipeline_tag: audio-classification
model-index:
- {name: vit, results: []}
---
# A model
"""
WEIGHTS = np.random.default_rng(0).bytes(200_000)
FILES = {
    "README.md": CARD.encode(), "config.json": b"{}", "model.safetensors": WEIGHTS, "data/notes.txt": b"one\n",
}  # fmt: skip


@pytest.fixture(scope="module")
def hub() -> Iterator[HubServer]:
    """A Hub without earlier requests."""
    with HubServer() as server:
        yield server


@pytest.fixture(scope="module")
def client(hub: HubServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """`client(program, **variables)` is the `result` of a program that uses huggingface_hub against the server."""
    environment = hub.environment(tmp_path_factory.mktemp("home"), WRITE_TOKEN)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", CLIENT], env=environment, **pipes) as process:

        def run(program: str, **variables: str) -> Any:
            lines = [f"{name} = {value!r}" for name, value in variables.items()]
            process.stdin.write(json.dumps("\n".join([*lines, textwrap.dedent(program)])) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        yield run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model to push, with small files and one that goes through LFS."""
    root = tmp_path_factory.mktemp("model")
    (root / "data").mkdir()
    for path, content in FILES.items():
        (root / path).write_bytes(content)
    return root


@pytest.fixture(scope="module")
def commits(hub: HubServer, client: Client, folder: Path) -> list[str]:
    """Commits that the client saw for a push of `tester/vit`, the same push again, and a change of one file."""
    program = """
        api.create_repo("tester/vit")
        api.create_repo("tester/vit", exist_ok=True)
        push = lambda: api.upload_folder(repo_id="tester/vit", folder_path=folder, commit_message="First").oid
        first, again = push(), push()
        api.create_tag("tester/vit", tag="v1")
        api.create_branch("tester/vit", branch="old", revision="v1")
        file = {"path_in_repo": "data/notes.txt", "path_or_fileobj": b"two", "commit_message": "Second"}
        result = [first, again, api.upload_file(repo_id="tester/vit", **file).oid]
    """
    return client(program, folder=str(folder))


def raw(
    hub: HubServer, method: str, path: str, body: bytes = b"", **headers: str
) -> tuple[int, bytes, dict[str, str]]:
    """Status, body and headers of the answer to a request by hand."""
    connection = http.client.HTTPConnection(hub.url.removeprefix("http://"))
    connection.request(method, path, body, {"Authorization": f"Bearer {WRITE_TOKEN}", **headers})
    found = connection.getresponse()
    answer = found.status, found.read(), dict(found.headers)
    connection.close()
    return answer


def change(hub: HubServer, *lines: dict[str, Any], **header: str) -> tuple[int, str]:
    """Status and text of the answer to a commit to `tester/vit`."""
    sent = [{"key": "header", "value": {"summary": "Change", **header}}, *lines]
    body = "\n".join(json.dumps(line) for line in sent).encode()
    status, text, _ = raw(hub, "POST", "/api/models/tester/vit/commit/main", body)
    return status, text.decode()


def test_what_is_pushed_is_on_the_hub(hub, commits, folder):
    assert hub.store.paths("tester/vit", "v1") == sorted(FILES)
    assert {path: hub.store.read("tester/vit", path, "v1") for path in FILES} == FILES


def test_the_large_file_alone_goes_through_lfs(hub, commits):
    sent = [(path, status) for method, path, status in hub.log if method == "PUT" and path.startswith("/lfs/")]
    assert (f"/lfs/{sha256(WEIGHTS).hexdigest()}", 200) in sent
    assert not [path for path, _ in sent if path.endswith(sha256(b"{}").hexdigest())]
    assert ("POST", "/tester/vit.git/info/lfs/objects/verify", 200) in hub.log


def test_the_same_push_again_makes_no_commit(hub, commits):
    assert commits[0] == commits[1]
    history = hub.store.repos["model", "tester/vit"].history(hub.store.repos["model", "tester/vit"].find("main"))
    assert [commit.title for commit in history] == ["Second", "First", "initial commit"]


def test_what_is_loaded_is_what_was_pushed(client, commits, tmp_path):
    program = """
        root = Path(snapshot_download("tester/vit", revision="v1", cache_dir=cache))
        result = {str(path.relative_to(root)): path.read_bytes().hex() for path in root.rglob("*") if path.is_file()}
    """
    loaded = client(program, cache=str(tmp_path))
    assert {path: bytes.fromhex(content) for path, content in loaded.items() if path != ".gitattributes"} == FILES


@pytest.mark.parametrize(("revision", "content"), [("v1", "one\n"), ("old", "one\n"), ("main", "two")])
def test_a_revision_is_a_tag_a_branch_or_a_commit(client, commits, revision, content):
    program = """
        load = lambda revision: Path(hf_hub_download("tester/vit", "data/notes.txt", revision=revision)).read_text()
        refs = api.list_repo_refs("tester/vit")
        commit = {ref.name: ref.target_commit for ref in refs.branches + refs.tags}[revision]
        result = [load(revision), load(commit), commit]
    """
    named, pinned, commit = client(program, revision=revision)
    assert named == pinned == content
    assert commit == commits[2 if revision == "main" else 0]


def test_a_repository_is_listed_and_described(client, commits):
    program = """
        info = api.model_info("tester/vit", files_metadata=True)
        tree = {entry.path: type(entry).__name__ for entry in api.list_repo_tree("tester/vit")}
        sizes = {file.rfilename: file.size for file in info.siblings}
        lfs = {file.path: file.lfs.sha256 for file in api.get_paths_info("tester/vit", list(sizes)) if file.lfs}
        found = [(model.id, model.pipeline_tag) for model in api.list_models(author="tester")]
        result = [tree, sizes, lfs, info.card_data.license_name, info.model_index[0]["name"], info.sha, found]
    """
    tree, sizes, lfs, license_name, name, oid, found = client(program)
    assert tree["data"] == "RepoFolder"
    assert tree["config.json"] == "RepoFile"
    assert "data/notes.txt" not in tree
    assert sizes["model.safetensors"] == len(WEIGHTS)
    assert lfs == {"model.safetensors": sha256(WEIGHTS).hexdigest()}
    assert (license_name, name, oid) == ("vivae", "vit", commits[2])
    assert ["tester/vit", "audio-classification"] in found


def test_pull_requests_are_listed_and_read(hub, client):
    repo = hub.store.create("model", "tester/pulls", private=False)
    for number in range(1, 14):  # more than a page
        author = "someone" if number == 2 else "tester"
        repo.propose(f"Number {number}", author, {"config.json": hub.store.keep(b"%d" % number)})
    repo.pulls[3].status = "closed"
    program = """
        def listed(**filters):
            return [each.num for each in api.get_repo_discussions("tester/pulls", **filters)]

        closed = [listed(discussion_status=status) for status in ("open", "closed")]
        found = [listed(), listed(author="someone"), *closed, listed(discussion_type="discussion")]
        second = next(each for each in api.get_repo_discussions("tester/pulls") if each.num == 2)
        read = Path(hf_hub_download("tester/pulls", "config.json", revision=second.git_reference)).read_text()
        commits = [each.title for each in api.list_repo_commits("tester/pulls", revision=second.git_reference)]
        refs = api.list_repo_refs("tester/pulls", include_pull_requests=True).pull_requests
        result = [*found, second.title, second.author, read, commits, [ref.ref for ref in refs][:2]]
    """
    everything = list(range(13, 0, -1))
    assert client(program) == [
        everything, [2], [number for number in everything if number != 4], [4], [],
        "Number 2", "someone", "2", ["Number 2", "initial commit"], ["refs/pr/1", "refs/pr/2"],
    ]  # fmt: skip


def test_files_and_folders_are_deleted(hub, client):
    program = """
        api.create_repo("tester/deleted")
        for path in ("a/b.txt", "a/c/d.txt", "e.txt", "f.txt"):
            api.upload_file(repo_id="tester/deleted", path_in_repo=path, path_or_fileobj=b"content")
        api.delete_folder("a", "tester/deleted")
        api.delete_file("e.txt", "tester/deleted")
        result = refusal(api.delete_file, "e.txt", "tester/deleted")
    """
    assert "doesn't exist" in client(program)
    assert hub.store.paths("tester/deleted") == ["f.txt"]


def test_audio_of_a_dataset_goes_through_lfs(hub, client):
    program = """
        result = []
        for kind in ("dataset", "model"):
            api.create_repo("tester/audio", repo_type=kind)
            api.upload_file(repo_id="tester/audio", repo_type=kind, path_in_repo="clip.wav", path_or_fileobj=b"RIFF")
            result.append(api.get_paths_info("tester/audio", "clip.wav", repo_type=kind)[0].lfs is not None)
    """
    assert client(program) == [True, False]
    assert hub.store.read("tester/audio", "clip.wav", kind="dataset") == b"RIFF"


def test_a_private_repository_needs_a_token(client):
    program = """
        api.create_repo("tester/private", private=True)
        api.upload_file(repo_id="tester/private", path_in_repo="config.json", path_or_fileobj=b"{}")
        load = lambda token: Path(hf_hub_download("tester/private", "config.json", token=token)).name
        models = lambda: [model.id for model in api.list_models(author="tester", token=False)]
        result = [refusal(load, False), refusal(load, "hf_wrong"), load(read), models()]
        api.update_repo_settings("tester/private", private=False)
        result += [load(False), models()]
    """
    anonymous, wrong, reader, before, public, after = client(program, read=READ_TOKEN)
    assert anonymous.startswith("RepositoryNotFoundError")
    assert "Invalid credentials in Authorization header" in wrong
    assert reader == public == "config.json"
    assert "tester/private" not in before
    assert "tester/private" in after


def test_who_may_not_write_is_refused(client, commits):
    program = """
        push = lambda token: api.upload_file(repo_id="tester/vit", path_in_repo="a", path_or_fileobj=b"", token=token)
        create = lambda name, token: api.create_repo(name, token=token)
        result = [refusal(push, read), refusal(push, False)]
        result += [refusal(create, "tester/new", read), refusal(create, "other/new", None)]
        result += [refusal(api.whoami, "hf_wrong"), api.whoami(read)["auth"]["accessToken"]["role"]]
    """
    push, anonymous, create, other, wrong, role = client(program, read=READ_TOKEN)
    assert "403 Forbidden" in push
    assert "401" in anonymous
    assert "403 Forbidden" in create
    assert 'write under the namespace "other"' in other
    assert "Invalid user token" in wrong
    assert role == "read"


def test_what_is_missing_is_named(client, commits):
    program = """
        result = [
            refusal(hf_hub_download, "tester/vit", "nothing"),
            refusal(hf_hub_download, "tester/vit", "config.json", revision="nothing"),
            refusal(hf_hub_download, "tester/nothing", "config.json"),
            refusal(api.upload_file, repo_id="tester/nothing", path_in_repo="config.json", path_or_fileobj=b"{}"),
            api.file_exists("tester/vit", "nothing"),
        ]
    """
    file, revision, repo, push, exists = client(program)
    assert file.startswith(("RemoteEntryNotFoundError", "EntryNotFoundError"))
    assert revision.startswith("RevisionNotFoundError")
    assert repo.startswith("RepositoryNotFoundError")
    assert push.startswith("RepositoryNotFoundError")
    assert exists is False


@pytest.mark.skipif(
    Version(huggingface_hub.__version__).major < 2, reason="huggingface_hub 1 has the public Hub itself check cards"
)
def test_a_bad_card_is_refused_before_anything_is_sent(hub, client, tmp_path):
    (tmp_path / "README.md").write_text("---\nlicense: asdf\n---\n")
    (tmp_path / "model.safetensors").write_bytes(b"other weights")
    program = """
        api.create_repo("tester/bad")
        push = refusal(api.upload_folder, repo_id="tester/bad", folder_path=folder)
        result = [push, refusal(ModelCard.load(folder + "/README.md").validate)]
    """
    for reason in client(program, folder=str(tmp_path)):
        assert reason.startswith("ValueError")
        assert '"license" must be one of [apache-2.0, mit' in reason
    assert hub.store.paths("tester/bad") == []
    assert sha256(b"other weights").hexdigest() not in hub.store.blobs


def test_a_commit_is_all_or_nothing(hub, commits):
    before = hub.store.repos["model", "tester/vit"].find("main")
    good = {"key": "file", "value": {"path": "new.txt", "content": "bmV3", "encoding": "base64"}}
    unknown = {"key": "lfsFile", "value": {"path": "big.bin", "algo": "sha256", "oid": "0" * 64, "size": 1}}
    card = {"key": "file", "value": {"path": "README.md", "content": "LS0tCmxpY2Vuc2U6IGFzZGYKLS0tCg=="}}
    assert change(hub, good, unknown)[0] == 400
    assert change(hub, good, card)[0] == 400
    assert change(hub, good, parentCommit=commits[0]) == (
        412, '{"error": "A commit has happened since. Please refresh and try again."}',
    )  # fmt: skip
    assert hub.store.repos["model", "tester/vit"].find("main") is before


def test_a_content_must_have_the_hash_of_its_address(hub):
    digest = sha256(b"right").hexdigest()
    assert raw(hub, "PUT", f"/lfs/{digest}", b"wrong")[0] == 400
    assert digest not in hub.store.blobs
    assert raw(hub, "PUT", f"/lfs/{digest}", b"right")[0] == 200
    assert hub.store.blobs[digest] == b"right"


@pytest.mark.parametrize(
    ("asked", "part"),
    [("bytes=0-9", slice(0, 10)), ("bytes=199990-", slice(199_990, None)), ("bytes=-5", slice(-5, None)),
     ("bytes=199999-300000", slice(199_999, None))],
)  # fmt: skip
def test_a_range_is_a_part_of_the_file(hub, commits, asked, part):
    status, content, headers = raw(hub, "GET", "/tester/vit/resolve/main/model.safetensors", Range=asked)
    assert (status, content) == (206, WEIGHTS[part])
    start, stop, _ = part.indices(len(WEIGHTS))
    assert headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(WEIGHTS)}"


def test_a_range_beyond_the_end_is_refused(hub, commits):
    status, content, headers = raw(hub, "GET", "/tester/vit/resolve/main/config.json", Range="bytes=2-")
    assert (status, content, headers["Content-Range"]) == (416, b"", "bytes */2")


def test_a_file_is_named_by_its_content(hub, commits):
    git = subprocess.run(["git", "hash-object", "--stdin"], input=b"{}", capture_output=True, check=True)
    for path, etag in {
        "config.json": git.stdout.decode().strip(),
        "model.safetensors": sha256(WEIGHTS).hexdigest(),
    }.items():
        status, content, headers = raw(hub, "HEAD", f"/tester/vit/resolve/main/{path}")
        assert (status, content) == (200, b"")
        assert (headers["ETag"], headers["X-Repo-Commit"]) == (f'"{etag}"', commits[2])
        assert int(headers["Content-Length"]) == len(FILES[path])


@pytest.mark.parametrize(
    ("method", "path", "kind", "after"),
    [("POST", "/preupload/", 503, 0), ("PUT", "^/lfs/", "request", 100_000), ("PUT", "^/lfs/", "answer", 0)],
)
def test_the_client_tries_again(hub, client, method, path, kind, after):
    name, content = f"tester/again-{kind}-{after}", repr((kind, after)) * 40_000
    fault = Fault(method, path, kind, after=after)
    hub.faults, start = [fault], len(hub.log)
    program = """
        api.create_repo(name)
        api.upload_file(repo_id=name, path_in_repo="model.safetensors", path_or_fileobj=content.encode())
        result = None
    """
    client(program, name=name, content=content)
    assert fault.times == 0
    assert hub.store.read(name, "model.safetensors") == content.encode()
    tries = [status for sent, address, status in hub.log[start:] if sent == method and path.strip("^") in address]
    assert tries == [kind if isinstance(kind, int) else None, 200]


def test_a_cut_download_goes_on_where_it_stopped(hub, client):
    piece = 10 * 2**20  # bytes after which the client writes
    content = np.random.default_rng(1).bytes(piece + 1000)
    repo = hub.store.create("model", "tester/long", private=False)
    repo.commit("main", "Weights", {"model.safetensors": hub.store.keep(content)})
    hub.faults, start = [Fault("GET", "model.safetensors$", "answer", after=piece + 10)], len(hub.log)
    program = """
        import hashlib
        path = hf_hub_download("tester/long", "model.safetensors")
        result = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    """
    assert client(program) == sha256(content).hexdigest()
    assert [status for method, _, status in hub.log[start:] if method == "GET"] == [None, 206]


@pytest.mark.parametrize(("kind", "landed"), [("request", False), ("answer", True), (500, False)])
def test_a_push_whose_commit_fails_is_repeated(hub, client, folder, kind, landed):
    name = f"tester/cut-{kind}"
    hub.faults = [Fault("POST", f"{name}/commit/", kind)]
    program = """
        api.create_repo(name)
        result = refusal(api.upload_folder, repo_id=name, folder_path=folder)
    """
    assert client(program, name=name, folder=str(folder)) is not None
    assert (len(hub.store.repos["model", name].commits) == 2) is landed
    client("result = api.upload_folder(repo_id=name, folder_path=folder).oid", name=name, folder=str(folder))
    assert len(hub.store.repos["model", name].commits) == 2
    assert hub.store.paths(name) == sorted(FILES)


def test_collections(client, commits):
    program = """
        made = api.create_collection("A study", description="Seven models")
        again = refusal(api.create_collection, "A study")
        same = api.create_collection("A study", exists_ok=True)
        api.add_collection_item(made.slug, "tester/vit", "model", note="the best")
        api.add_collection_item(made.slug, "tester/vit", "model", exists_ok=True)
        missing = refusal(api.add_collection_item, made.slug, "tester/nothing", "model")
        long = refusal(api.create_collection, "Another", description="x" * 151)
        items = [[item.item_id, item.item_type, item.note] for item in api.get_collection(made.slug).items]
        titles = [each.title for each in api.list_collections(owner="tester")]
        result = [made.slug == same.slug, again, missing, long, items, titles]
    """
    same, again, missing, long, items, titles = client(program)
    assert same
    assert "409" in again
    assert "does not exist" in missing
    assert "less than or equal to 150 characters" in long
    assert items == [["tester/vit", "model", "the best"]]
    assert titles == ["A study"]


def test_a_process_knows_this_hub_only(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HUGGING_FACE_HUB_TOKEN", "of the user")
    monkeypatch.setenv("TRANSFORMERS_OFFLINE", "1")
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    found = hub.environment(tmp_path, None)
    own = {name for name in found if name.startswith(("HF_", "HUGGING", "TRANSFORMERS"))}
    assert own == {"HF_ENDPOINT", "HF_HOME", "HF_HUB_DISABLE_XET", "HF_HUB_DISABLE_TELEMETRY", "HF_VIVAE_CACHE"}
    assert (found["HF_ENDPOINT"], found["HF_HOME"]) == (hub.url, str(tmp_path))
    assert hub.environment(tmp_path, READ_TOKEN)["HF_TOKEN"] == READ_TOKEN


def test_the_server_ends():
    with HubServer() as server:
        assert raw(server, "GET", "/api/whoami-v2")[0] == 200
    with pytest.raises(ConnectionRefusedError):
        raw(server, "GET", "/api/whoami-v2")
