"""Moving servers: live-migrate, evacuate, shelve, unshelve."""

from __future__ import annotations

from typing import Any

from kilonova.api import quota_rules
from kilonova.api.actions.later import (
    LATER,
    allowed,
    check,
    compute_of,
    host_is_up,
    not_yet,
)
from kilonova.api.actions.power import PATH
from kilonova.api.find import find, target
from kilonova.api.schemas import BOOLEAN, HOST, NAME, Tree, closed, truth
from kilonova.base.errors import BadRequest, Conflict, NotFound
from kilonova.context import Context, Services
from kilonova.domain.states import VmState, status
from kilonova.store import aggregates, services
from kilonova.web.routes import Routes
from kilonova.web.schema import Schema, between, pick, since, until

ROUTES: Routes[Services] = Routes(tag="server actions")
MIGRATE_RULE = "os_compute_api:os-migrate-server:"
SHELVE_RULE = "os_compute_api:os-shelve:"

MAYBE_HOST: Tree = {**HOST, "type": ["string", "null"]}
_BLOCK: Tree = {**BOOLEAN, "enum": [*BOOLEAN["enum"], "auto"]}
LIVE = Schema(
    closed(
        {
            "os-migrateLive": closed(
                {
                    "block_migration": pick(until(24, BOOLEAN), since(25, _BLOCK)),
                    "disk_over_commit": until(24, BOOLEAN),
                    "host": MAYBE_HOST,
                    "force": between(30, 67, BOOLEAN),
                },
                "block_migration",
                "host",
                until(24, "disk_over_commit"),
            )
        },
        "os-migrateLive",
    )
)
EVACUATE = Schema(
    closed(
        {
            "evacuate": closed(
                {
                    "host": HOST,
                    "onSharedStorage": until(13, BOOLEAN),
                    "adminPass": {"type": "string"},
                    "force": between(29, 67, BOOLEAN),
                },
                until(13, "onSharedStorage"),
            )
        },
        "evacuate",
    )
)
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


@ROUTES.post(
    PATH, action="os-migrateLive", body=LIVE, status=202, tags=LATER, summary="Live-migrate"
)
async def live(call: Context, server_id: str) -> None:
    """To another host while the guest runs."""
    options = call.body["os-migrateLive"]
    host = options["host"]
    found = await find(call, server_id, MIGRATE_RULE + "migrate_live")
    if host is not None:
        call.enforce(MIGRATE_RULE + "migrate_live:host", target(found.server))
    if truth(options.get("force", False)) and host is None:
        raise BadRequest("Can't force to a non-provided destination")
    check(call, found, "os-migrateLive")
    if host is not None and await compute_of(call, host) is None:
        raise BadRequest(f"Compute host {host} could not be found.")
    if host is not None and host == found.server.host:
        raise BadRequest(f"Unable to migrate instance ({server_id}) to current host ({host}).")
    raise not_yet("os-migrateLive")


@ROUTES.post(PATH, action="evacuate", body=EVACUATE, tags=LATER, summary="Evacuate")
async def evacuate(call: Context, server_id: str) -> None:
    """Make the server anew elsewhere; its host must be down."""
    options = call.body["evacuate"]
    found = await find(call, server_id, "os_compute_api:os-evacuate")
    host = options.get("host")
    if truth(options.get("force", False)) and not host:
        raise BadRequest("Can't force to a non-provided destination")
    if call.version < 14 and truth(options["onSharedStorage"]) and "adminPass" in options:
        raise BadRequest("admin password can't be changed on existing disk")
    if host is not None and await compute_of(call, host) is None:
        raise NotFound(f"Compute host {host} not found.")
    if host is not None and host == found.server.host:
        raise BadRequest("The target host can't be the same one.")
    check(call, found, "evacuate")
    if await host_is_up(call, found.server.host):
        raise BadRequest(f"Compute service of {found.server.host} is still in use.")
    raise not_yet("evacuate")


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
