"""Floating IPs: an external address that stands for a port's."""

from __future__ import annotations

import ipaddress
from typing import Any

from kilonova.base.errors import BadRequest, Conflict, NotFound
from kilonova.db.database import Tx
from kilonova.embedded.network import binding
from kilonova.embedded.network.api import ports as port_api
from kilonova.embedded.network.api.networks import NETWORK_RESOURCE
from kilonova.embedded.network.api.resource import Resource, usable
from kilonova.embedded.network.app import Work
from kilonova.embedded.network.kinds import FLOATING_IP
from kilonova.embedded.network.store import floating as floating_store
from kilonova.embedded.network.store import ports as port_store
from kilonova.embedded.network.store import rows
from kilonova.embedded.network.store.rows import Row


def create(job: Work, values: Row) -> Row:
    """Take an address of the external network, perhaps for a port at once."""
    network = usable(job, NETWORK_RESOURCE, values["floating_network_id"])
    if not network["external"]:
        raise BadRequest(
            f"Bad floatingip request: Network {network['id']} is not a valid external network.",
            code="BadRequest",
        )
    asked: dict[str, Any] = {}
    if values.get("floating_ip_address"):
        asked["ip_address"] = values["floating_ip_address"]
    if values.get("subnet_id"):
        asked["subnet_id"] = values["subnet_id"]
    port = port_api.make(
        job,
        network_id=network["id"],
        device_id=values["id"],
        device_owner=port_store.FLOATING,
        status="N/A",
        fixed_ips=[asked] if asked else None,
    )
    four = [ip for ip in port["fixed_ips"] if ipaddress.ip_address(ip["ip_address"]).version == 4]
    if not four:
        raise BadRequest(
            f"Network {network['id']} does not contain any IPv4 subnet",
            code="ExternalGatewayForFloatingIPNotFound",
        )
    values["floating_ip_address"] = four[0]["ip_address"]
    values["floating_port_id"] = port["id"]
    target, fixed = values.pop("port_id", None), values.pop("fixed_ip_address", None)
    row = rows.insert(job.tx, FLOATING_IP, values, job.now)
    return _associate(job, row, target, fixed) if target else row


def update(job: Work, row: Row, changes: Row) -> Row:
    """Move to another port, or off any when ``port_id`` is null."""
    moves = "port_id" in changes or "fixed_ip_address" in changes
    target = changes.pop("port_id", row["port_id"])
    fixed = changes.pop("fixed_ip_address", None)
    row = rows.update(job.tx, FLOATING_IP, row, changes, job.now)
    if not moves:
        return row
    if row["port_id"]:
        before = rows.get(job.tx, port_api.PORT_RESOURCE.kind, row["port_id"])
        job.events += binding.event(before, "network-changed") if before else []
    if target:
        return _associate(job, row, target, fixed)
    gone = {"port_id": None, "fixed_ip_address": None, "router_id": None, "status": "DOWN"}
    return rows.update(job.tx, FLOATING_IP, row, gone, job.now)


def delete(job: Work, row: Row) -> None:
    """Give the address back."""
    if row["port_id"]:
        port = rows.get(job.tx, port_api.PORT_RESOURCE.kind, row["port_id"])
        job.events += binding.event(port, "network-changed") if port else []
    rows.delete(job.tx, FLOATING_IP, row["id"])
    port_store.remove(job.tx, row["floating_port_id"])


def render(tx: Tx, found: list[Row], admin: bool) -> list[dict[str, Any]]:
    """Documents with what their ports are."""
    ports = port_store.by_ids(tx, [row["port_id"] for row in found if row["port_id"]])
    return [
        FLOATING_IP.view(
            row,
            admin=admin,
            more={
                "port_details": _details(ports.get(row["port_id"])),
                "qos_policy_id": None,
                "port_forwardings": [],
            },
        )
        for row in found
    ]


FLOATING_RESOURCE = Resource(FLOATING_IP, create, update, delete, render)


def _details(port: Row | None) -> dict[str, Any] | None:
    if port is None:
        return None
    names = ("name", "network_id", "mac_address", "admin_state_up", "status")
    return {name: port[name] for name in (*names, "device_id", "device_owner")}


def _associate(job: Work, row: Row, port_id: str, fixed: str | None) -> Row:
    port = usable(job, port_api.PORT_RESOURCE, port_id)
    if not job.admin and port["project_id"] != job.project_id:
        raise rows.missing(port_api.PORT_RESOURCE.kind, port_id)
    four = [ip for ip in port["fixed_ips"] if ipaddress.ip_address(ip["ip_address"]).version == 4]
    if fixed:
        four = [ip for ip in four if ip["ip_address"] == fixed]
    if not four:
        raise BadRequest(
            f"Bad floatingip request: Cannot add floating IP to port {port_id} that has no fixed "
            f"IPv4 address{' ' + fixed if fixed else 'es'}.",
            code="BadRequest",
        )
    if len(four) > 1 and not fixed:
        raise BadRequest(
            f"Bad floatingip request: Port {port_id} has multiple fixed IPv4 addresses.  Must "
            "provide a specific IPv4 address when assigning a floating IP.",
            code="BadRequest",
        )
    address = four[0]
    other = floating_store.of_address(job.tx, port_id, address["ip_address"])
    if other is not None and other["id"] != row["id"]:
        raise Conflict(
            f"Cannot associate floating IP {row['floating_ip_address']} with port {port_id} using "
            f"fixed IP {address['ip_address']}, as that fixed IP already has a floating IP on "
            f"external network {row['floating_network_id']}.",
            code="FloatingIPPortAlreadyAssociated",
        )
    router = floating_store.router_between(job.tx, address["subnet_id"], row["floating_network_id"])
    if router is None:
        raise NotFound(
            f"External network {row['floating_network_id']} is not reachable from subnet "
            f"{address['subnet_id']}.  Therefore, cannot associate Port {port_id} with a Floating "
            "IP.",
            code="ExternalGatewayForFloatingIPNotFound",
        )
    job.events += binding.event(port, "network-changed")
    changes = {
        "port_id": port_id,
        "fixed_ip_address": address["ip_address"],
        "router_id": router["id"],
        "status": "ACTIVE",
    }
    return rows.update(job.tx, FLOATING_IP, row, changes, job.now)
