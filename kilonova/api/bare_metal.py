"""``/os-baremetal-nodes`` (to 2.35): the machines of the bare metal service."""

from __future__ import annotations

from typing import Any

from kilonova.api.schemas import QUERY_NONE
from kilonova.base.errors import BadRequest, NotSupported, Unavailable
from kilonova.context import Context, Services
from kilonova.interfaces.baremetal import BareMetalNode, BareMetalService
from kilonova.web.routes import Routes
from kilonova.web.schema import answers

ROUTES: Routes[Services] = Routes(prefix="/os-baremetal-nodes", tag="hosts")
RULE = "os_compute_api:os-baremetal-nodes:"
LAST = 35
HOST = "IRONIC MANAGED"


def _service(call: Context) -> BareMetalService:
    if call.app.bare_metal is None:
        raise _none()
    return call.app.bare_metal


def _none() -> NotSupported:
    return NotSupported("Ironic client unavailable, cannot access Ironic.")


def _shown(node: BareMetalNode) -> dict[str, Any]:
    def size(name: str) -> str:
        return str(node.properties.get(name, 0))

    return {
        "id": node.id,
        "interfaces": [],
        "host": HOST,
        "task_state": node.state,
        "cpus": size("cpus"),
        "memory_mb": size("memory_mb"),
        "disk_gb": size("local_gb"),
    }


_NODE = {
    "id": str,
    "interfaces": [{"address": str}],
    "host": str,
    "task_state": str | None,
    "cpus": str,
    "memory_mb": str,
    "disk_gb": str,
}


@ROUTES.get(
    "",
    until=LAST,
    policy=RULE + "list",
    query=QUERY_NONE,
    also=(501,),
    responses=answers(nodes=[_NODE]),
    summary="List bare metal nodes",
)
async def index(call: Context) -> dict[str, Any]:
    """Every machine; NotSupported (501) where there is no bare metal service."""
    try:
        return {"nodes": [_shown(node) for node in await _service(call).nodes()]}
    except Unavailable:
        raise _none() from None


@ROUTES.get(
    "/{node_id}",
    until=LAST,
    policy=RULE + "show",
    query=QUERY_NONE,
    also=(501,),
    responses=answers(node={**_NODE, "instance_uuid": str | None}),
    summary="Show a bare metal node",
)
async def show(call: Context, node_id: str) -> dict[str, Any]:
    """One machine with its instance and its network cards."""
    service = _service(call)
    try:
        node = await service.node(node_id)
        addresses = await service.addresses(node.id)
    except Unavailable:
        raise _none() from None
    cards = [{"address": address} for address in addresses]
    return {"node": {**_shown(node), "interfaces": cards, "instance_uuid": node.instance_id}}


def _old_command(name: str) -> BadRequest:
    return BadRequest(f"Compute does not do this any more; use Ironic's {name}.")


@ROUTES.post("", until=LAST, summary="Kept for old clients")
async def create(call: Context) -> None:
    """Always refused."""
    raise _old_command("node-create")


@ROUTES.delete("/{node_id}", until=LAST, summary="Kept for old clients")
async def delete(call: Context, node_id: str) -> None:
    """Always refused."""
    raise _old_command("node-delete")


@ROUTES.post(
    "/{node_id}/action", action="add_interface", until=LAST, summary="Kept for old clients"
)
async def add_interface(call: Context, node_id: str) -> None:
    """Always refused."""
    raise _old_command("port-create")


@ROUTES.post(
    "/{node_id}/action", action="remove_interface", until=LAST, summary="Kept for old clients"
)
async def remove_interface(call: Context, node_id: str) -> None:
    """Always refused."""
    raise _old_command("port-delete")
