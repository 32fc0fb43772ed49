"""``/servers/{server_id}/metadata``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kilonova.api import quota_rules
from kilonova.api.find import Found, find, is_admin, require_cell
from kilonova.api.schemas import METADATA, closed, no_query
from kilonova.base.errors import BadRequest, NotFound
from kilonova.context import Context, Services
from kilonova.domain import states
from kilonova.domain.quotas import Rules, check
from kilonova.store import servers
from kilonova.web.routes import Routes
from kilonova.web.schema import TEXTS, Schema, answers

ROUTES: Routes[Services] = Routes(prefix="/servers/{server_id}/metadata", tag="server metadata")
RULE = "os_compute_api:server-metadata:"
Change = Callable[[dict[str, str]], dict[str, str]]

ALL = Schema(closed({"metadata": METADATA}, "metadata"))
ONE = Schema(closed({"meta": {**METADATA, "minProperties": 1, "maxProperties": 1}}, "meta"))


@ROUTES.get("", query=no_query(), responses=answers(metadata=TEXTS), summary="List metadata")
async def index(call: Context, server_id: str) -> dict[str, Any]:
    """All items."""
    found = await find(call, server_id, RULE + "index")
    return {"metadata": found.server.metadata}


@ROUTES.get(
    "/{key}", query=no_query(), responses=answers(meta=TEXTS), summary="Show a metadata item"
)
async def show(call: Context, server_id: str, key: str) -> dict[str, Any]:
    """One item."""
    found = await find(call, server_id, RULE + "show")
    if key not in found.server.metadata:
        raise _no_item(key)
    return {"meta": {key: found.server.metadata[key]}}


@ROUTES.post("", body=ALL, responses=answers(metadata=TEXTS), summary="Add metadata items")
async def create(call: Context, server_id: str) -> dict[str, Any]:
    """Add or overwrite items; all items."""
    given = call.body["metadata"]
    found = await find(call, server_id, RULE + "create")
    return {"metadata": await _change(call, found, lambda old: {**old, **given})}


@ROUTES.put("", body=ALL, responses=answers(metadata=TEXTS), summary="Replace metadata")
async def replace(call: Context, server_id: str) -> dict[str, Any]:
    """Just these items."""
    given = call.body["metadata"]
    found = await find(call, server_id, RULE + "update_all")
    return {"metadata": await _change(call, found, lambda old: dict(given))}


@ROUTES.put("/{key}", body=ONE, responses=answers(meta=TEXTS), summary="Set a metadata item")
async def update(call: Context, server_id: str, key: str) -> dict[str, Any]:
    """One item."""
    given = call.body["meta"]
    if key not in given:
        raise BadRequest("Request body and URI mismatch")
    found = await find(call, server_id, RULE + "update")
    changed = await _change(call, found, lambda old: {**old, **given})
    return {"meta": {key: changed[key]}}


@ROUTES.delete("/{key}", status=204, summary="Remove a metadata item")
async def delete(call: Context, server_id: str, key: str) -> None:
    """One item less."""
    found = await find(call, server_id, RULE + "delete")
    if key not in found.server.metadata:
        raise _no_item(key)
    await _change(
        call,
        found,
        lambda old: {name: value for name, value in old.items() if name != key},
        word="delete metadata",
    )


def _no_item(key: str) -> NotFound:
    return NotFound(f"Metadata item {key} was not found")


async def _change(
    call: Context, found: Found, change: Change, word: str = "update metadata"
) -> dict[str, str]:
    server = found.server
    states.check("metadata", server, override_lock=is_admin(call), word=word)
    cell = require_cell(found, word)

    async def write(rules: Rules) -> dict[str, str]:
        limits = await call.app.db.read(quota_rules.limits, rules, server.project_id)

        def checked(old: dict[str, str]) -> dict[str, str]:
            new = change(old)
            if len(new) > len(old):
                check(limits, "metadata_items", len(new), unified=rules.unified)
            return new

        return await cell.db.run(
            servers.change_metadata,
            server.id,
            checked,
            now=call.clock.now(),
            override_lock=is_admin(call),
            word=word,
        )

    return await quota_rules.within(call, server.project_id, write)
