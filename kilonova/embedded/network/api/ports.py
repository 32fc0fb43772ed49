"""Ports: addresses, groups, binding to a host."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from kilonova.base.errors import BadRequest, Conflict
from kilonova.db.database import Tx
from kilonova.embedded.network import binding, rules
from kilonova.embedded.network.api.common import Resource, one_of
from kilonova.embedded.network.api.networks import NETWORK_RESOURCE
from kilonova.embedded.network.api.security_groups import GROUP_RESOURCE, ensure_default
from kilonova.embedded.network.app import Work
from kilonova.embedded.network.attrs import PORT
from kilonova.embedded.network.store import addresses, rows
from kilonova.embedded.network.store import floating as floating_store
from kilonova.embedded.network.store import ports as port_store
from kilonova.embedded.network.store.rows import Row
from kilonova.embedded.network.tables import NETWORKS, PORTS

ROUTER_OWNERS = (port_store.ROUTER, port_store.GATEWAY)


def create(job: Work, values: Row) -> Row:
    """Insert a port, give it addresses and groups, bind it when a host is named."""
    network = one_of(job.tx, NETWORK_RESOURCE, job, values["network_id"])
    _refuse_owner(job, network, values)
    if network["external"] and not network["shared"] and not job.admin:
        raise rules.invalid("network_id", "ports on an external network are an administrator's.")
    given_mac = values.get("mac_address")
    values["mac_address"] = (
        rules.check_mac(given_mac) if given_mac else rules.mac_from(job.app.random(3))
    )
    _check_mac_free(job.tx, network["id"], values["mac_address"])
    secure = values.get("port_security_enabled")
    if secure is None:
        secure = network["port_security_enabled"]
    owned = values.get("device_owner", "").startswith("network:")
    values["port_security_enabled"] = bool(secure) and not owned
    groups = values.pop("security_groups", None)
    wanted = values.pop("fixed_ips", None)
    values["allowed_address_pairs"] = _pairs(values, values.get("allowed_address_pairs") or [])
    values["binding_profile"] = values.get("binding_profile") or {}
    port = rows.insert(job.tx, PORT, values, job.now)
    port["fixed_ips"] = addresses.allocate(job.tx, port, wanted, random=job.app.random)
    job.tx.execute(
        PORTS.update().where(PORTS.c.id == port["id"]).values(fixed_ips=port["fixed_ips"])
    )
    _join_groups(job, port, groups)
    if port["binding_host_id"]:
        port = _bind(job, port, port["binding_host_id"])
    return port


def update(job: Work, row: Row, changes: Row) -> Row:
    """Change a port; a new host binds it anew."""
    groups = changes.pop("security_groups", None)
    if "mac_address" in changes:
        changes["mac_address"] = rules.check_mac(changes["mac_address"])
        if changes["mac_address"] != row["mac_address"]:
            if row["binding_host_id"]:
                raise Conflict(
                    f"Unable to complete operation on port {row['id']}, port is already bound.",
                    code="PortBound",
                )
            _check_mac_free(job.tx, row["network_id"], changes["mac_address"])
    network = rows.need(job.tx, NETWORK_RESOURCE.kind, row["network_id"])
    _refuse_owner(job, network, changes)
    if "allowed_address_pairs" in changes:
        merged = row | changes
        changes["allowed_address_pairs"] = _pairs(merged, changes["allowed_address_pairs"] or [])
    if "fixed_ips" in changes:
        changes["fixed_ips"] = _move(job, row, changes["fixed_ips"] or [])
    if "binding_profile" in changes:
        changes["binding_profile"] = changes["binding_profile"] or {}
    if changes.get("port_security_enabled") is False and (
        groups or (groups is None and port_store.groups(job.tx, [row["id"]]).get(row["id"]))
    ):
        raise Conflict(
            "Port has security group associated. Cannot disable port security or ip address until "
            "security group is removed",
            code="PortSecurityPortHasSecurityGroup",
        )
    for key in ("device_id", "device_owner", "binding_host_id"):
        if key in changes and changes[key] is None:
            changes[key] = ""
    host = changes.pop("binding_host_id", row["binding_host_id"])
    changed = rows.update(job.tx, PORT, row, changes, job.now)
    if groups is not None:
        _join_groups(job, changed, groups)
    if host != row["binding_host_id"] or "binding_vnic_type" in changes:
        changed = _bind(job, changed, host)
    if groups is not None or "fixed_ips" in changes:
        job.events += binding.event(changed, "network-changed")
    return changed


def delete(job: Work, row: Row) -> None:
    """Delete a port; a router's own are deleted through the router."""
    owner = row["device_owner"]
    if owner in (*ROUTER_OWNERS, port_store.FLOATING) and row["device_id"]:
        raise Conflict(
            f"Port {row['id']} cannot be deleted directly via the port API: has device owner "
            f"{owner}.",
            code="ServicePortInUse",
        )
    floating_store.leave(job.tx, row["id"])
    port_store.remove(job.tx, row["id"])
    job.events += binding.event(row, "network-vif-deleted")


