"""Routers: gateway into an external network, interfaces in subnets, extra routes."""

from __future__ import annotations

import ipaddress
from typing import Any

import sqlalchemy as sa

from kilonova.base.errors import BadRequest, Conflict, NotFound
from kilonova.db.database import Tx
from kilonova.embedded.network import rules
from kilonova.embedded.network.api import ports as port_api
from kilonova.embedded.network.api.common import Resource, nothing_else, one_of, own, routes, write
from kilonova.embedded.network.api.networks import NETWORK_RESOURCE
from kilonova.embedded.network.api.subnets import SUBNET_RESOURCE
from kilonova.embedded.network.app import NetworkCall, Work
from kilonova.embedded.network.attrs import ROUTER, UUID
from kilonova.embedded.network.store import floating as floating_store
from kilonova.embedded.network.store import ports as port_store
from kilonova.embedded.network.store import rows
from kilonova.embedded.network.store.rows import Row
from kilonova.embedded.network.tables import FLOATING_IPS, PORTS, SUBNETS
from kilonova.web.schema import Schema

INTERFACE = Schema(
    {
        "type": "object",
        "properties": {"subnet_id": UUID, "port_id": UUID},
        "minProperties": 1,
        "maxProperties": 2,
        "additionalProperties": False,
    }
)


def create(job: Work, values: Row) -> Row:
    """Insert a router, perhaps with its gateway."""
    gateway = values.pop("external_gateway_info", None)
    router = rows.insert(job.tx, ROUTER, values, job.now)
    return _set_gateway(job, router, gateway) if gateway else router


def update(job: Work, row: Row, changes: Row) -> Row:
    """Change a router; ``external_gateway_info`` of nothing takes the gateway away."""
    if "routes" in changes:
        _check_routes(job.tx, row, changes["routes"] or [])
        changes["routes"] = changes["routes"] or []
    has_gateway = "external_gateway_info" in changes
    gateway = changes.pop("external_gateway_info", None)
    known = {c.name for c in ROUTER.table.columns}
    changed = rows.update(
        job.tx, ROUTER, row, {k: v for k, v in changes.items() if k in known}, job.now
    )
    if not has_gateway:
        return changed
    return _set_gateway(job, changed, gateway) if gateway else _clear_gateway(job, changed)


def delete(job: Work, row: Row) -> None:
    """Delete a router without interfaces."""
    if port_store.of_device(job.tx, row["id"], port_store.ROUTER):
        raise Conflict(f"Router {row['id']} still has ports", code="RouterInUse")
    if floating_store.of_router(job.tx, row["id"]):
        raise Conflict(f"Router {row['id']} still has floating IPs", code="RouterInUse")
    _clear_gateway(job, row)
    rows.delete(job.tx, ROUTER, row["id"])


def render(tx: Tx, found: list[Row], admin: bool) -> list[dict[str, Any]]:
    """Documents with the gateway."""
    ids = [row["gateway_port_id"] for row in found if row["gateway_port_id"]]
    fixed: dict[str, list[dict[str, str]]] = {}
    if ids:
        statement = sa.select(PORTS.c.id, PORTS.c.fixed_ips).where(PORTS.c.id.in_(ids))
        fixed = {p.id: p.fixed_ips for p in tx.execute(statement)}
    documents = []
    for row in found:
        gateway = None
        if row["gateway_network_id"]:
            gateway = {
                "network_id": row["gateway_network_id"],
                "enable_snat": row["enable_snat"],
                "external_fixed_ips": fixed.get(row["gateway_port_id"], []),
            }
        more: dict[str, Any] = {
            "external_gateway_info": gateway,
            "availability_zones": ["nova"],
            "flavor_id": None,
        }
        if admin:
            more |= {"ha": False, "distributed": False}
        documents.append(ROUTER.view(row, admin=admin, more=more))
    return documents


ROUTER_RESOURCE = Resource(ROUTER, create, update, delete, render, nothing_else)
ROUTES = routes(ROUTER_RESOURCE)


