"""Looking up the server a path names, wherever it is, as its project may see it."""

from __future__ import annotations

from typing import Any

import msgspec

from kilonova.base.errors import Conflict, NotFound
from kilonova.context import Context
from kilonova.db.cells import Cell
from kilonova.db.database import Tx
from kilonova.domain.server import BuildRequest, Mapping, Server
from kilonova.store import groups, mappings, servers
from kilonova.store.servers import Extras

ADMIN = "context_is_admin"
NONE = Extras()


class Found(msgspec.Struct, frozen=True):
    """A server and where it is: in ``cell``, or with a build ``request`` only."""

    server: Server
    cell: Cell | None = None
    request: BuildRequest | None = None


def missing(server_id: str) -> NotFound:
    """The error of a server that is not there, or not for this caller."""
    return NotFound(f"Instance {server_id} could not be found.", code="server.not_found")


def is_admin(call: Context) -> bool:
    """Whether the caller sees every project."""
    return call.allows(ADMIN, {})


def target(server: Server) -> dict[str, Any]:
    """Whose server it is, for policies."""
    return {"project_id": server.project_id, "user_id": server.user_id}


def _locate(
    tx: Tx, server_id: str, with_groups: bool
) -> tuple[Mapping | None, BuildRequest | None, tuple[str, ...]]:
    mapping = mappings.find(tx, server_id)
    if mapping is None:
        return None, None, ()
    own = groups.of_server(tx, server_id) if with_groups else ()
    if mapping.cell_id is not None:
        return mapping, None, own
    return mapping, servers.building(tx, server_id), own


async def find(
    call: Context,
    server_id: str,
    rule: str | None = None,
    *,
    extras: Extras = NONE,
    deleted: bool = False,
    groups: bool = False,
) -> Found:
    """The server, if it is the caller's project's (or the caller is an administrator).

    Then ``rule`` is enforced on it. ``deleted``: also one that was deleted. ``groups``: with the
    ids of its server groups. NotFound, Forbidden.
    """
    found = await _find(call, server_id, extras, deleted=deleted, with_groups=groups)
    if rule is not None:
        call.enforce(rule, target(found.server))
    return found


async def _find(
    call: Context, server_id: str, extras: Extras, *, deleted: bool, with_groups: bool
) -> Found:
    # Between two looks a server may move from its build request into a cell, or back.
    for _ in range(3):
        mapping, request, own = await call.app.db.read(_locate, server_id, with_groups)
        if mapping is None or not (mapping.project_id == call.caller.project_id or is_admin(call)):
            raise missing(server_id)
        if mapping.cell_id is not None:
            cell = call.app.cells.get(mapping.cell_id)
            server = await cell.db.read(servers.get, server_id, extras, deleted=deleted)
            if server is not None:
                return Found(_grouped(server, own), cell)
            if mapping.queued_for_delete:
                break
        elif request is not None:
            server = request.server
            if extras.user_data:
                server = msgspec.structs.replace(server, user_data=request.private.user_data)
            return Found(_grouped(server, own), None, request)
        elif mapping.queued_for_delete:
            break
    raise missing(server_id)


def _grouped(server: Server, groups: tuple[str, ...]) -> Server:
    return msgspec.structs.replace(server, groups=groups) if groups else server


def require_cell(found: Found, word: str) -> Cell:
    """The server's cell; Conflict while it is not in one."""
    if found.cell is None:
        server = found.server
        raise Conflict(
            f"Cannot '{word}' instance {server.id} while it is in vm_state {server.vm_state}"
        )
    return found.cell
