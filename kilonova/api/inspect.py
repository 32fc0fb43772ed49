"""Looking into a server: diagnostics, topology, and the password its guest has set."""

from __future__ import annotations

from typing import Any

import msgspec

from kilonova.api.agents import ask
from kilonova.api.find import Found, find, require_cell, target
from kilonova.api.schemas import no_query
from kilonova.base.errors import BadRequest, Conflict
from kilonova.context import Context, Services
from kilonova.db.database import Tx
from kilonova.domain import states
from kilonova.domain.diagnostics import CpuUse, Diagnostics, DiskUse, NicUse
from kilonova.domain.fit import wanted
from kilonova.domain.fit.shapes import GuestCell, GuestTopology
from kilonova.domain.guest import PowerState
from kilonova.domain.operations import DIAGNOSTICS, GuestName
from kilonova.messaging.bus import NoReply, Undelivered
from kilonova.store import holds, servers
from kilonova.web.routes import Routes
from kilonova.web.schema import Schema, answers, pick, shape, since, until
from kilonova.web.view import Field, View

ROUTES: Routes[Services] = Routes(prefix="/servers/{server_id}", tag="server insides")
PASSWORD = "password"


def _table(kind: type[msgspec.Struct], *names: str) -> View:
    return View(kind.__name__, [Field(name) for name in names])


CPU = _table(CpuUse, "id", "time", "utilisation")
NIC = _table(NicUse, *(name for name in NicUse.__struct_fields__ if name != "name"))
DISK = _table(DiskUse, *(name for name in DiskUse.__struct_fields__ if name != "name"))
DIAGNOSIS = View(
    "diagnostics",
    [
        Field("state"),
        Field("driver"),
        Field("hypervisor"),
        Field("hypervisor_os"),
        Field("uptime"),
        Field("config_drive"),
        Field("num_cpus", lambda d: len(d.cpus)),
        Field("num_nics", lambda d: len(d.nics)),
        Field("num_disks", lambda d: len(d.disks)),
        Field("memory_details", lambda d: {"maximum": d.maximum_memory, "used": d.used_memory}),
        Field("cpu_details", lambda d: CPU.render_all(d.cpus)),
        Field("nic_details", lambda d: NIC.render_all(d.nics)),
        Field("disk_details", lambda d: DISK.render_all(d.disks)),
    ],
)


@ROUTES.get(
    "/diagnostics",
    query=no_query(),
    also=(409, 501),
    responses=Schema(pick(until(47, shape({str: int})), since(48, DIAGNOSIS))),
    summary="Show counters of a server's guest",
)
async def diagnostics(call: Context, server_id: str) -> dict[str, Any]:
    """One form for all hypervisors from 2.48, flat counters before."""
    found = await find(call, server_id, "os_compute_api:os-server-diagnostics")
    states.check("diagnostics", found.server)
    cell = require_cell(found, "get_diagnostics")
    if found.server.power_state != PowerState.RUNNING:
        raise Conflict(
            f"Cannot 'get_diagnostics' instance {server_id} while it is in power state "
            f"{found.server.power_state}"
        )
    assert found.server.host is not None
    try:
        told = await ask(
            call, cell, found.server.host, DIAGNOSTICS, server_id, GuestName(server_id)
        )
    except (Undelivered, NoReply):
        raise Conflict(f"Instance {server_id} is not ready: its host is down.") from None
    return DIAGNOSIS.render(told, call.version) if call.version >= 48 else _flat(told)


def _flat(told: Diagnostics) -> dict[str, Any]:
    """The counters under names made of their devices; memory is KiB here."""
    flat: dict[str, Any] = {}
    for cpu in told.cpus:
        flat[f"cpu{cpu.id}_time"] = cpu.time
    for disk in told.disks:
        flat[f"{disk.name}_read_req"] = disk.read_requests
        flat[f"{disk.name}_read"] = disk.read_bytes
        flat[f"{disk.name}_write_req"] = disk.write_requests
        flat[f"{disk.name}_write"] = disk.write_bytes
        flat[f"{disk.name}_errors"] = disk.errors_count
    flat["memory"] = told.maximum_memory << 10
    flat["memory-actual"] = told.maximum_memory << 10
    flat["memory-rss"] = told.used_memory << 10
    for nic in told.nics:
        if not nic.name:
            continue
        for way in ("rx", "tx"):
            for short, field in (
                ("", "octets"),
                ("_packets", "packets"),
                ("_errors", "errors"),
                ("_drop", "drop"),
            ):
                flat[f"{nic.name}_{way}{short}"] = getattr(nic, f"{way}_{field}")
    return flat


_NODE = {
    "vcpu_set": [int],
    "siblings": [[int]],
    "memory_mb": int,
    "cpu_pinning?": {str: int},
    "host_node?": int,
}
TOPOLOGY = answers(nodes=[_NODE], pagesize_kb=int | None)


@ROUTES.get(
    "/topology",
    since=78,
    query=no_query(),
    responses=TOPOLOGY,
    summary="Show a server's NUMA cells",
)
async def topology(call: Context, server_id: str) -> dict[str, Any]:
    """The NUMA cells of the guest; where they are on the host is for administrators."""
    found = await find(call, server_id, "compute:server:topology:index")
    shape = await _shape(found)
    if shape is None:
        return {"nodes": [], "pagesize_kb": None}
    inside = call.allows("compute:server:topology:host:index", target(found.server))
    pages = shape.cells[0].page_kb
    return {
        "nodes": [_node(cell, inside=inside) for cell in shape.cells],
        "pagesize_kb": pages if pages is not None and pages > 0 else None,
    }


async def _shape(found: Found) -> GuestTopology | None:
    """The topology as it was placed, else as flavor and image ask for it."""
    server = found.server
    if found.cell is not None and server.host is not None:
        held = await found.cell.db.read(holds.get, server.id, server.host)
        if held is not None and held.topology is not None:
            return held.topology
    try:
        return wanted.topology(server.flavor, server.image.properties if server.image else {})
    except BadRequest:
        return None


def _node(cell: GuestCell, *, inside: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "vcpu_set": sorted(cell.cpus | cell.pcpus),
        "siblings": [],
        "memory_mb": cell.memory_mb,
    }
    if inside:
        shown["cpu_pinning"] = {str(vcpu): cpu for vcpu, cpu in cell.pins}
        if cell.host_cell is not None:
            shown["host_node"] = cell.host_cell
    return shown


@ROUTES.get(
    "/os-server-password",
    query=no_query(),
    responses=answers(password=str),
    summary="Show the guest's password",
)
async def password(call: Context, server_id: str) -> dict[str, Any]:
    """What the guest posted to its metadata service, encrypted for the owner's key."""
    found = await find(call, server_id, "os_compute_api:os-server-password:show")
    private = await found.cell.db.read(servers.private, server_id) if found.cell else None
    return {PASSWORD: private.system.get(PASSWORD, "") if private else ""}


@ROUTES.delete("/os-server-password", status=204, summary="Forget the guest's password")
async def clear(call: Context, server_id: str) -> None:
    """The record is cleared; the guest's password stays what it is."""
    found = await find(call, server_id, "os_compute_api:os-server-password:clear")
    if found.cell is not None:
        await found.cell.db.run(_clear, call, server_id)


def _clear(tx: Tx, call: Context, server_id: str) -> None:
    private = servers.private(tx, server_id)
    if private is not None and PASSWORD in private.system:
        left = {key: value for key, value in private.system.items() if key != PASSWORD}
        servers.update(tx, server_id, now=call.clock.now(), system=left)
