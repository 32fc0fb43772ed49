"""Legs of routers in subnets, and static routes added or removed one by one."""

from __future__ import annotations

import ipaddress
from typing import Any

from kilonova.base.errors import BadRequest, Conflict, NotFound
from kilonova.db.database import Tx
from kilonova.embedded.network.api import ports as port_api
from kilonova.embedded.network.api import routers
from kilonova.embedded.network.api.resource import own, usable
from kilonova.embedded.network.api.routers import ROUTER_RESOURCE
from kilonova.embedded.network.api.subnets import SUBNET_RESOURCE
from kilonova.embedded.network.app import NetworkApp, NetworkCall, Work
from kilonova.embedded.network.attrs import ROUTES as ROUTE_LIST
from kilonova.embedded.network.attrs import UUID
from kilonova.embedded.network.kinds import NETWORK, ROUTER
from kilonova.embedded.network.store import floating as floating_store
from kilonova.embedded.network.store import networks, rows
from kilonova.embedded.network.store import ports as port_store
from kilonova.embedded.network.store.rows import Row
from kilonova.web.routes import Routes
from kilonova.web.schema import Schema, shape

ROUTES: Routes[NetworkApp] = Routes(prefix="/v2.0/routers/{router_id}", tag="routers")

INTERFACE = Schema(
    {
        "type": "object",
        "properties": {"subnet_id": UUID, "port_id": UUID},
        "minProperties": 1,
        "maxProperties": 2,
        "additionalProperties": False,
    }
)
EXTRA = Schema(
    {
        "type": "object",
        "properties": {
            "router": {
                "type": "object",
                "properties": {"routes": ROUTE_LIST},
                "required": ["routes"],
                "additionalProperties": False,
            }
        },
        "required": ["router"],
        "additionalProperties": False,
    }
)


_WORDS = ("id", "tenant_id", "project_id", "port_id", "network_id")
LEG = Schema(
    shape(
        {
            **dict.fromkeys(_WORDS, str),
            "subnet_id": str | None,
            "subnet_ids": [str],
            "tags": [str],
        }
    )
)


@ROUTES.put("/add_router_interface", policy="add_router_interface", body=INTERFACE, responses=LEG)
async def add_interface(call: NetworkCall, router_id: str) -> dict[str, Any]:
    """Put a leg of the router into a subnet (at its gateway address) or take a port as one."""

    def work(job: Work) -> dict[str, Any]:
        router = own(job.tx, ROUTER_RESOURCE, call, router_id)
        if "port_id" in call.body and "subnet_id" in call.body:
            raise BadRequest(
                "Bad router request: Cannot specify both subnet-id and port-id.", code="BadRequest"
            )
        if "port_id" in call.body:
            port = _take_port(job, router, call.body["port_id"])
        else:
            port = add_leg(job, router, call.body["subnet_id"])
        return _interface(router, port)

    return await call.app.write(call.caller, work, ids=call.ids)


@ROUTES.put(
    "/remove_router_interface", policy="remove_router_interface", body=INTERFACE, responses=LEG
)
async def remove_interface(call: NetworkCall, router_id: str) -> dict[str, Any]:
    """Take a leg away, unless floating IPs need it."""
    asked_port, subnet_id = call.body.get("port_id"), call.body.get("subnet_id")

    def work(job: Work) -> dict[str, Any]:
        router = own(job.tx, ROUTER_RESOURCE, call, router_id)
        for port in port_store.of_device(job.tx, router["id"], port_store.ROUTER):
            inside = [ip["subnet_id"] for ip in port["fixed_ips"]]
            if asked_port in (None, port["id"]) and (subnet_id is None or subnet_id in inside):
                break
        else:
            raise NotFound(
                f"Router {router['id']} does not have an interface with id {asked_port}"
                if asked_port
                else f"Router {router['id']} has no interface on subnet {subnet_id}",
                code="RouterInterfaceNotFound"
                if asked_port
                else "RouterInterfaceNotFoundForSubnet",
            )
        _refuse_used(job.tx, router, inside)
        port_store.remove(job.tx, port["id"])
        return _interface(router, port)

    return await call.app.write(call.caller, work, ids=call.ids)


@ROUTES.put("/add_extraroutes", policy="update_router", body=EXTRA, responses=ROUTER.answer())
async def add_routes(call: NetworkCall, router_id: str) -> dict[str, Any]:
    """Add static routes to those there are."""
    return await _change_routes(call, router_id, add=True)


@ROUTES.put("/remove_extraroutes", policy="update_router", body=EXTRA, responses=ROUTER.answer())
async def remove_routes(call: NetworkCall, router_id: str) -> dict[str, Any]:
    """Take static routes away; those that are not there do not matter."""
    return await _change_routes(call, router_id, add=False)


