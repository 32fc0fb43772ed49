"""Ports: addresses, groups, binding to a host."""

from __future__ import annotations

from typing import Any

from kilonova.base.errors import BadRequest, Conflict
from kilonova.db.database import Tx
from kilonova.embedded.network import binding, rules
from kilonova.embedded.network.api.networks import NETWORK_RESOURCE
from kilonova.embedded.network.api.resource import Resource, usable
from kilonova.embedded.network.api.security_groups import GROUP_RESOURCE, ensure_default
from kilonova.embedded.network.app import Work
from kilonova.embedded.network.kinds import PORT
from kilonova.embedded.network.store import addresses, rows
from kilonova.embedded.network.store import ports as port_store
from kilonova.embedded.network.store.rows import Row

# Owners the plans of hosts believe: nobody but the service itself may put on their names.
TRUSTED = (port_store.ROUTER, port_store.GATEWAY, port_store.FLOATING, port_store.DHCP)


def create(job: Work, values: Row) -> Row:
    """Insert a port, give it addresses and groups, bind it when a host is named."""
    network = usable(job, NETWORK_RESOURCE, values["network_id"])
    _refuse_owner(job, {"device_owner": ""}, values)
    if network["external"] and not _may_use(job, network):
        raise rules.invalid("network_id", "ports on an external network are an administrator's.")
    _choose_mac(job, network, values)
    secure = values.get("port_security_enabled")
    if secure is None:
        secure = network["port_security_enabled"]
    owned = values["device_owner"].startswith("network:")
    values["port_security_enabled"] = bool(secure) and not owned
    groups = values.pop("security_groups", None)
    wanted = values.pop("fixed_ips", None)
    values["allowed_address_pairs"] = _pairs(values, values.get("allowed_address_pairs") or [])
    values["binding_profile"] = values.get("binding_profile") or {}
    port = rows.insert(job.tx, PORT, values, job.now)
    given = addresses.allocate(job.tx, port, wanted, random=job.app.random)
    port["fixed_ips"] = addresses.in_order(given)
    _join_groups(job, port, groups)
    if port["binding_host_id"]:
        port = _bind(job, port, port["binding_host_id"])
    return port


def update(job: Work, row: Row, changes: Row) -> Row:
    """Change a port; a new host binds it anew."""
    groups = changes.pop("security_groups", None)
    _refuse_owner(job, row, changes)
    if "mac_address" in changes:
        _change_mac(job, row, changes)
    if changes.get("port_security_enabled", True) is None:
        del changes["port_security_enabled"]
    if "allowed_address_pairs" in changes:
        merged = row | changes
        changes["allowed_address_pairs"] = _pairs(merged, changes["allowed_address_pairs"] or [])
    if changes.get("port_security_enabled") is False:
        _refuse_insecure(job.tx, row | changes, groups)
    if "fixed_ips" in changes:
        changes["fixed_ips"] = _move(job, row, changes["fixed_ips"] or [])
        port_store.leave_floating(
            job.tx, row["id"], keep=[ip["ip_address"] for ip in changes["fixed_ips"]]
        )
    if "binding_profile" in changes:
        changes["binding_profile"] = changes["binding_profile"] or {}
    host = changes.pop("binding_host_id", row["binding_host_id"])
    changed = rows.update(job.tx, PORT, row, changes, job.now)
    if groups is not None:
        _join_groups(job, changed, groups)
        changed = changed if changes else _touched(job, changed)
    retyped = changes.get("binding_vnic_type", row["binding_vnic_type"]) != row["binding_vnic_type"]
    failed = changed["binding_vif_type"] == binding.FAILED
    if host != row["binding_host_id"] or (host and (retyped or failed)):
        changed = _bind(job, changed, host, there=host == binding.coming(row))
    if groups is not None or "fixed_ips" in changes:
        job.events += binding.event(changed, "network-changed")
    return changed


