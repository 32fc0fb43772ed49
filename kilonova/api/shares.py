"""``/servers/{server_id}/shares`` (2.97): file shares of a server, from a service outside."""

from __future__ import annotations

from typing import Any

from kilonova.api.find import Found, find, is_admin, require_cell
from kilonova.api.schemas import UUID, closed
from kilonova.api.work import record, start, when_free
from kilonova.base.errors import BadRequest, Conflict, NotFound, Unavailable
from kilonova.context import Context, Services
from kilonova.db.database import Tx
from kilonova.domain import states
from kilonova.domain.resources import ShareMapping, ShareStatus
from kilonova.domain.sagas import ATTACH_SHARE, DETACH_SHARE, ShareSaga
from kilonova.interfaces.shares import AVAILABLE, Share
from kilonova.store import nodes, servers, shares
from kilonova.web.routes import Routes
from kilonova.web.schema import Schema, answers

PROTOCOLS = ("NFS",)
VIRTIO_FS, MEMORY_FILE = "COMPUTE_STORAGE_VIRTIO_FS", "COMPUTE_MEM_BACKING_FILE"
PAGES = "hw:mem_page_size"

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


def _show(call: Context, row: ShareMapping) -> dict[str, Any]:
    shown = {"share_id": row.share_id, "status": row.status, "tag": row.tag}
    if is_admin(call):
        shown |= {"export_location": row.export_location, "uuid": row.uuid}
    return shown


_SHARE = {"share_id": str, "status": str, "tag": str}
_SHOWN = answers(share={**_SHARE, "export_location?": str, "uuid?": str})


@ROUTES.get(
    "",
    since=97,
    query=NO_QUERY,
    responses=answers(shares=[_SHARE]),
    summary="List a server's shares",
)
async def index(call: Context, server_id: str) -> dict[str, Any]:
    """All of them, in the order they came."""
    found = await find(call, server_id, RULE + "index")
    rows = await _of(found)
    return {
        "shares": [{"share_id": row.share_id, "status": row.status, "tag": row.tag} for row in rows]
    }


async def _of(found: Found) -> list[ShareMapping]:
    if found.cell is None:
        return []
    return await found.cell.db.read(shares.of_server, found.server.id)


@ROUTES.post("", since=97, body=CREATE, status=201, responses=_SHOWN, summary="Attach a share")
async def create(call: Context, server_id: str) -> dict[str, Any]:
    """The server must be off, on a host that can; its host is let use the share.

    The next start shows it to the guest, as a file system with the tag (the share's id by itself).
    """
    found = await find(call, server_id, RULE + "create")
    states.check("attach_share", found.server)
    cell = require_cell(found, "attach_share")
    await _check_host(call, found)
    given = call.body["share"]
    share = await _share(call, given["share_id"])
    row = ShareMapping(
        call.ids.uuid(),
        server_id,
        share.id,
        given.get("tag") or share.id,
        share.export or "",
        share.protocol,
    )

    def begin(tx: Tx) -> None:
        now = call.clock.now()
        servers.begin(tx, server_id, "attach_share", task=None, now=now)
        shares.add(tx, row, now=now)
        record(tx, call, ATTACH_SHARE.action, server_id)
        start(tx, call, ATTACH_SHARE, ShareSaga(server_id, share.id), server_id)

    await when_free(call, cell, begin)
    await call.app.wake()
    return {"share": _show(call, row)}


async def _check_host(call: Context, found: Found) -> None:
    """Conflict where the hypervisor, or the memory it would give the guest, cannot be shared."""
    host = found.server.host
    reports = (await call.app.cells.gather(nodes.reports, host or "")).rows()
    traits = {trait for report in reports for trait in report.traits}
    shared = MEMORY_FILE in traits or PAGES in found.server.flavor.extra_specs
    if VIRTIO_FS not in traits or not shared:
        raise Conflict(
            "The server's host cannot give it file shares: that needs virtio-fs, and memory in "
            f"files or the flavor's {PAGES}."
        )


async def _share(call: Context, share_id: str) -> Share:
    """NotFound; Conflict for a share that cannot be used."""
    try:
        if call.app.shares is None:
            raise _no_share(share_id)
        share = await call.app.shares.show(share_id, token=call.caller.token)
    except Unavailable:
        raise _no_share(share_id) from None
    if share.status != AVAILABLE:
        raise Conflict(f"Share {share_id} is in '{share.status}' instead of 'available' status.")
    if not share.export:
        raise Conflict(f"Share {share_id} has no export location.")
    if share.protocol not in PROTOCOLS:
        raise Conflict(f"Share protocol {share.protocol} is not supported.")
    return share


@ROUTES.get(
    "/{share_id}", since=97, query=NO_QUERY, responses=_SHOWN, summary="Show a server's share"
)
async def show(call: Context, server_id: str, share_id: str) -> dict[str, Any]:
    """One of the attached; administrators also see where it comes from."""
    found = await find(call, server_id, RULE + "show")
    return {"share": _show(call, await _attached(found, share_id))}


@ROUTES.delete("/{share_id}", since=97, status=200, summary="Detach a share")
async def delete(call: Context, server_id: str, share_id: str) -> None:
    """The server must be off."""
    found = await find(call, server_id, RULE + "delete")
    states.check("detach_share", found.server)
    cell = require_cell(found, "detach_share")
    await _attached(found, share_id)

    def begin(tx: Tx) -> None:
        now = call.clock.now()
        servers.begin(tx, server_id, "detach_share", task=None, now=now)
        if shares.find(tx, server_id, share_id) is None:
            raise _no_share(share_id)
        shares.set_status(tx, server_id, share_id, ShareStatus.DETACHING, now=now)
        record(tx, call, DETACH_SHARE.action, server_id)
        start(tx, call, DETACH_SHARE, ShareSaga(server_id, share_id), server_id)

    await when_free(call, cell, begin)
    await call.app.wake()


async def _attached(found: Found, share_id: str) -> ShareMapping:
    if len(share_id) != 36:
        raise BadRequest(f"Invalid uuid {share_id[:64]}")
    for row in await _of(found):
        if row.share_id == share_id:
            return row
    raise _no_share(share_id)


def _no_share(share_id: str) -> NotFound:
    return NotFound(f"Share {share_id} could not be found.")
