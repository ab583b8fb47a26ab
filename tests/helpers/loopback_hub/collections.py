"""Collections on the test Hub: named lists of repositories."""

from typing import Any

from .call import Answer, Call, RefusedError, reply
from .store import Collection, now

LONGEST = 150  # characters of a description


def create_collection(call: Call) -> Answer:
    body = call.request.json
    call.check_writer(body["namespace"])
    if len(body.get("description") or "") > LONGEST:
        reason = f'"description" length must be less than or equal to {LONGEST} characters long'
        raise RefusedError(400, "BadRequest", reason)
    for found in call.store.collections.values():
        if (found.owner, found.title) == (body["namespace"], body["title"]):
            raise RefusedError(409, "Conflict", "This collection already exists", slug=found.slug)
    made = call.store.collect(body["title"], body["namespace"], body.get("private", False), body.get("description"))
    return reply(_describe(made))


def list_collections(call: Call) -> Answer:
    owner = call.request.query.get("owner")
    found = [each for each in call.store.collections.values() if owner in (None, each.owner)]
    listed = [_describe(each) for each in found if call.role or not each.private]
    for each in listed:
        del each["position"]  # the Hub leaves it to the order
    return reply(listed)


def get_collection(call: Call) -> Answer:
    return reply(_describe(_find(call)))


def add_item(call: Call) -> Answer:
    """Add a repository, which must exist, once."""
    found, item = _find(call), call.request.json["item"]
    call.check_writer(found.owner)
    if (item["type"], item["id"]) not in call.store.repos:
        raise RefusedError(404, "RepoNotFound", f"The {item['type']} {item['id']} does not exist")
    if any((old["type"], old["id"]) == (item["type"], item["id"]) for old in found.items):
        raise RefusedError(409, "Conflict", "This item is in the collection already")
    found.items.append({**item, "note": call.request.json.get("note")})
    found.date = now()
    return reply(_describe(found))


def _find(call: Call) -> Collection:
    found = call.store.collections.get(call.name("slug"))
    if found is None or (found.private and not call.role):
        raise RefusedError(404, "CollectionNotFound", "Collection not found")
    return found


def _describe(collection: Collection) -> dict[str, Any]:
    items = [
        {
            "_id": f"{place:024x}",
            "position": place,
            "type": item["type"],
            "id": item["id"],
            "note": item["note"] and {"text": item["note"]},
        }
        for place, item in enumerate(collection.items)
    ]
    return {
        "slug": collection.slug,
        "title": collection.title,
        "description": collection.description,
        "owner": collection.owner,
        "items": items,
        "lastUpdated": collection.date,
        "position": 0,
        "private": collection.private,
        "theme": "green",
        "upvotes": 0,
    }
