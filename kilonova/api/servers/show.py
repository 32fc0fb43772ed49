"""``GET /servers/{server_id}`` and the small parts of it: addresses."""

from __future__ import annotations

from typing import Any

from kilonova.api.find import Found, find, target
from kilonova.api.schemas import no_query
from kilonova.api.servers import view
from kilonova.base.errors import NotFound, Unavailable
from kilonova.context import Context, Services
from kilonova.store import mappings, services
from kilonova.web.routes import Routes
from kilonova.web.schema import Schema, answers, shape

ROUTES: Routes[Services] = Routes(tag="servers")
SHOW = "os_compute_api:servers:show"


@ROUTES.get(
    "/servers/{server_id}",
    query=no_query(),
    responses=answers(server=view.SHOW),
    summary="Show a server",
)
async def show(call: Context, server_id: str) -> dict[str, Any]:
    """One server with everything its version shows."""
    rules = view.granted(call)
    try:
        found = await find(
            call,
            server_id,
            SHOW,
            extras=view.extras(call.version, rules),
            groups=call.version >= 71,
        )
    except Unavailable:
        return {"server": await _of_down_cell(call, server_id)}
    return {"server": await one(call, found, view.SHOW)}


async def _of_down_cell(call: Context, server_id: str) -> dict[str, Any]:
    """What is known of a server whose cell does not answer (2.69); before, Unavailable."""
    known = await call.app.db.read(mappings.brief, server_id)
    if call.version < 69 or known is None or known.spec is None:
        raise Unavailable(f"The cell of instance {server_id} does not answer; try again later.")
    call.enforce(SHOW, {"project_id": known.mapping.project_id})
    return view.outline(call, known.mapping, known.spec, known.created_at)


async def one(call: Context, found: Found, table: view.ServerView) -> dict[str, Any]:
    """A server rendered with that table for this caller."""
    server = found.server
    rules = view.granted(call, target(server))
    frame = view.Frame(call, rules)
    if view.wants_hosts(call.version, rules) and server.host and found.cell is not None:
        known = await found.cell.db.read(services.computes, [server.host])
        frame.with_hosts(known, call.clock.now(), call.app.settings.default.service_down_time)
    shown: dict[str, Any] = view.render(table, [server], frame)[0]
    return shown


@ROUTES.get(
    "/servers/{server_id}/ips",
    query=no_query(),
    responses=answers(addresses={"type": "object"}),
    summary="List addresses",
)
async def ips(call: Context, server_id: str) -> dict[str, Any]:
    """All addresses by network."""
    found = await find(call, server_id, "os_compute_api:ips:index")
    return {"addresses": view.bare_addresses(found.server)}


@ROUTES.get(
    "/servers/{server_id}/ips/{label}",
    query=no_query(),
    responses=Schema(shape({str: [{"addr": str, "version": int}]})),
    summary="Show addresses",
)
async def ip(call: Context, server_id: str, label: str) -> dict[str, Any]:
    """The addresses on one network."""
    found = await find(call, server_id, "os_compute_api:ips:show")
    table = view.bare_addresses(found.server)
    if label not in table:
        raise NotFound("Instance is not a member of specified network")
    return {label: table[label]}
