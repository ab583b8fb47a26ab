"""Answers of the test Hub that change nothing."""

import re
from typing import Any
from urllib.parse import parse_qs

import yaml

from .call import USER, Answer, Call, RefusedError, reply
from .card_rules import FRONT_MATTER, check_card
from .store import Commit, PullRequest, Repo, Store

CARD = "README.md"
PAGE = 10  # discussions in an answer


def whoami(call: Call) -> Answer:
    if call.role is None:
        raise RefusedError(401, "Unauthorized", "Invalid username or password.")
    token = {"displayName": "test", "role": call.role}
    user = {"type": "user", "id": "0" * 24, "name": USER, "fullname": USER, "orgs": []}
    return reply({**user, "auth": {"type": "access_token", "accessToken": token}})


def validate(call: Call) -> Answer:
    """Errors and warnings on a card, as lines for `ModelCard.validate` and as JSON for `HfApi`."""
    errors, warnings = check_card(call.request.json["content"], call.request.json["repoType"])
    status = 400 if errors else 200
    if call.request.headers.get("Accept") == "text/plain":
        lines = [f"- Error: {text}" for text in errors] + [f"- Warning: {text}" for text in warnings]
        return Answer(status, "\n".join(lines).encode(), {"Content-Type": "text/plain"})
    return reply(
        {"errors": [{"message": text} for text in errors], "warnings": [{"message": text} for text in warnings]},
        status,
    )


def list_repos(call: Call) -> Answer:
    author = call.request.query.get("author")
    seen = [repo for repo in call.store.repos.values() if repo.kind == call.kind and (call.role or not repo.private)]
    by_author = [repo for repo in seen if author in (None, repo.name.split("/")[0])]
    return reply([_describe(call.store, repo, repo.find("main")) for repo in by_author])


def info(call: Call) -> Answer:
    """A repository, with sizes and hashes of its files on request."""
    found = _describe(call.store, call.repo, call.commit)
    if call.request.query.get("blobs", "").lower() != "true":
        found["siblings"] = [{"rfilename": file["rfilename"]} for file in found["siblings"]]
    return reply(found)


def _describe(store: Store, repo: Repo, commit: Commit) -> dict[str, Any]:
    card = _metadata(store, commit)
    return {
        "_id": "0" * 24,
        "id": repo.name,
        "modelId": repo.name,
        "author": repo.name.split("/")[0],
        "sha": commit.oid,
        "private": repo.private,
        "gated": "manual" if repo.gated else False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": card.get("tags", []),
        "model-index": card.pop("model-index", None),
        "pipeline_tag": card.get("pipeline_tag"),
        "library_name": card.get("library_name"),
        "cardData": card,
        "createdAt": next(iter(repo.commits.values())).date,
        "lastModified": commit.date,
        "siblings": [_sibling(store.entry(commit, path)) for path in sorted(commit.files)],
    }


def _metadata(store: Store, commit: Commit) -> dict[str, Any]:
    """The metadata of the card, which was validated when it was committed."""
    card = store.blobs[commit.files[CARD]].decode() if CARD in commit.files else ""
    found = FRONT_MATTER.match(card)
    return yaml.safe_load(found[1]) if found else {}


def _sibling(entry: dict[str, Any]) -> dict[str, Any]:
    found = {"rfilename": entry["path"], "size": entry["size"], "blobId": entry["oid"]}
    return {**found, "lfs": {"sha256": entry["lfs"]["oid"], **entry["lfs"]}} if "lfs" in entry else found


def tree(call: Call) -> Answer:
    """Files and folders below a folder, at any depth if asked."""
    commit, folder = call.commit, call.name("path")
    below = f"{folder}/" if folder else ""
    inside = [path for path in commit.files if path.startswith(below)]
    if not inside:
        raise RefusedError(404, "EntryNotFound", f"{folder} does not exist on {commit.oid}")
    found = {path for name in inside for path in (name, *_parents(name)) if path.startswith(below)}
    if call.request.query.get("recursive", "").lower() != "true":
        found = {path for path in found if "/" not in path[len(below) :]}
    return reply([call.store.entry(commit, path) for path in sorted(found)])


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts))]


