"""The endpoints of the test Hub, and the permission that each needs."""

import re
from collections.abc import Callable

from .call import Answer, Call, RefusedError, Request, role_of
from .collections import add_item, create_collection, get_collection, list_collections
from .reads import commits, discussions, info, list_repos, paths_info, refs, resolve, tree, validate, whoami
from .store import Store
from .writes import (
    branch,
    commit,
    create,
    delete,
    lfs_batch,
    lfs_upload,
    lfs_verify,
    preupload,
    settings,
    tag,
)  # fmt: skip

API = r"/api/(?P<kind>models|datasets|spaces)/(?P<repo>[^/]+/[^/]+)"
PAGE = r"/(?:(?P<kind>datasets|spaces)/)?(?P<repo>[^/]+/[^/]+?)"
REVISION = r"/(?P<revision>[^/]+)"
COLLECTION = r"/api/collections/(?P<slug>[^/]+/[^/]+)"
Route = Callable[[Call], Answer]
READS: tuple[tuple[str, str, Route], ...] = (
    ("GET", "/api/whoami-v2", whoami),
    ("POST", "/api/validate-yaml", validate),
    ("GET", "/api/(?P<kind>models|datasets)", list_repos),
    ("GET", API, info),
    ("GET", f"{API}/revision{REVISION}", info),
    ("GET", f"{API}/tree{REVISION}(?:/(?P<path>.+))?", tree),
    ("POST", f"{API}/paths-info{REVISION}", paths_info),
    ("GET", f"{API}/refs", refs),
    ("GET", f"{API}/commits{REVISION}", commits),
    ("GET", f"{API}/discussions", discussions),
    ("GET", f"{PAGE}/resolve{REVISION}/(?P<path>.+)", resolve),
    ("GET", "/api/collections", list_collections),
    ("GET", COLLECTION, get_collection),
)
# those that name a repository ask for a token that may write; the others ask themselves
WRITES: tuple[tuple[str, str, Route], ...] = (
    ("POST", "/api/repos/create", create),
    ("DELETE", "/api/repos/delete", delete),
    ("PUT", f"{API}/settings", settings),
    ("POST", f"{API}/preupload{REVISION}", preupload),
    ("POST", f"{API}/commit{REVISION}", commit),
    ("POST", f"{API}/branch/(?P<name>[^/]+)", branch),
    ("POST", f"{API}/tag{REVISION}", tag),
    ("POST", rf"{PAGE}\.git/info/lfs/objects/batch", lfs_batch),
    ("POST", rf"{PAGE}\.git/info/lfs/objects/verify", lfs_verify),
    ("PUT", "/lfs/(?P<oid>[0-9a-f]{64})", lfs_upload),
    ("POST", "/api/collections", create_collection),
    ("POST", f"{COLLECTION}/items", add_item),
)


def answer(store: Store, request: Request) -> Answer:
    """Return the answer of the Hub, refusals included."""
    method = "GET" if request.method == "HEAD" else request.method
    for name, pattern, route in READS + WRITES:
        found = re.fullmatch(pattern, request.path)
        if found and name == method:
            try:
                call = Call(store, request, role_of(request), found.groupdict())
                if "repo" in call.names and (name, pattern, route) in WRITES:
                    call.check_writer(call.repo.name.split("/")[0])
                return route(call)
            except RefusedError as error:
                return error.answer
    return RefusedError(404, "NotFound", f"This Hub has no {method} {request.path}").answer