def delete(job: Work, row: Row) -> None:
    """Delete a port; a router's own are deleted through the router."""
    owner = row["device_owner"]
    if owner in TRUSTED[:3] and row["device_id"]:
        raise Conflict(
            f"Port {row['id']} cannot be deleted directly via the port API: has device owner "
            f"{owner}.",
            code="ServicePortInUse",
        )
    port_store.leave_floating(job.tx, row["id"])
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
                "dns_assignment": [_assignment(row, ip) for ip in row["fixed_ips"]],
                "qos_policy_id": None,
                "qos_network_policy_id": None,
                "propagate_uplink_status": True,
                "resource_request": None,
                "ip_allocation": "immediate" if row["fixed_ips"] else "none",
            },
        )
        for row in found
    ]


PORT_RESOURCE = Resource(PORT, create, update, delete, render)


def make(job: Work, **values: Any) -> Row:
    """A port made by the service itself (routers, DHCP, floating IPs)."""
    full = {
        "id": job.ids.uuid(),
        "project_id": "",
        "status": "ACTIVE",
        **values,
        "mac_address": _free_mac(job, values["network_id"]),
        "port_security_enabled": False,
    }
    rows.need(job.tx, NETWORK_RESOURCE.kind, full["network_id"])
    wanted = full.pop("fixed_ips", None)
    port = rows.insert(job.tx, PORT, full, job.now)
    given = addresses.allocate(job.tx, port, wanted, random=job.app.random)
    port["fixed_ips"] = addresses.in_order(given)
    return port


def _assignment(row: Row, ip: dict[str, str]) -> dict[str, str]:
    name = row["dns_name"] or "host-" + ip["ip_address"].replace(".", "-").replace(":", "-")
    return {"ip_address": ip["ip_address"], "hostname": name, "fqdn": f"{name}.openstacklocal."}


def _touched(job: Work, port: Row) -> Row:
    return rows.update(job.tx, PORT, port, {"updated_at": job.now}, job.now)


def _bind(job: Work, port: Row, host: str, *, there: bool = False) -> Row:
    """``there``: the host has the port's card and rules already."""
    changes = binding.bind(job.tx, job.app.settings, port, host)
    if there and changes["binding_vif_type"] == port["binding_vif_type"]:
        changes["status"] = port["status"]
    if changes["binding_vif_type"] == "unbound":
        changes["status"] = "DOWN"
    changed = rows.update(job.tx, PORT, port, changes, job.now)
    if changed["status"] == "ACTIVE":
        job.events += binding.event(changed, "network-vif-plugged")
    return changed


def _join_groups(job: Work, port: Row, groups: list[str] | None) -> None:
    if groups is None:
        if not port["port_security_enabled"] or not port["project_id"]:
            return
        groups = [ensure_default(job, port["project_id"])]
    elif groups and not port["port_security_enabled"]:
        raise BadRequest(
            "Port requires either port_security_enabled to be True or no security groups.",
            code="PortSecurityAndIPRequiredForSecurityGroups",
        )
    else:
        for group_id in groups:
            usable(job, GROUP_RESOURCE, group_id)
    port_store.set_groups(job.tx, port["id"], groups)


