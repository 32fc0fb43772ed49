"""``/os-hosts`` (to 2.42): the hosts as administrators had them before."""

from __future__ import annotations

from typing import Any

from kilonova.api import providers
from kilonova.api.agents import ask
from kilonova.api.schemas import QUERY_NONE, closed
from kilonova.api.zones import COMPUTE, zone_of, zone_of_hosts
from kilonova.base.errors import BadRequest, NotFound
from kilonova.context import Context, Services
from kilonova.db.cells import Cell
from kilonova.db.database import Tx
from kilonova.domain.guest import FlavorSpec, HostReport
from kilonova.domain.operations import SWITCH_HOST, HostSwitch
from kilonova.messaging.bus import NoReply, Undelivered
from kilonova.store import nodes, servers, services
from kilonova.web.routes import Routes
from kilonova.web.schema import Schema, answers

ROUTES: Routes[Services] = Routes(tag="hosts")
RULE = "os_compute_api:os-hosts:"
LAST = 42

_SWITCH = {
    "type": "string",
    "enum": ["enable", "disable", "Enable", "Disable", "ENABLE", "DISABLE"],
}
LIST = Schema(
    {
        "type": "object",
        "properties": {"zone": {"type": "string"}},
        "additionalProperties": True,
    }
)
UPDATE = Schema(
    closed(
        {"status": _SWITCH, "maintenance_mode": _SWITCH},
        anyOf=[{"required": ["status"]}, {"required": ["maintenance_mode"]}],
    )
)


_RESOURCE = {"host": str, "project": str, "cpu": int, "memory_mb": int, "disk_gb": int}
_POWER = answers(host=str, power_action=str)


@ROUTES.get(
    "/os-hosts",
    until=LAST,
    policy=RULE + "list",
    query=LIST,
    responses=answers(hosts=[{"host_name": str, "service": str, "zone": str}]),
    summary="List hosts",
)
async def index(call: Context) -> dict[str, Any]:
    """Every service with its host and zone."""
    zones = await zone_of_hosts(call)
    found = (await call.app.cells.gather(services.page)).rows()
    wanted = call.query.get("zone") or None  # an empty one is none
    rows = [
        {"host_name": row.host, "service": row.topic, "zone": zone_of(call, row, zones)}
        for row in found
    ]
    return {"hosts": [row for row in rows if wanted in (None, row["zone"])]}


@ROUTES.get(
    "/os-hosts/{host}",
    until=LAST,
    policy=RULE + "show",
    query=QUERY_NONE,
    responses=answers(host=[{"resource": _RESOURCE}]),
    summary="Show a host",
)
async def show(call: Context, host: str) -> dict[str, Any]:
    """What it has, what is used, what its servers may use, and each project's part of that."""
    answers = await call.app.cells.gather(_inside, host)
    for _, (report, flavors) in answers.found:
        if report is not None:
            return {"host": _resources(host, report, flavors)}
    raise NotFound(f"Compute host {host} could not be found.")


def _inside(tx: Tx, host: str) -> tuple[HostReport | None, list[tuple[str, FlavorSpec]]]:
    found = nodes.page(tx, host=host)
    if not found:
        return None, []
    return found[0].report, [(s.project_id, s.flavor) for s in servers.on_host(tx, host)]


def _resources(
    host: str, report: HostReport, flavors: list[tuple[str, FlavorSpec]]
) -> list[dict[str, Any]]:
    def row(project: str, cpu: int, memory: int, disk: int) -> dict[str, Any]:
        return {
            "resource": {
                "host": host,
                "project": project,
                "cpu": cpu,
                "memory_mb": memory,
                "disk_gb": disk,
            }
        }

    parts: dict[str, list[int]] = {"(used_max)": [0, 0, 0]}
    for project, flavor in flavors:
        amounts = (flavor.vcpus, flavor.memory_mb, flavor.root_gb + flavor.ephemeral_gb)
        for name in ("(used_max)", project):
            before = parts.setdefault(name, [0, 0, 0])
            parts[name] = [a + b for a, b in zip(before, amounts, strict=True)]
    return [
        row("(total)", report.vcpus, report.memory_mb, report.disk_gb),
        row("(used_now)", report.used_vcpus, report.used_memory_mb, report.used_disk_gb),
        *(row(project, *amounts) for project, amounts in parts.items()),
    ]


@ROUTES.put(
    "/os-hosts/{host}",
    until=LAST,
    policy=RULE + "update",
    body=UPDATE,
    also=(501,),
    responses=answers(host=str),
    summary="Change a host",
)
async def update(call: Context, host: str) -> dict[str, Any]:
    """Take it out of service or back, or into and out of maintenance."""
    body = {name: word.lower() == "enable" for name, word in call.body.items()}
    cell = await _cell(call, host)
    shown: dict[str, Any] = {"host": host}
    if "status" in body:
        await _enable(call, cell, host, enabled=body["status"])
        shown["status"] = "enabled" if body["status"] else "disabled"
    if "maintenance_mode" in body:
        maintained = body["maintenance_mode"]
        await _switch(call, cell, host, "maintain" if maintained else "serve")
        shown["maintenance_mode"] = "on_maintenance" if maintained else "off_maintenance"
    return shown


async def _enable(call: Context, cell: Cell, host: str, *, enabled: bool) -> None:
    def write(tx: Tx) -> None:
        row = services.find(tx, host, COMPUTE)
        if row is not None:
            services.update(tx, row.id, now=call.clock.now(), disabled=not enabled)

    await cell.db.run(write)
    await providers.switched(call, host, disabled=not enabled)


async def _cell(call: Context, host: str) -> Cell:
    answers = await call.app.cells.gather(services.find, host, COMPUTE)
    for cell, row in answers.found:
        if row is not None:
            return cell
    raise NotFound(f"Compute host {host} could not be found.")


async def _power(call: Context, host: str, action: str) -> dict[str, str]:
    await _switch(call, await _cell(call, host), host, action)
    return {"host": host, "power_action": action}


async def _switch(call: Context, cell: Cell, host: str, action: str) -> None:
    """NotSupported (501) where the hypervisor cannot; BadRequest for a host that is down."""
    try:
        await ask(call, cell, host, SWITCH_HOST, "", HostSwitch(action))
    except (Undelivered, NoReply):
        raise BadRequest(f"Compute service of {host} is unavailable at this time.") from None


@ROUTES.get(
    "/os-hosts/{host}/reboot",
    until=LAST,
    policy=RULE + "reboot",
    query=QUERY_NONE,
    also=(501,),
    responses=_POWER,
    summary="Restart a host",
)
async def reboot(call: Context, host: str) -> dict[str, str]:
    """Where its hypervisor can."""
    return await _power(call, host, "reboot")


@ROUTES.get(
    "/os-hosts/{host}/shutdown",
    until=LAST,
    policy=RULE + "shutdown",
    query=QUERY_NONE,
    also=(501,),
    responses=_POWER,
    summary="Switch a host off",
)
async def shutdown(call: Context, host: str) -> dict[str, str]:
    """Where its hypervisor can."""
    return await _power(call, host, "shutdown")


@ROUTES.get(
    "/os-hosts/{host}/startup",
    until=LAST,
    policy=RULE + "start",
    query=QUERY_NONE,
    also=(501,),
    responses=_POWER,
    summary="Switch a host on",
)
async def startup(call: Context, host: str) -> dict[str, str]:
    """Where its hypervisor can."""
    return await _power(call, host, "startup")
