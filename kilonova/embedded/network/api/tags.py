"""The tags of resources."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kilonova.base.errors import BadRequest, NotFound
from kilonova.embedded.network.api.resource import Resource, own, seen
from kilonova.embedded.network.app import NetworkApp, NetworkCall, Work
from kilonova.embedded.network.store import rows
from kilonova.web.routes import Routes
from kilonova.web.schema import Schema, answers

MOST = 50
TAG = {"type": "string", "minLength": 1, "maxLength": 255}
TAGS = Schema(
    {
        "type": "object",
        "properties": {
            "tags": {"type": "array", "items": TAG, "maxItems": 50, "uniqueItems": True}
        },
        "required": ["tags"],
        "additionalProperties": False,
    }
)


TAGGED = answers(tags=[str])


def routes(resource: Resource) -> Routes[NetworkApp]:
    """The tags of a resource: list, replace, clear, one by one."""
    kind = resource.kind
    made: Routes[NetworkApp] = Routes(prefix=f"/v2.0/{kind.url}/{{row_id}}/tags", tag=kind.url)

    async def change(
        call: NetworkCall, row_id: str, how: Callable[[list[str]], list[str]]
    ) -> list[str]:
        def work(job: Work) -> list[str]:
            row = own(job.tx, resource, call, row_id)
            tags = how(list(row["tags"]))
            if len(tags) > MOST:
                raise BadRequest(f"A resource has at most {MOST} tags.", code="HTTPBadRequest")
            rows.update(job.tx, kind, row, {"tags": tags}, job.now)
            return tags

        return await call.app.write(call.caller, work, ids=call.ids)

    @made.get("", policy=f"get_{kind.plural}_tags", responses=TAGGED)
    async def index(call: NetworkCall, row_id: str) -> dict[str, Any]:
        row = await call.app.db.read(lambda tx: seen(tx, resource, call, row_id))
        return {"tags": row["tags"]}

    @made.put("", policy=f"update_{kind.plural}_tags", body=TAGS, responses=TAGGED)
    async def replace(call: NetworkCall, row_id: str) -> dict[str, Any]:
        return {"tags": await change(call, row_id, lambda _: list(call.body["tags"]))}

    @made.post("", policy=f"create_{kind.plural}_tags", body=TAGS, status=201, responses=TAGGED)
    async def extend(call: NetworkCall, row_id: str) -> dict[str, Any]:
        more = call.body["tags"]
        return {"tags": await change(call, row_id, lambda t: list(dict.fromkeys([*t, *more])))}

    @made.delete("", policy=f"delete_{kind.plural}_tags", status=204)
    async def clear(call: NetworkCall, row_id: str) -> None:
        await change(call, row_id, lambda _: [])

    @made.get("/{tag}", policy=f"get_{kind.plural}_tags", status=204)
    async def has(call: NetworkCall, row_id: str, tag: str) -> None:
        row = await call.app.db.read(lambda tx: seen(tx, resource, call, row_id))
        if tag not in row["tags"]:
            raise NotFound(f"Tag {tag} could not be found.", code="TagNotFound")

    @made.put("/{tag}", policy=f"update_{kind.plural}_tags", status=201)
    async def put(call: NetworkCall, row_id: str, tag: str) -> None:
        if len(tag) > 255:
            raise BadRequest("A tag has at most 255 characters.", code="HTTPBadRequest")
        await change(call, row_id, lambda t: t if tag in t else [*t, tag])

    @made.delete("/{tag}", policy=f"delete_{kind.plural}_tags", status=204)
    async def drop(call: NetworkCall, row_id: str, tag: str) -> None:
        def without(tags: list[str]) -> list[str]:
            if tag not in tags:
                raise NotFound(f"Tag {tag} could not be found.", code="TagNotFound")
            return [t for t in tags if t != tag]

        await change(call, row_id, without)

    return made