def render(tx: Tx, found: list[Row], admin: bool) -> list[dict[str, Any]]:
    """Documents with the groups."""
    groups = port_store.groups(tx, (row["id"] for row in found))
    return [
        PORT.view(
            row,
            admin=admin,
            more={
                "security_groups": groups.get(row["id"], []),
                "dns_assignment": [],
                "qos_policy_id": None,
                "qos_network_policy_id": None,
                "propagate_uplink_status": True,
                "resource_request": None,
                "ip_allocation": "immediate",
            },
        )
        for row in found
    ]


def visible(project: str) -> sa.ColumnElement[bool]:
    """Ports on the project's own networks."""
    return PORTS.c.network_id.in_(sa.select(NETWORKS.c.id).where(NETWORKS.c.project_id == project))


PORT_RESOURCE = Resource(PORT, create, update, delete, render, visible)


def make(job: Work, **values: Any) -> Row:
    """A port made by the service itself (routers, DHCP, floating IPs)."""
    full = {
        "id": job.ids.uuid(),
        "project_id": "",
        "name": "",
        "admin_state_up": True,
        "status": "ACTIVE",
        "binding_host_id": "",
        "device_owner": "",
        "security_groups": [],
        **values,
    }
    network = rows.need(job.tx, NETWORK_RESOURCE.kind, full["network_id"])
    full["mac_address"] = rules.mac_from(job.app.random(3))
    full["port_security_enabled"] = False
    full.pop("security_groups")
    wanted = full.pop("fixed_ips", None)
    port = rows.insert(job.tx, PORT, full | {"network_id": network["id"]}, job.now)
    port["fixed_ips"] = addresses.allocate(job.tx, port, wanted, random=job.app.random)
    job.tx.execute(
        PORTS.update().where(PORTS.c.id == port["id"]).values(fixed_ips=port["fixed_ips"])
    )
    return port


def _bind(job: Work, port: Row, host: str) -> Row:
    changes = binding.bind(job.tx, job.app.settings, port, host)
    changed = rows.update(job.tx, PORT, port, changes, job.now)
    if changed["status"] == "ACTIVE" and port["status"] != "ACTIVE":
        job.events += binding.event(changed, "network-vif-plugged")
    return changed


def _join_groups(job: Work, port: Row, groups: list[str] | None) -> None:
    if groups is None:
        if not port["port_security_enabled"] or port["device_owner"].startswith("network:"):
            return
        groups = [ensure_default(job, port["project_id"])["id"]] if port["project_id"] else []
    elif groups and not port["port_security_enabled"]:
        raise BadRequest(
            "Port requires either port security or no security groups.",
            code="PortSecurityAndIPRequiredForSecurityGroups",
        )
    for group_id in groups:
        one_of(job.tx, GROUP_RESOURCE, job, group_id)
    port_store.set_groups(job.tx, port["id"], groups)


def _move(job: Work, row: Row, wanted: list[dict[str, Any]]) -> list[dict[str, str]]:
    keep = [
        ip
        for ip in row["fixed_ips"]
        if any(
            item.get("ip_address") == ip["ip_address"]
            or (not item.get("ip_address") and item.get("subnet_id") == ip["subnet_id"])
            for item in wanted
        )
    ]
    addresses.release(job.tx, row["id"], keep=keep)
    known = {ip["ip_address"] for ip in keep}
    by_subnet = {ip["subnet_id"] for ip in keep}
    fresh = [
        item
        for item in wanted
        if item.get("ip_address") not in known
        and (item.get("ip_address") or item.get("subnet_id") not in by_subnet)
    ]
    return keep + addresses.allocate(job.tx, row, fresh, random=job.app.random)


def _pairs(port: Row, pairs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if pairs and not port.get("port_security_enabled", True):
        raise Conflict(
            "Port Security must be enabled in order to have allowed address pairs on a port.",
            code="AddressPairAndPortSecurityRequired",
        )
    made: list[dict[str, Any]] = []
    for pair in pairs:
        text = pair["ip_address"]
        if "/" in text:
            rules.network(text)
        else:
            rules.address(text, "allowed_address_pairs")
        mac = pair.get("mac_address")
        entry = {"ip_address": text, "mac_address": rules.check_mac(mac) if mac else None}
        entry["mac_address"] = entry["mac_address"] or port.get("mac_address")
        if entry in made:
            raise BadRequest(
                f"Request contains duplicate address pair: {text}.",
                code="DuplicateAddressPairInRequest",
            )
        made.append(entry)
    return made


def _refuse_owner(job: Work, network: Row, values: Row) -> None:
    """Network services' own ports are made by administrators or the network's owner."""
    owner = values.get("device_owner") or ""
    if owner.startswith("network:") and not job.admin and network["project_id"] != job.project_id:
        raise rules.invalid("device_owner", f"{owner} is for the network's owner.")


def _check_mac_free(tx: Tx, network_id: str, mac: str) -> None:
    statement = sa.select(PORTS.c.id).where(
        PORTS.c.network_id == network_id, PORTS.c.mac_address == mac
    )
    if tx.execute(statement).first() is not None:
        raise Conflict(
            f"Unable to complete operation for network {network_id}. The mac address {mac} is in "
            "use.",
            code="MacAddressInUse",
        )