@ROUTES.put(
    "/routers/{router_id}/add_router_interface", policy="add_router_interface", body=INTERFACE
)
async def add_interface(call: NetworkCall, router_id: str) -> dict[str, Any]:
    """Put a leg of the router into a subnet (at its gateway address) or take a port as one."""

    def work(job: Work) -> dict[str, Any]:
        router = own(job.tx, ROUTER_RESOURCE, call, router_id)
        if "port_id" in call.body and "subnet_id" in call.body:
            raise BadRequest("Cannot specify both subnet-id and port-id", code="BadRequest")
        if "port_id" in call.body:
            port = _take_port(job, router, call.body["port_id"])
        else:
            port = add_leg(job, router, call.body["subnet_id"])
        return _interface(router, port)

    return await write(call, work)


@ROUTES.put(
    "/routers/{router_id}/remove_router_interface",
    policy="remove_router_interface",
    body=INTERFACE,
)
async def remove_interface(call: NetworkCall, router_id: str) -> dict[str, Any]:
    """Take a leg away, unless floating IPs need it."""

    def work(job: Work) -> dict[str, Any]:
        router = own(job.tx, ROUTER_RESOURCE, call, router_id)
        legs = port_store.of_device(job.tx, router["id"], port_store.ROUTER)
        subnet_id = call.body.get("subnet_id")
        found = [
            p
            for p in legs
            if p["id"] == call.body.get("port_id", p["id"])
            and (subnet_id is None or any(ip["subnet_id"] == subnet_id for ip in p["fixed_ips"]))
        ]
        if not found:
            raise NotFound(
                f"Router {router['id']} has no interface on subnet {subnet_id}"
                if subnet_id
                else f"Router {router['id']} does not have an interface with id "
                f"{call.body['port_id']}",
                code="RouterInterfaceNotFound",
            )
        port = found[0]
        _refuse_used_leg(job.tx, router, port)
        port_store.remove(job.tx, port["id"])
        return _interface(router, port)

    return await write(call, work)


def for_subnet(tx: Tx, subnet_ids: list[str], network_id: str | None) -> Row | None:
    """The router that has a leg in one of the subnets and a gateway in the external network."""
    statement = sa.select(PORTS).where(PORTS.c.device_owner == port_store.ROUTER)
    for row in tx.execute(statement):
        if any(ip["subnet_id"] in subnet_ids for ip in row.fixed_ips):
            router = rows.get(tx, ROUTER, row.device_id)
            if router is not None and network_id in (None, router["gateway_network_id"]):
                return router
    return None


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


def add_leg(job: Work, router: Row, subnet_id: str) -> Row:
    """A leg of the router at a subnet's gateway address."""
    subnet = one_of(job.tx, SUBNET_RESOURCE, job, subnet_id)
    if not subnet["gateway_ip"]:
        raise BadRequest("Subnet for router interface must have a gateway IP", code="BadRequest")
    _refuse_overlap(job.tx, router, subnet)
    return port_api.make(
        job,
        network_id=subnet["network_id"],
        project_id=router["project_id"],
        device_id=router["id"],
        device_owner=port_store.ROUTER,
        fixed_ips=[{"subnet_id": subnet["id"], "ip_address": subnet["gateway_ip"]}],
    )


def _take_port(job: Work, router: Row, port_id: str) -> Row:
    port = one_of(job.tx, port_api.PORT_RESOURCE, job, port_id)
    if port["device_id"] and port["device_id"] != router["id"]:
        raise Conflict(
            f"Unable to complete operation on port {port_id} for network {port['network_id']}. "
            f"Port already has an attached device {port['device_id']}.",
            code="PortInUse",
        )
    if not port["fixed_ips"]:
        raise BadRequest("Router port must have at least one fixed IP", code="BadRequest")
    for ip in port["fixed_ips"]:
        _refuse_overlap(job.tx, router, rows.need(job.tx, SUBNET_RESOURCE.kind, ip["subnet_id"]))
    port_store.set_groups(job.tx, port_id, ())
    changes = {
        "device_id": router["id"],
        "device_owner": port_store.ROUTER,
        "status": "ACTIVE",
        "port_security_enabled": False,
        "allowed_address_pairs": [],
    }
    return rows.update(job.tx, port_api.PORT_RESOURCE.kind, port, changes, job.now)


