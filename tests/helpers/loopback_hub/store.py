"""Storage of the test Hub: blobs by SHA-256, repositories with commits, branches and tags, collections."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatch
from itertools import count
from typing import Any

# a part of what the Hub writes into `.gitattributes` of a new repository
LARGE = "*.arrow *.bin *.ckpt *.gz *.npy *.npz *.onnx *.parquet *.pickle *.pkl *.pt *.pth *.safetensors *.tar *.zip"
LARGE_DATA = f"{LARGE} *.aac *.flac *.mp3 *.ogg *.wav *.bmp *.gif *.jpg *.jpeg *.png *.webp"
LARGE_SIZE = 10 * 2**20  # bytes from which any file goes through LFS
ATTRIBUTES = ".gitattributes"


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def git_id(content: bytes) -> str:
    """Return git's id of a file of this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def pointer(digest: str, size: int) -> bytes:
    """The file that git keeps in place of a large one."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {size}\n".encode()


@dataclass(frozen=True)
class Commit:
    """The files of a repository after a change.

    Args:
        oid: 40 hexadecimal digits.
        parent: oid of the commit before; None for the first.
        title: first line of the message.
        description: the rest of it.
        files: path in the repository -> SHA-256 of the content.
        date: ISO 8601.
    """

    oid: str
    parent: str | None
    title: str
    description: str
    files: Mapping[str, str]
    date: str = field(default_factory=now)


@dataclass
class PullRequest:
    """A pull request, whose commits are found under `refs/pr/<number>`; `head` is the oid of the last."""

    number: int
    title: str
    author: str
    head: str
    status: str = "open"
    date: str = field(default_factory=now)

    @property
    def reference(self) -> str:
        return f"refs/pr/{self.number}"


@dataclass
class Repo:
    """A repository of the Hub; `kind` is model, dataset or space. No account may read the files of a gated one."""

    kind: str
    name: str
    private: bool
    gated: bool = field(default=False, kw_only=True)
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    pulls: list[PullRequest] = field(default_factory=list)

    def find(self, revision: str) -> Commit | None:
        """The commit of a branch, a tag, a pull request or an oid."""
        names = {**{pull.reference: pull.head for pull in self.pulls}, **self.tags, **self.branches}
        return self.commits.get(names.get(revision, revision))

    def commit(self, branch: str, title: str, files: Mapping[str, str], description: str = "") -> Commit:
        """Add a commit to a branch."""
        made = self._add(self.branches.get(branch), title, files, description)
        self.branches[branch] = made.oid
        return made

    def propose(self, title: str, author: str, files: Mapping[str, str]) -> PullRequest:
        """Open a pull request to main of one commit, after which the repository would hold these files."""
        made = self._add(self.branches["main"], title, files, "")
        self.pulls.append(PullRequest(len(self.pulls) + 1, title, author, made.oid))
        return self.pulls[-1]

    def _add(self, parent: str | None, title: str, files: Mapping[str, str], description: str) -> Commit:
        state = (self.kind, self.name, len(self.commits), parent, title, sorted(files.items()))
        oid = hashlib.sha1(repr(state).encode()).hexdigest()
        self.commits[oid] = Commit(oid, parent, title, description, dict(files))
        return self.commits[oid]

    def history(self, commit: Commit) -> list[Commit]:
        """A commit and those before it, newest first."""
        found = [commit]
        while found[-1].parent:
            found.append(self.commits[found[-1].parent])
        return found


@dataclass
class Collection:
    """A named list of repositories; an item has the keys `id`, `type` and `note`."""

    slug: str
    title: str
    owner: str
    private: bool
    description: str | None
    items: list[dict[str, Any]] = field(default_factory=list)
    date: str = field(default_factory=now)


class Store:
    """Everything on the Hub; `repos` by (kind, name), `blobs` by SHA-256, `collections` by slug."""

    def __init__(self) -> None:
        self.repos: dict[tuple[str, str], Repo] = {}
        self.blobs: dict[str, bytes] = {}
        self.collections: dict[str, Collection] = {}
        self._numbers = count(1)

    def keep(self, content: bytes) -> str:
        """The SHA-256 under which a content is found from now on."""
        self.blobs[sha256(content)] = content
        return sha256(content)

    def create(self, kind: str, name: str, private: bool) -> Repo:
        """A new repository with one commit, as the Hub makes it."""
        patterns = (LARGE if kind == "model" else LARGE_DATA).split()
        attributes = "".join(f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in patterns)
        repo = self.repos[kind, name] = Repo(kind, name, private)
        repo.commit("main", "initial commit", {ATTRIBUTES: self.keep(attributes.encode())})
        return repo

    def collect(self, title: str, owner: str, private: bool, description: str | None) -> Collection:
        """A new, empty collection."""
        slug = f"{owner}/{'-'.join(title.lower().split())}-{next(self._numbers):024x}"
        self.collections[slug] = Collection(slug, title, owner, private, description)
        return self.collections[slug]

    def read(self, name: str, path: str, revision: str = "main", kind: str = "model") -> bytes:
        """Content of a file."""
        return self.blobs[self.repos[kind, name].find(revision).files[path]]

    def paths(self, name: str, revision: str = "main", kind: str = "model") -> list[str]:
        """Sorted paths of all files but `.gitattributes`."""
        return sorted(self.repos[kind, name].find(revision).files.keys() - {ATTRIBUTES})

    def is_large(self, commit: Commit, path: str, size: int) -> bool:
        """Return whether a file goes through LFS: by `.gitattributes` or by its size in bytes."""
        lines = self.blobs[commit.files[ATTRIBUTES]].decode().splitlines() if ATTRIBUTES in commit.files else []
        patterns = [line.split()[0] for line in lines if "filter=lfs" in line]
        name = path.rsplit("/", 1)[-1]
        return size > LARGE_SIZE or any(fnmatch(path, pattern) or fnmatch(name, pattern) for pattern in patterns)

    def entry(self, commit: Commit, path: str) -> dict[str, Any]:
        """A file or folder as the Hub lists it."""
        if path not in commit.files:
            return {"type": "directory", "oid": git_id(path.encode()), "size": 0, "path": path}
        content = self.blobs[commit.files[path]]
        entry = {"type": "file", "oid": git_id(content), "size": len(content), "path": path}
        if self.is_large(commit, path, len(content)):
            text = pointer(commit.files[path], len(content))
            lfs = {"oid": commit.files[path], "size": len(content), "pointerSize": len(text)}
            return entry | {"oid": git_id(text), "lfs": lfs}
        return entry

    def etag(self, commit: Commit, path: str) -> str:
        """Return the id of a content: git's id, or the SHA-256 of a large file."""
        entry = self.entry(commit, path)
        return entry["lfs"]["oid"] if "lfs" in entry else entry["oid"]
