"""``/servers/{server_id}/shares`` (2.97): file shares of a server.

This cloud has no shared file system service, so that no share can be found to attach.
"""

from __future__ import annotations

from typing import Any

from kilonova.api.find import Found, find, require_cell
from kilonova.api.schemas import UUID, closed
from kilonova.base.errors import BadRequest, NotFound
from kilonova.context import Context, Services
from kilonova.domain import states
from kilonova.web.routes import Routes
from kilonova.web.schema import Schema, answers

ROUTES: Routes[Services] = Routes(prefix="/servers/{server_id}/shares", tag="server shares")
RULE = "os_compute_api:os-server-shares:"
NO_QUERY = Schema(closed({}))
CREATE = Schema(
    closed(
        {
            "share": closed(
                {
                    "share_id": UUID,
                    "tag": {
                        "type": "string",
                        "minLength": 1,
                        "maxLength": 255,
                        "pattern": "^[a-zA-Z0-9-]*$",
                    },
                },
                "share_id",
            )
        },
        "share",
    )
)


@ROUTES.get(
    "",
    since=97,
    query=NO_QUERY,
    responses=answers(shares=[{"type": "object"}]),
    summary="List a server's shares",
)
async def index(call: Context, server_id: str) -> dict[str, Any]:
    """None are attached."""
    await find(call, server_id, RULE + "index")
    return {"shares": []}


@ROUTES.post("", since=97, body=CREATE, status=201, summary="Attach a share")
async def create(call: Context, server_id: str) -> None:
    """The server must be off; the share must be known."""
    found = await find(call, server_id, RULE + "create")
    states.check("attach_share", found.server)
    require_cell(found, "attach_share")
    raise _no_share(call.body["share"]["share_id"])


@ROUTES.get("/{share_id}", since=97, query=NO_QUERY, summary="Show a server's share")
async def show(call: Context, server_id: str, share_id: str) -> None:
    """One of the attached."""
    await _attached(call, server_id, share_id, "show")


@ROUTES.delete("/{share_id}", since=97, summary="Detach a share")
async def delete(call: Context, server_id: str, share_id: str) -> None:
    """The server must be off."""
    await _attached(call, server_id, share_id, "delete")


async def _attached(call: Context, server_id: str, share_id: str, rule: str) -> Found:
    found = await find(call, server_id, RULE + rule)
    if len(share_id) != 36:
        raise BadRequest(f"Invalid uuid {share_id[:64]}")
    if rule == "delete":
        states.check("detach_share", found.server)
    raise _no_share(share_id)


def _no_share(share_id: str) -> NotFound:
    return NotFound(f"Share {share_id} could not be found.")
