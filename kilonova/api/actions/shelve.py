"""``shelve``, ``shelveOffload``, ``unshelve``."""

from __future__ import annotations

from typing import Any

from kilonova.api import quota_rules
from kilonova.api.actions.checks import check, compute_of
from kilonova.api.actions.power import PATH, begin
from kilonova.api.find import Found, find, require_cell, target
from kilonova.api.schemas import NAME, closed
from kilonova.api.servers.volumes import check_zone
from kilonova.base.errors import BadRequest, Conflict
from kilonova.context import Context, Services
from kilonova.db.database import Tx
from kilonova.domain.sagas import (
    SHELVE,
    SHELVE_OFFLOAD,
    SHELVE_VOLUMES,
    UNSHELVE,
    UNSHELVE_HERE,
    ServerArgs,
    UnshelveArgs,
)
from kilonova.domain.states import Task, VmState, status
from kilonova.store import aggregates, servers, services
from kilonova.web.routes import Routes
from kilonova.web.schema import Schema, between, pick, since, until

ROUTES: Routes[Services] = Routes(tag="server actions")
RULE = "os_compute_api:os-shelve:"
ZONE = "availability_zone"

SHELVE_BODY = Schema(closed({"shelve": {}}, "shelve"))
OFFLOAD_BODY = Schema(closed({"shelveOffload": {}}, "shelveOffload"))
UNSHELVE_BODY = Schema(
    closed(
        {
            "unshelve": pick(
                until(76, {}),
                between(
                    77,
                    90,
                    closed(
                        {"availability_zone": NAME}, "availability_zone", type=["object", "null"]
                    ),
                ),
                since(
                    91,
                    closed(
                        {
                            "availability_zone": {"type": ["string", "null"]},
                            "host": {"type": "string"},
                        },
                        type=["object", "null"],
                    ),
                ),
            )
        },
        "unshelve",
    )
)


@ROUTES.post(PATH, action="shelve", body=SHELVE_BODY, status=202, summary="Shelve")
async def shelve(call: Context, server_id: str) -> None:
    """Keep the server as an image; one that starts from a volume leaves its host at once."""
    found = await find(call, server_id, RULE + "shelve")
    kind = SHELVE_VOLUMES if found.server.local_image is None else SHELVE
    cell = require_cell(found, "shelve")
    args = ServerArgs(server_id)
    await cell.db.run(begin, call, server_id, "shelve", Task.SHELVING, kind, args)
    await call.app.wake()


@ROUTES.post(
    PATH,
    action="shelveOffload",
    body=OFFLOAD_BODY,
    status=202,
    summary="Take a shelved server off its host",
)
async def offload(call: Context, server_id: str) -> None:
    """SHELVED becomes SHELVED_OFFLOADED: on no host, holding nothing but ports and volumes."""
    found = await find(call, server_id, RULE + "shelve_offload")
    cell = require_cell(found, "shelveOffload")
    args = ServerArgs(server_id)
    task = Task.SHELVING_OFFLOADING
    await cell.db.run(begin, call, server_id, "shelveOffload", task, SHELVE_OFFLOAD, args)
    await call.app.wake()


@ROUTES.post(PATH, action="unshelve", body=UNSHELVE_BODY, status=202, summary="Unshelve")
async def unshelve(call: Context, server_id: str) -> None:
    """Bring a shelved server back; an offloaded one in a zone (2.77) or on a host (2.91)."""
    found = await find(call, server_id, RULE + "unshelve")
    options: dict[str, Any] = (call.body["unshelve"] if call.version >= 77 else None) or {}
    if options.get("host") is not None:
        call.enforce(RULE + "unshelve_to_host", target(found.server))
    cell = require_cell(found, "unshelve")
    check(call, found, "unshelve")
    server = found.server
    if server.vm_state == VmState.SHELVED_OFFLOADED:
        await _check_place(call, found, options)
        await quota_rules.check_return(call, server)
    elif options:
        raise Conflict(
            "Specifying an availability zone or a host when unshelving server "
            f"{server_id} with status '{status(server.vm_state, server.task_state)}' is not "
            "supported. Server status must be SHELVED_OFFLOADED."
        )
    await cell.db.run(_begin, call, server_id, options)
    await call.app.wake()


def _begin(tx: Tx, call: Context, server_id: str, options: dict[str, Any]) -> None:
    """From where it is by now."""
    server = servers.get(tx, server_id, lock=True)
    task = Task.UNSHELVING
    if server is not None and server.vm_state == VmState.SHELVED:
        begin(tx, call, server_id, "unshelve", task, UNSHELVE_HERE, ServerArgs(server_id))
        return
    repin, zone = ZONE in options, options.get(ZONE)
    args = UnshelveArgs(server_id, options.get("host"), repin, zone)
    pinned = {"pinned_zone": zone} if repin else {}
    begin(tx, call, server_id, "unshelve", task, UNSHELVE, args, **pinned)


async def _check_place(call: Context, found: Found, options: dict[str, Any]) -> None:
    """BadRequest for zones and hosts that are not there, Conflict for what does not go together."""
    zone, host = options.get(ZONE), options.get("host")
    if zone is not None and zone not in await _zones(call):
        raise BadRequest("The requested availability zone is not available")
    if host is not None and await compute_of(call, host) is None:
        raise BadRequest(f"Compute host {host} could not be found.")
    wanted = zone if ZONE in options else found.server.pinned_zone
    if host is not None and wanted is not None:
        by_host = await call.app.db.read(aggregates.zones)
        default = call.app.settings.default.default_availability_zone
        if by_host.get(host, default) != wanted:
            raise Conflict(f"Host {host} is in another zone than {wanted}; leave one out.")
    if zone is not None and not call.app.settings.cinder.cross_az_attach:
        for reference in found.server.volumes:
            volume = await call.app.volumes.show(reference.id)
            try:
                check_zone(call, volume, zone)
            except BadRequest as fault:
                raise Conflict(fault.message) from None


async def _zones(call: Context) -> set[str]:
    """The zones that have an enabled host."""
    default = call.app.settings.default.default_availability_zone
    by_host = await call.app.db.read(aggregates.zones)
    found = await call.app.cells.gather(services.page, binary="nova-compute")
    return {by_host.get(row.host, default) for row in found.rows() if not row.disabled}