def _refuse_overlap(tx: Tx, router: Row, subnet: Row) -> None:
    net = ipaddress.ip_network(subnet["cidr"])
    taken = [ip["subnet_id"] for p in _legs(tx, router) for ip in p["fixed_ips"]]
    if not taken:
        return
    statement = sa.select(SUBNETS.c.id, SUBNETS.c.cidr).where(SUBNETS.c.id.in_(taken))
    for other in tx.execute(statement):
        present = ipaddress.ip_network(other.cidr)
        if other.id == subnet["id"]:
            raise BadRequest(
                f"Router already has a port on subnet {subnet['id']}", code="BadRequest"
            )
        if present.version == net.version and present.overlaps(net):
            raise BadRequest(
                f"Cidr {net} of subnet {subnet['id']} overlaps with cidr {present} of subnet "
                f"{other.id}",
                code="BadRequest",
            )


def _legs(tx: Tx, router: Row) -> list[Row]:
    return port_store.of_device(tx, router["id"], port_store.ROUTER)


def _refuse_used_leg(tx: Tx, router: Row, port: Row) -> None:
    nets = [ip["subnet_id"] for ip in port["fixed_ips"]]
    for floating in floating_store.of_router(tx, router["id"]):
        inside = rows.get(tx, port_api.PORT_RESOURCE.kind, floating["port_id"])
        if inside and any(ip["subnet_id"] in nets for ip in inside["fixed_ips"]):
            raise Conflict(
                f"Router interface for subnet {nets[0]} on router {router['id']} cannot be "
                "deleted, as it is required by one or more floating IPs.",
                code="RouterInterfaceInUseByFloatingIP",
            )


def _set_gateway(job: Work, router: Row, info: dict[str, Any]) -> Row:
    network = one_of(job.tx, NETWORK_RESOURCE, job, info["network_id"])
    if not network["external"]:
        raise BadRequest(
            f"Bad router request: Network {network['id']} is not an external network",
            code="BadRequest",
        )
    if "enable_snat" in info:
        router = rows.update(
            job.tx,
            ROUTER,
            router,
            {"enable_snat": info["enable_snat"] in (True, 1, "1", "true", "True")},
            job.now,
        )
    asked = info.get("external_fixed_ips") or None
    if router["gateway_network_id"] == network["id"] and asked is None:
        return router
    router = _clear_gateway(job, router)
    port = port_api.make(
        job,
        network_id=network["id"],
        device_id=router["id"],
        device_owner=port_store.GATEWAY,
        fixed_ips=asked,
    )
    changes = {"gateway_network_id": network["id"], "gateway_port_id": port["id"]}
    return rows.update(job.tx, ROUTER, router, changes, job.now)


def _clear_gateway(job: Work, router: Row) -> Row:
    if not router["gateway_port_id"]:
        return router
    used = sa.select(FLOATING_IPS.c.id).where(FLOATING_IPS.c.router_id == router["id"])
    if job.tx.execute(used).first() is not None:
        raise Conflict(
            f"Gateway cannot be updated for router {router['id']}, since a gateway to external "
            f"network {router['gateway_network_id']} is required by one or more floating IPs.",
            code="RouterExternalGatewayInUseByFloatingIp",
        )
    port_store.remove(job.tx, router["gateway_port_id"])
    changes = {"gateway_network_id": None, "gateway_port_id": None}
    return rows.update(job.tx, ROUTER, router, changes, job.now)


def _check_routes(tx: Tx, router: Row, wanted: list[dict[str, str]]) -> None:
    subnet_ids = [ip["subnet_id"] for p in _legs(tx, router) for ip in p["fixed_ips"]]
    if router["gateway_network_id"]:
        statement = sa.select(SUBNETS.c.id).where(
            SUBNETS.c.network_id == router["gateway_network_id"]
        )
        subnet_ids += tx.execute(statement).scalars()
    cidrs = tx.execute(sa.select(SUBNETS.c.cidr).where(SUBNETS.c.id.in_(subnet_ids))).scalars()
    nets = [ipaddress.ip_network(cidr) for cidr in cidrs]
    for route in wanted:
        rules.network(route["destination"])
        hop = rules.address(route["nexthop"], "routes")
        if not any(hop in net for net in nets):
            raise BadRequest(
                f"Invalid format for routes: {wanted}, the nexthop is not connected with router",
                code="InvalidRoutes",
            )
