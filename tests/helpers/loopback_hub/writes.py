"""Changes of repositories on the test Hub: creation, settings, uploads, commits, branches and tags."""

import base64
import json
from typing import Any

from .call import KINDS, USER, Answer, Call, RefusedError, reply
from .card_rules import check_card
from .reads import CARD
from .store import sha256

SDKS = ("gradio", "docker", "static")


def _is_private(body: dict[str, Any]) -> bool:
    """huggingface_hub sends `visibility` since 2.0 and `private` before."""
    return body.get("visibility") == "private" or body.get("private") is True


def create(call: Call) -> Answer:
    body = call.request.json
    kind, owner = body.get("type", "model"), body.get("organization") or USER
    call.check_writer(owner)
    name = f"{owner}/{body['name']}"
    if kind not in KINDS.values():
        raise RefusedError(400, "BadRequest", f"This Hub keeps models, datasets and spaces, not a {kind}")
    if kind == "space" and body.get("sdk") not in SDKS:
        raise RefusedError(400, "BadRequest", "A Space needs an sdk")
    if found := call.store.repos.get((kind, name)):
        raise RefusedError(409, "RepoExists", f"You already created this {kind} repo", url=call.page(found), name=name)
    repo = call.store.create(kind, name, _is_private(body))
    return reply({"url": call.page(repo), "name": name, "id": "0" * 24})


def delete(call: Call) -> Answer:
    body = call.request.json
    name = f"{body.get('organization') or USER}/{body['name']}"
    call.check_writer(name.split("/")[0])
    if call.store.repos.pop((body.get("type", "model"), name), None) is None:
        raise RefusedError(404, "RepoNotFound", "Repository not found")
    return reply({})


def settings(call: Call) -> Answer:
    if {"visibility", "private"} & call.request.json.keys():
        call.repo.private = _is_private(call.request.json)
    return reply({"private": call.repo.private})


def preupload(call: Call) -> Answer:
    """Return for each file whether it goes through LFS, and its present id."""
    commit = call.commit
    return reply(
        {
            "files": [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if call.store.is_large(commit, file["path"], file["size"]) else "regular",
                    "shouldIgnore": False,
                    "oid": call.store.etag(commit, file["path"]) if file["path"] in commit.files else None,
                }
                for file in call.request.json["files"]
            ]
        }
    )


def lfs_batch(call: Call) -> Answer:
    """Return the addresses for contents that the Hub does not have."""
    url, verify = call.request.url, f"{call.page(call.repo)}.git/info/lfs/objects/verify"
    objects = [{"oid": wanted["oid"], "size": wanted["size"]} for wanted in call.request.json["objects"]]
    for wanted in objects:
        if wanted["oid"] not in call.store.blobs:
            wanted["actions"] = {"upload": {"href": f"{url}/lfs/{wanted['oid']}"}, "verify": {"href": verify}}
    return reply({"transfer": "basic", "objects": objects})


def lfs_upload(call: Call) -> Answer:
    """Keep a content, which must have the SHA-256 of its address; that address needs no token, as a signed one."""
    if sha256(call.request.body) != call.name("oid"):
        raise RefusedError(400, "BadDigest", "The SHA-256 of the content is not that of the address")
    call.store.keep(call.request.body)
    return Answer(200)


def lfs_verify(call: Call) -> Answer:
    wanted = call.request.json
    if len(call.store.blobs.get(wanted["oid"], b"")) != wanted["size"]:
        raise RefusedError(404, "EntryNotFound", "The content was not uploaded")
    return Answer(200)


def commit(call: Call) -> Answer:
    """Add a commit to a branch, all its changes or none."""
    branch, head = call.name("revision"), call.commit
    header, *changes = [json.loads(line) for line in call.request.body.splitlines() if line.strip()]
    parent = header["value"].get("parentCommit")
    if branch not in call.repo.branches or "create_pr" in call.request.query:
        raise RefusedError(400, "BadRequest", "This Hub adds commits to branches only")
    if parent and not head.oid.startswith(parent):
        raise RefusedError(412, "Conflict", "A commit has happened since. Please refresh and try again.")
    files = dict(head.files)
    for change in changes:
        _apply(call, files, change["key"], change["value"])
    _check_card(call, files)
    made = call.repo.commit(branch, header["value"]["summary"], files, header["value"].get("description", ""))
    url = f"{call.page(call.repo)}/commit/{made.oid}"
    return reply({"success": True, "commitOid": made.oid, "commitUrl": url, "hookOutput": ""})


def _apply(call: Call, files: dict[str, str], key: str, value: dict[str, Any]) -> None:
    """Make one change of a commit in `files`, path -> SHA-256."""
    path = value["path"].rstrip("/")
    if key == "file":
        files[path] = call.store.keep(base64.b64decode(value["content"]))
    elif key == "lfsFile" and value["oid"] in call.store.blobs:
        files[path] = value["oid"]
    elif key == "lfsFile":
        raise RefusedError(400, "BadRequest", f"{path}: the LFS content {value['oid']} was not uploaded")
    elif key in ("deletedFile", "deletedFolder"):
        _remove(files, path, f"{path}/" if key == "deletedFolder" else None)
    else:
        raise RefusedError(400, "BadRequest", f"This Hub knows no change {key}")


def _remove(files: dict[str, str], path: str, below: str | None) -> None:
    gone = [name for name in files if name == path or (below and name.startswith(below))]
    if not gone:
        raise RefusedError(404, "EntryNotFound", f"A file with this name doesn't exist: {path}")
    for name in gone:
        del files[name]


def _check_card(call: Call, files: dict[str, str]) -> None:
    errors, _ = check_card(call.store.blobs[files[CARD]].decode(), call.repo.kind) if CARD in files else ([], [])
    if errors:
        listed = [{"message": text} for text in errors]
        raise RefusedError(400, "BadRequest", "Invalid metadata in README.md", errors=listed)


def branch(call: Call) -> Answer:
    start = call.find(call.request.json.get("startingPoint") or "main")
    return _name(call.repo.branches, call.name("name"), start.oid)


def tag(call: Call) -> Answer:
    return _name(call.repo.tags, call.request.json["tag"], call.commit.oid)


def _name(names: dict[str, str], name: str, oid: str) -> Answer:
    if name in names:
        raise RefusedError(409, "Conflict", "Reference already exists")
    names[name] = oid
    return reply({}, 201)
