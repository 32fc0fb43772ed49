"""Routers: gateway into an external network, interfaces in subnets, extra routes."""

from __future__ import annotations

from typing import Any

from kilonova.base.errors import BadRequest, Conflict
from kilonova.db.database import Tx
from kilonova.embedded.network import rules
from kilonova.embedded.network.api import ports as port_api
from kilonova.embedded.network.api.networks import NETWORK_RESOURCE
from kilonova.embedded.network.api.resource import Resource, usable
from kilonova.embedded.network.app import Work
from kilonova.embedded.network.attrs import flag
from kilonova.embedded.network.kinds import ROUTER
from kilonova.embedded.network.store import floating as floating_store
from kilonova.embedded.network.store import networks, rows
from kilonova.embedded.network.store import ports as port_store
from kilonova.embedded.network.store.rows import Row


def create(job: Work, values: Row) -> Row:
    """Insert a router, perhaps with its gateway."""
    for name in ("ha", "distributed"):
        if values.pop(name, False):
            raise BadRequest(
                f"Invalid input for operation: {name} routers are not offered here.",
                code="InvalidInput",
            )
    gateway = values.pop("external_gateway_info", None)
    router = rows.insert(job.tx, ROUTER, values, job.now)
    return set_gateway(job, router, gateway) if gateway else router


def update(job: Work, row: Row, changes: Row) -> Row:
    """Change a router; ``external_gateway_info`` of nothing takes the gateway away."""
    has_gateway = "external_gateway_info" in changes
    gateway = changes.pop("external_gateway_info", None)
    if has_gateway:
        row = set_gateway(job, row, gateway) if gateway else _clear_gateway(job, row)
    if "routes" in changes:
        changes["routes"] = checked_routes(job.tx, row, changes["routes"] or [])
    return rows.update(job.tx, ROUTER, row, changes, job.now)


def delete(job: Work, row: Row) -> None:
    """Delete a router without interfaces."""
    if port_store.of_device(job.tx, row["id"], port_store.ROUTER):
        raise Conflict(f"Router {row['id']} still has ports", code="RouterInUse")
    _clear_gateway(job, row)
    rows.delete(job.tx, ROUTER, row["id"])


def render(tx: Tx, found: list[Row], admin: bool) -> list[dict[str, Any]]:
    """Documents with the gateway."""
    ports = port_store.by_ids(tx, [r["gateway_port_id"] for r in found if r["gateway_port_id"]])
    documents = []
    for row in found:
        gateway = None
        port = ports.get(row["gateway_port_id"])
        if port is not None:
            gateway = {
                "network_id": row["gateway_network_id"],
                "enable_snat": row["enable_snat"],
                "external_fixed_ips": port["fixed_ips"],
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


ROUTER_RESOURCE = Resource(ROUTER, create, update, delete, render)


def set_gateway(job: Work, router: Row, info: dict[str, Any]) -> Row:
    """Give a router its leg in an external network, or change it."""
    network = usable(job, NETWORK_RESOURCE, info["network_id"])
    if not network["external"]:
        raise BadRequest(
            f"Bad router request: Network {network['id']} is not an external network",
            code="BadRequest",
        )
    if "enable_snat" in info:
        snat = {"enable_snat": flag(info["enable_snat"])}
        router = rows.update(job.tx, ROUTER, router, snat, job.now)
    asked = info.get("external_fixed_ips") or None
    if router["gateway_network_id"] == network["id"] and asked is None:
        return router
    router = _clear_gateway(job, router, moving_to=network["id"])
    port = port_api.make(
        job,
        network_id=network["id"],
        device_id=router["id"],
        device_owner=port_store.GATEWAY,
        fixed_ips=asked,
    )
    changes = {"gateway_network_id": network["id"], "gateway_port_id": port["id"]}
    return rows.update(job.tx, ROUTER, router, changes, job.now)


def checked_routes(tx: Tx, router: Row, wanted: list[dict[str, str]]) -> list[dict[str, str]]:
    """Static routes whose next hops lie in networks of the router; BadRequest (InvalidRoutes)."""
    legs = port_store.of_device(tx, router["id"])
    subnets = networks.subnets_by_id(tx, [ip["subnet_id"] for p in legs for ip in p["fixed_ips"]])
    nets = [rules.network(s["cidr"]) for s in subnets]
    checked = [rules.route(route, "routes") for route in wanted]
    for route in checked:
        hop = rules.address(route["nexthop"], "routes")
        if not any(hop in net for net in nets):
            raise BadRequest(
                f"Invalid format for routes: {wanted}, the nexthop is not connected with router",
                code="InvalidRoutes",
            )
    if len({tuple(route.values()) for route in checked}) != len(checked):
        raise rules.invalid("routes", "there is a duplicate.")
    return checked


def _clear_gateway(job: Work, router: Row, *, moving_to: str | None = None) -> Row:
    if not router["gateway_port_id"]:
        return router
    stays = moving_to == router["gateway_network_id"]
    if not stays and floating_store.of_router(job.tx, router["id"]):
        raise Conflict(
            f"Gateway cannot be updated for router {router['id']}, since a gateway to external "
            f"network {router['gateway_network_id']} is required by one or more floating IPs.",
            code="RouterExternalGatewayInUseByFloatingIp",
        )
    port_store.remove(job.tx, router["gateway_port_id"])
    changes = {"gateway_network_id": None, "gateway_port_id": None}
    return rows.update(job.tx, ROUTER, router, changes, job.now)