def _move(job: Work, row: Row, wanted: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Exactly the addresses wanted; those the port has already stay its own."""
    left = list(row["fixed_ips"])
    keep: list[dict[str, str]] = []
    fresh: list[dict[str, Any]] = []
    # Named addresses first: what they leave may stand for "any of that subnet".
    for item in sorted(wanted, key=lambda i: not i.get("ip_address")):
        subnet = item.get("subnet_id") or item.get("subnet")
        match = next(
            (
                ip
                for ip in left
                if item.get("ip_address") in (None, "", ip["ip_address"])
                and subnet in (None, "", ip["subnet_id"])
            ),
            None,
        )
        if match is None or not (subnet or item.get("ip_address")):
            fresh.append(item)
        else:
            left.remove(match)
            keep.append(match)
    addresses.release(job.tx, row["id"], keep=keep)
    given = addresses.allocate(job.tx, row, fresh, random=job.app.random)
    return addresses.in_order(keep + [ip for ip in given if ip not in keep])


def _pairs(port: Row, pairs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if pairs and not port.get("port_security_enabled", True):
        raise Conflict(
            "Port Security must be enabled in order to have allowed address pairs on a port.",
            code="AddressPairAndPortSecurityRequired",
        )
    made: list[dict[str, Any]] = []
    for pair in pairs:
        net = rules.prefix(pair["ip_address"], "allowed_address_pairs")
        text = str(net) if "/" in pair["ip_address"] else str(net.network_address)
        mac = pair.get("mac_address")
        entry = {
            "ip_address": text,
            "mac_address": rules.check_mac(mac) if mac else port["mac_address"],
        }
        if entry in made:
            raise BadRequest(
                f"Request contains duplicate address pair: mac_address {entry['mac_address']} "
                f"ip_address {text}.",
                code="DuplicateAddressPairInRequest",
            )
        made.append(entry)
    return made


def _refuse_owner(job: Work, row: Row, values: Row) -> None:
    """The plans of hosts believe what some owners say: only the service and administrators may
    make a port a router's, a DHCP server's or a floating IP's, or make it another's."""
    if job.admin:
        return
    after = values.get("device_owner", row["device_owner"])
    moved = "device_id" in values and values["device_id"] != row.get("device_id")
    if (after in TRUSTED and after != row["device_owner"]) or (
        row["device_owner"] in TRUSTED and (moved or after != row["device_owner"])
    ):
        raise rules.invalid("device_owner", f"{after} is for the network service itself.")


def _refuse_insecure(tx: Tx, port: Row, groups: list[str] | None) -> None:
    present = groups if groups is not None else port_store.groups(tx, [port["id"]]).get(port["id"])
    if present:
        raise Conflict(
            "Port has security group associated. Cannot disable port security or ip address until "
            "security group is removed",
            code="PortSecurityPortHasSecurityGroup",
        )
    if port["allowed_address_pairs"]:
        raise Conflict(
            "Port Security must be enabled in order to have allowed address pairs on a port.",
            code="AddressPairAndPortSecurityRequired",
        )


def _may_use(job: Work, network: Row) -> bool:
    return job.admin or network["shared"] or network["project_id"] == job.project_id


def _choose_mac(job: Work, network: Row, values: Row) -> None:
    given = values.get("mac_address")
    if given:
        values["mac_address"] = rules.check_mac(given)
        _check_mac_free(job.tx, network["id"], values["mac_address"])
    else:
        values["mac_address"] = _free_mac(job, network["id"])


def _free_mac(job: Work, network_id: str) -> str:
    for _ in range(16):
        mac = rules.mac_from(job.app.random(3))
        if not port_store.has_mac(job.tx, network_id, mac):
            return mac
    raise Conflict(
        f"Unable to generate unique mac on network {network_id}.",
        code="MacAddressGenerationFailure",
    )


def _change_mac(job: Work, row: Row, changes: Row) -> None:
    changes["mac_address"] = rules.check_mac(changes["mac_address"])
    if changes["mac_address"] == row["mac_address"]:
        return
    if row["binding_host_id"] and changes.get("binding_host_id") != "":
        raise Conflict(
            f"Unable to complete operation on port {row['id']}, port is already bound, port type: "
            f"{row['binding_vif_type']}, old_mac {row['mac_address']}, new_mac "
            f"{changes['mac_address']}.",
            code="PortBound",
        )
    _check_mac_free(job.tx, row["network_id"], changes["mac_address"])


def _check_mac_free(tx: Tx, network_id: str, mac: str) -> None:
    if port_store.has_mac(tx, network_id, mac):
        raise Conflict(
            f"Unable to complete operation for network {network_id}. The mac address {mac} is in "
            "use.",
            code="MacAddressInUse",
        )
