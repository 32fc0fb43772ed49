"""``/servers/{server_id}/tags`` (2.26)."""

from __future__ import annotations

from typing import Any

from kilonova.api.find import find, missing, require_cell
from kilonova.api.schemas import TAG, TAGS, closed
from kilonova.base.errors import BadRequest, NotFound
from kilonova.context import Context, Services
from kilonova.db.database import Tx
from kilonova.domain import states
from kilonova.domain.server import Server
from kilonova.store import servers
from kilonova.web.call import Reply
from kilonova.web.routes import Routes
from kilonova.web.schema import NO_BODY, Schema, answers

ROUTES: Routes[Services] = Routes(prefix="/servers/{server_id}/tags", tag="server tags")
RULE = "os_compute_api:os-server-tags:"
MOST = 50
_ONE = Schema(TAG)
NOTHING = Schema({"type": "null"})
ALL = Schema(closed({"tags": TAGS}, "tags"))


async def _tags(call: Context, server_id: str, rule: str) -> tuple[str, ...]:
    return (await find(call, server_id, RULE + rule)).server.tags


@ROUTES.get("", since=26, responses=answers(tags=[{"type": "string"}]), summary="List tags")
async def index(call: Context, server_id: str) -> dict[str, Any]:
    """All tags."""
    return {"tags": await _tags(call, server_id, "index")}


@ROUTES.get("/{tag}", since=26, status=204, summary="Look for a tag")
async def show(call: Context, server_id: str, tag: str) -> None:
    """204 when the server has it."""
    if tag not in await _tags(call, server_id, "show"):
        raise _no_tag(server_id, tag)


@ROUTES.put(
    "/{tag}",
    since=26,
    body=NOTHING,
    status=201,
    also=(204,),
    responses=NO_BODY,
    summary="Add a tag",
)
async def add(call: Context, server_id: str, tag: str) -> Reply:
    """201 for a new tag, 204 when it is there."""
    compiled = _ONE.at(call.version)
    if compiled is not None and not compiled.is_valid(tag):
        raise BadRequest(f"Tag '{tag[:80]}' is invalid: {compiled.reason(tag, 'tag')}")
    before = await _change(call, server_id, "update", add=(tag,))
    if tag in before:
        return Reply(status=204)
    return Reply(status=201, headers={"Location": call.link("servers", server_id, "tags", tag)})


@ROUTES.put(
    "", since=26, responses=answers(tags=[{"type": "string"}]), body=ALL, summary="Replace tags"
)
async def replace(call: Context, server_id: str) -> dict[str, Any]:
    """Just these tags."""
    wanted = tuple(dict.fromkeys(call.body["tags"]))
    await _change(call, server_id, "update_all", add=wanted, only=True)
    return {"tags": sorted(wanted)}


@ROUTES.delete("", since=26, status=204, summary="Remove all tags")
async def clear(call: Context, server_id: str) -> None:
    """No tags."""
    await _change(call, server_id, "delete_all", only=True)


@ROUTES.delete("/{tag}", since=26, status=204, summary="Remove a tag")
async def delete(call: Context, server_id: str, tag: str) -> None:
    """One tag less."""
    await _change(call, server_id, "delete", remove=tag)


def _no_tag(server_id: str, tag: str) -> NotFound:
    return NotFound(f"Server {server_id} has no tag '{tag}'")


async def _change(
    call: Context,
    server_id: str,
    rule: str,
    *,
    add: tuple[str, ...] = (),
    only: bool = False,
    remove: str | None = None,
) -> tuple[str, ...]:
    found = await find(call, server_id, RULE + rule)
    _check(found.server)
    cell = require_cell(found, "update tags")

    def write(tx: Tx) -> tuple[str, ...]:
        server = servers.get(tx, server_id, lock=True)
        if server is None:
            raise missing(server_id)
        _check(server)
        if remove is not None and remove not in server.tags:
            raise _no_tag(server_id, remove)
        kept = () if only else tuple(tag for tag in server.tags if tag != remove)
        wanted = tuple(dict.fromkeys((*kept, *add)))
        if len(wanted) > MOST:
            raise BadRequest(f"The number of tags exceeded the per-server limit {MOST}")
        if wanted != server.tags:
            servers.set_tags(tx, server_id, wanted, now=call.clock.now())
        return server.tags

    return await cell.db.run(write)


def _check(server: Server) -> None:
    states.check("tags", server, word="update tags")