def paths_info(call: Call) -> Answer:
    """The named files and folders; those that do not exist are left out."""
    commit, body = call.commit, call.request.body.decode()
    named = call.request.json["paths"] if body.startswith("{") else parse_qs(body).get("paths", [])
    folders = {parent for path in commit.files for parent in _parents(path)}
    paths = [path.rstrip("/") for path in named]
    return reply([call.store.entry(commit, path) for path in paths if path in commit.files or path in folders])


def refs(call: Call) -> Answer:
    def listed(names: dict[str, str], folder: str) -> list[dict[str, str]]:
        return [{"name": name, "ref": f"refs/{folder}/{name}", "targetCommit": oid} for name, oid in names.items()]

    branches, tags = listed(call.repo.branches, "heads"), listed(call.repo.tags, "tags")
    pulls = [{"name": str(pull.number), "ref": pull.reference, "targetCommit": pull.head} for pull in call.repo.pulls]
    asked = {"pullRequests": pulls} if call.request.query.get("include_prs") == "1" else {}
    return reply({"branches": branches, "converts": [], "tags": tags, **asked})


def discussions(call: Call) -> Answer:
    """Pull requests, the newest first, page by page; this Hub has no other discussions."""
    query = call.request.query
    pulls = [] if query.get("type") == "discussion" else reversed(call.repo.pulls)
    by_author = [pull for pull in pulls if query.get("author") in (None, pull.author)]
    found = [pull for pull in by_author if query.get("status") in (None, "all", pull.status)]
    start = PAGE * int(query.get("p", 0))
    listed = [_describe_pull(call.repo, pull) for pull in found[start : start + PAGE]]
    return reply({"discussions": listed, "count": len(found), "start": start})


def _describe_pull(repo: Repo, pull: PullRequest) -> dict[str, Any]:
    return {
        "num": pull.number,
        "title": pull.title,
        "author": {"name": pull.author},
        "status": pull.status,
        "isPullRequest": True,
        "createdAt": pull.date,
        "repo": {"name": repo.name, "type": repo.kind},
    }


def commits(call: Call) -> Answer:
    history = call.repo.history(call.commit)
    return reply(
        [
            {
                "id": commit.oid,
                "title": commit.title,
                "message": commit.description,
                "authors": [{"user": USER}],
                "date": commit.date,
            }
            for commit in history
        ]
    )


def resolve(call: Call) -> Answer:
    """A file, or the part of it that the header `Range` asks for."""
    commit, path = call.commit, call.name("path")
    if call.repo.gated:
        raise RefusedError(403 if call.role else 401, "GatedRepo", "Access to this repository is restricted.")
    headers = {"X-Repo-Commit": commit.oid, "Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
    if path not in commit.files:
        raise RefusedError(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": commit.oid})
    headers["ETag"] = f'"{call.store.etag(commit, path)}"'
    content = call.store.blobs[commit.files[path]]
    asked = re.fullmatch(r"bytes=(\d*)-(\d*)", call.request.headers.get("Range", ""))
    return _part(content, asked[1], asked[2], headers) if asked else Answer(200, content, headers)


def _part(content: bytes, first: str, last: str, headers: dict[str, str]) -> Answer:
    """Bytes `first` to `last`, to the end without `last`, or the `last` ones without `first`."""
    size = len(content)
    start = int(first) if first else max(size - int(last), 0)
    stop = min(int(last) + 1, size) if first and last else size
    if start >= size:
        return Answer(416, b"", {**headers, "Content-Range": f"bytes */{size}"})
    return Answer(206, content[start:stop], {**headers, "Content-Range": f"bytes {start}-{stop - 1}/{size}"})
