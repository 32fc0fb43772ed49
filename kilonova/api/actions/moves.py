"""Moving servers: shelve, unshelve."""

from __future__ import annotations

from typing import Any

from kilonova.api import quota_rules
from kilonova.api.actions.later import (
    LATER,
    allowed,
    check,
    compute_of,
    not_yet,
)
from kilonova.api.actions.power import PATH
from kilonova.api.find import find, target
from kilonova.api.schemas import NAME, closed
from kilonova.base.errors import BadRequest, Conflict
from kilonova.context import Context, Services
from kilonova.domain.states import VmState, status
from kilonova.store import aggregates, services
from kilonova.web.routes import Routes
from kilonova.web.schema import Schema, between, pick, since, until

ROUTES: Routes[Services] = Routes(tag="server actions")
SHELVE_RULE = "os_compute_api:os-shelve:"

UNSHELVE = Schema(
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


def _plain(action: str) -> Schema:
    return Schema(closed({action: {}}, action))


@ROUTES.post(PATH, action="shelve", body=_plain("shelve"), status=202, tags=LATER, summary="Shelve")
async def shelve(call: Context, server_id: str) -> None:
    """Keep the server as an image."""
    await allowed(call, server_id, SHELVE_RULE + "shelve", "shelve")
    raise not_yet("shelve")


@ROUTES.post(
    PATH,
    action="shelveOffload",
    body=_plain("shelveOffload"),
    status=202,
    tags=LATER,
    summary="Take a shelved server off its host",
)
async def offload(call: Context, server_id: str) -> None:
    """Free the host of a shelved server."""
    await allowed(call, server_id, SHELVE_RULE + "shelve_offload", "shelveOffload")
    raise not_yet("shelveOffload")


@ROUTES.post(PATH, action="unshelve", body=UNSHELVE, status=202, tags=LATER, summary="Unshelve")
async def unshelve(call: Context, server_id: str) -> None:
    """Bring a shelved server back; an offloaded one in a zone (2.77) or on a host (2.91)."""
    found = await find(call, server_id, SHELVE_RULE + "unshelve")
    options: dict[str, Any] = (call.body["unshelve"] if call.version >= 77 else None) or {}
    host = options.get("host")
    if host is not None:
        call.enforce(SHELVE_RULE + "unshelve_to_host", target(found.server))
    check(call, found, "unshelve")
    server = found.server
    if options and server.vm_state != VmState.SHELVED_OFFLOADED:
        raise Conflict(
            "Specifying an availability zone or a host when unshelving server "
            f"{server_id} with status '{status(server.vm_state, server.task_state)}' is not "
            "supported. Server status must be SHELVED_OFFLOADED."
        )
    zone = options.get("availability_zone")
    if zone is not None and zone not in await _zones(call):
        raise BadRequest("The requested availability zone is not available")
    if host is not None and await compute_of(call, host) is None:
        raise BadRequest(f"Compute host {host} could not be found.")
    if server.vm_state == VmState.SHELVED_OFFLOADED:
        await quota_rules.check_return(call, server)
    raise not_yet("unshelve")


async def _zones(call: Context) -> set[str]:
    """The zones that have an enabled host."""
    default = call.app.settings.default.default_availability_zone
    by_host = await call.app.db.read(aggregates.zones)
    found = await call.app.cells.gather(services.page, binary="nova-compute")
    return {by_host.get(row.host, default) for row in found.rows() if not row.disabled}