def add_leg(job: Work, router: Row, subnet_id: str) -> Row:
    """A leg of the router at a subnet's gateway address."""
    subnet = usable(job, SUBNET_RESOURCE, subnet_id)
    network = rows.need(job.tx, NETWORK, subnet["network_id"])
    if not (job.admin or network["shared"] or network["project_id"] == job.project_id):
        raise rows.missing(SUBNET_RESOURCE.kind, subnet_id)
    if not subnet["gateway_ip"]:
        raise BadRequest(
            "Bad router request: Subnet for router interface must have a gateway IP.",
            code="BadRequest",
        )
    _refuse_overlap(job.tx, router, subnet)
    return port_api.make(
        job,
        network_id=subnet["network_id"],
        project_id=router["project_id"],
        device_id=router["id"],
        device_owner=port_store.ROUTER,
        fixed_ips=[{"subnet_id": subnet["id"], "ip_address": subnet["gateway_ip"]}],
    )


async def _change_routes(call: NetworkCall, router_id: str, *, add: bool) -> dict[str, Any]:
    given = call.body["router"]["routes"] or []

    def work(job: Work) -> dict[str, Any]:
        row = own(job.tx, ROUTER_RESOURCE, call, router_id)
        left = [route for route in row["routes"] if route not in given]
        wanted = routers.checked_routes(job.tx, row, [*left, *given]) if add else left
        row = rows.update(job.tx, ROUTER, row, {"routes": wanted}, job.now)
        return routers.render(job.tx, [row], job.admin)[0]

    return {"router": await call.app.write(call.caller, work, ids=call.ids)}


def _interface(router: Row, port: Row) -> dict[str, Any]:
    subnets = [ip["subnet_id"] for ip in port["fixed_ips"]]
    return {
        "id": router["id"],
        "tenant_id": router["project_id"],
        "project_id": router["project_id"],
        "port_id": port["id"],
        "network_id": port["network_id"],
        "subnet_id": subnets[0] if subnets else None,
        "subnet_ids": subnets,
        "tags": router["tags"],
    }


def _take_port(job: Work, router: Row, port_id: str) -> Row:
    kind = port_api.PORT_RESOURCE.kind
    port = usable(job, port_api.PORT_RESOURCE, port_id)
    if not job.admin and port["project_id"] != job.project_id:
        raise rows.missing(kind, port_id)
    if port["device_id"] or port["binding_host_id"]:
        raise Conflict(
            f"Unable to complete operation on port {port_id} for network {port['network_id']}. "
            f"Port already has an attached device {port['device_id']}.",
            code="PortInUse",
        )
    if not port["fixed_ips"]:
        raise BadRequest(
            "Bad router request: Router port must have at least one fixed IP.", code="BadRequest"
        )
    for subnet in networks.subnets_by_id(job.tx, [ip["subnet_id"] for ip in port["fixed_ips"]]):
        _refuse_overlap(job.tx, router, subnet)
    port_store.set_groups(job.tx, port_id, ())
    changes = {
        "device_id": router["id"],
        "device_owner": port_store.ROUTER,
        "status": "ACTIVE",
        "port_security_enabled": False,
        "allowed_address_pairs": [],
    }
    return rows.update(job.tx, kind, port, changes, job.now)


def _refuse_overlap(tx: Tx, router: Row, subnet: Row) -> None:
    net = ipaddress.ip_network(subnet["cidr"])
    legs = port_store.of_device(tx, router["id"])
    taken = [ip["subnet_id"] for p in legs for ip in p["fixed_ips"]]
    for other in networks.subnets_by_id(tx, taken):
        present = ipaddress.ip_network(other["cidr"])
        if other["id"] == subnet["id"]:
            raise BadRequest(
                f"Bad router request: Router already has a port on subnet {subnet['id']}.",
                code="BadRequest",
            )
        if present.version == net.version and present.overlaps(net):
            raise BadRequest(
                f"Bad router request: Cidr {net} of subnet {subnet['id']} overlaps with cidr "
                f"{present} of subnet {other['id']}.",
                code="BadRequest",
            )


def _refuse_used(tx: Tx, router: Row, subnet_ids: list[str]) -> None:
    carried = floating_store.of_router(tx, router["id"])
    inside = port_store.by_ids(tx, [floating["port_id"] for floating in carried])
    if any(ip["subnet_id"] in subnet_ids for p in inside.values() for ip in p["fixed_ips"]):
        raise Conflict(
            f"Router interface for subnet {subnet_ids[0]} on router {router['id']} cannot be "
            "deleted, as it is required by one or more floating IPs.",
            code="RouterInterfaceInUseByFloatingIP",
        )
