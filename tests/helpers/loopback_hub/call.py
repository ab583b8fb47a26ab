"""A request to the test Hub, its permissions, and the answer."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from .store import Commit, Repo, Store

USER = "tester"
KINDS = {"models": "model", "datasets": "dataset", "spaces": "space"}
WRITE_TOKEN = "hf_write"
READ_TOKEN = "hf_read"
ROLES = {WRITE_TOKEN: "write", READ_TOKEN: "read"}


@dataclass(frozen=True)
class Answer:
    """Status, body and headers of an answer."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


def reply(content: Any, status: int = 200) -> Answer:
    """An answer in JSON; what JSON does not know, such as a date in a card, is written as text."""
    return Answer(status, json.dumps(content, default=str).encode(), {"Content-Type": "application/json"})


class RefusedError(Exception):
    """A request that the Hub refuses, with the two headers in which its clients look for the reason."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None, **more: Any):
        super().__init__(message)
        found = reply({"error": message, **more}, status)
        reasons = {"X-Error-Code": code, "X-Error-Message": message}
        self.answer = Answer(status, found.body, {**found.headers, **reasons, **(headers or {})})


@dataclass(frozen=True)
class Request:
    """A client's request; `target` is path and query, `url` the address of the server."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    url: str

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @cached_property
    def query(self) -> dict[str, str]:
        return {name: values[-1] for name, values in parse_qs(urlsplit(self.target).query).items()}

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def role_of(request: Request) -> str | None:
    """Permission of the token of a request: "write", "read", or None without one."""
    sent = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if sent and sent not in ROLES:
        raise RefusedError(401, "Unauthorized", "Invalid credentials in Authorization header")
    return ROLES.get(sent)


@dataclass(frozen=True)
class Call:
    """A request on its route; `names` are the parts of the path that the route names, still quoted."""

    store: Store
    request: Request
    role: str | None
    names: Mapping[str, str | None]

    def name(self, part: str) -> str:
        return unquote(self.names.get(part) or "")

    @property
    def kind(self) -> str:
        return KINDS.get(self.names["kind"] or "models", "model")

    @cached_property
    def repo(self) -> Repo:
        """The repository, if it exists and the token may see it.

        Without a token the Hub does not say which of both fails, and answers 401. Its clients know that status for a
        missing repository by the https address; over http the code stands in for it.
        """
        found = self.store.repos.get((self.kind, self.name("repo")))
        if found and (self.role or not found.private):
            return found
        if self.role:
            raise RefusedError(404, "RepoNotFound", "Repository not found")
        raise RefusedError(401, "RepoNotFound", "Invalid username or password.")

    @property
    def commit(self) -> Commit:
        """The commit of the revision in the path, or of main."""
        return self.find(self.name("revision") or "main")

    def find(self, revision: str) -> Commit:
        found = self.repo.find(revision)
        if found is None:
            raise RefusedError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return found

    def check_writer(self, owner: str) -> None:
        """Refuse a token that may not write below a name."""
        if self.role is None:
            raise RefusedError(401, "Unauthorized", "Invalid username or password.")
        if self.role != "write" or owner != USER:
            raise RefusedError(403, "Forbidden", f'You don\'t have the rights to write under the namespace "{owner}"')

    def page(self, repo: Repo) -> str:
        """Address of a repository."""
        return f"{self.request.url}/{'' if repo.kind == 'model' else f'{repo.kind}s/'}{repo.name}"
