"""Subnets: prefixes that do not overlap in their network, pools, gateway, DHCP."""

from __future__ import annotations

import ipaddress

import sqlalchemy as sa

from kilonova.base.errors import BadRequest, Conflict
from kilonova.db.database import Tx
from kilonova.embedded.network import rules
from kilonova.embedded.network.api.common import Resource, one_of
from kilonova.embedded.network.api.networks import NETWORK_RESOURCE
from kilonova.embedded.network.app import Work
from kilonova.embedded.network.attrs import SUBNET
from kilonova.embedded.network.store import addresses, rows
from kilonova.embedded.network.store import ports as port_store
from kilonova.embedded.network.store.rows import Row
from kilonova.embedded.network.tables import NETWORKS, PORTS, SUBNETS


def create(job: Work, values: Row) -> Row:
    """Insert a subnet, fill in gateway and pools."""
    network = one_of(job.tx, NETWORK_RESOURCE, job, values["network_id"])
    if not job.admin and network["project_id"] != job.project_id:
        raise rows.missing(NETWORK_RESOURCE.kind, values["network_id"])
    if values.get("subnetpool_id") or (not values.get("cidr") and values.get("prefixlen")):
        raise BadRequest("Subnet pools are not offered here; give a cidr.", code="BadRequest")
    if not values.get("cidr"):
        raise BadRequest("a subnetpool must be specified in the absence of a cidr")
    version = int(values.get("ip_version") or 4)
    net = rules.network(values["cidr"], version)
    values["cidr"] = str(net)
    values["ip_version"] = version
    _check_modes(values, version)
    _check_overlap(job.tx, network["id"], net)
    if "gateway_ip" not in values:
        values["gateway_ip"] = rules.default_gateway(net)
    elif values["gateway_ip"] is not None:
        values["gateway_ip"] = str(_gateway(net, values["gateway_ip"]))
    pools = values.get("allocation_pools")
    values["allocation_pools"] = (
        rules.check_pools(net, pools, values["gateway_ip"])
        if pools
        else rules.default_pools(net, values["gateway_ip"])
    )
    _check_lists(values)
    return rows.insert(job.tx, SUBNET, values, job.now)


def update(job: Work, row: Row, changes: Row) -> Row:
    """Change a subnet; a gateway a router holds stays."""
    net = ipaddress.ip_network(row["cidr"])
    gateway = row["gateway_ip"]
    if "gateway_ip" in changes and changes["gateway_ip"] != gateway:
        holder = addresses.used(job.tx, row["id"]).get(gateway or "")
        if holder is not None and _is_router(job.tx, holder):
            raise Conflict(
                f"Current gateway ip {gateway} already in use by port {holder}. Unable to update.",
                code="GatewayIpInUse",
            )
        if changes["gateway_ip"] is not None:
            changes["gateway_ip"] = str(_gateway(net, changes["gateway_ip"]))
        gateway = changes["gateway_ip"]
    if changes.get("allocation_pools"):
        changes["allocation_pools"] = rules.check_pools(net, changes["allocation_pools"], gateway)
    else:
        changes.pop("allocation_pools", None)
        if gateway is not None:
            rules.check_pools(net, row["allocation_pools"], gateway)
    _check_lists(changes)
    if changes.get("enable_dhcp") is False:
        _drop_dhcp(job.tx, row)
    return rows.update(job.tx, SUBNET, row, changes, job.now)


def delete(job: Work, row: Row) -> None:
    """Delete a subnet nobody but DHCP has an address in."""
    holders = set(addresses.used(job.tx, row["id"]).values())
    if holders:
        statement = sa.select(PORTS.c.id, PORTS.c.device_owner).where(PORTS.c.id.in_(holders))
        foreign = [p for p in job.tx.execute(statement) if p.device_owner != port_store.DHCP]
        if foreign:
            raise Conflict(
                f"Unable to complete operation on subnet {row['id']}: One or more ports have an "
                f"IP allocation from this subnet.",
                code="SubnetInUse",
            )
    _drop_dhcp(job.tx, row)
    rows.delete(job.tx, SUBNET, row["id"])


def render(_tx: Tx, found: list[Row], admin: bool) -> list[dict[str, object]]:
    """Documents."""
    more: dict[str, object] = {
        "subnetpool_id": None,
        "segment_id": None,
        "dns_publish_fixed_ip": False,
    }
    return [SUBNET.view(row, admin=admin, more=dict(more)) for row in found]


def visible(_project: str) -> sa.ColumnElement[bool]:
    """Subnets of shared and external networks."""
    return SUBNETS.c.network_id.in_(
        sa.select(NETWORKS.c.id).where(sa.or_(NETWORKS.c.shared, NETWORKS.c.external))
    )


SUBNET_RESOURCE = Resource(SUBNET, create, update, delete, render, visible)


def _gateway(net: rules.Net, text: str) -> rules.Ip:
    gateway = rules.address(text, "gateway_ip")
    if gateway.version != net.version:
        raise rules.invalid("gateway_ip", f"'{text}' is not of the subnet's IP version.")
    if net.prefixlen < net.max_prefixlen - 1 and gateway == net.network_address:
        raise BadRequest(f"Gateway {text} is the network's own address.", code="InvalidInput")
    return gateway


def _check_modes(values: Row, version: int) -> None:
    ra, mode = values.get("ipv6_ra_mode"), values.get("ipv6_address_mode")
    if version == 4 and (ra or mode):
        raise BadRequest(
            "ipv6_ra_mode or ipv6_address_mode cannot be set when ip_version is not 6.",
            code="InvalidInput",
        )
    if ra and mode and ra != mode:
        raise BadRequest(
            f"ipv6_ra_mode set to '{ra}' with ipv6_address_mode set to '{mode}' is not valid.",
            code="InvalidInput",
        )
    if mode in addresses.AUTO_MODES and ipaddress.ip_network(values["cidr"]).prefixlen != 64:
        raise BadRequest("SLAAC needs a /64 prefix.", code="InvalidInput")


def _check_overlap(tx: Tx, network_id: str, net: rules.Net) -> None:
    tx.execute(sa.select(NETWORKS.c.id).where(NETWORKS.c.id == network_id).with_for_update())
    statement = sa.select(SUBNETS.c.id, SUBNETS.c.cidr).where(SUBNETS.c.network_id == network_id)
    for other in tx.execute(statement):
        present = ipaddress.ip_network(other.cidr)
        if present.version == net.version and present.overlaps(net):
            raise BadRequest(
                f"Invalid input for operation: Requested subnet with cidr: {net} for network: "
                f"{network_id} overlaps with another subnet.",
                code="InvalidInput",
            )


def _check_lists(values: Row) -> None:
    for server in values.get("dns_nameservers") or ():
        rules.address(server, "dns_nameservers")
    for route in values.get("host_routes") or ():
        rules.network(route["destination"])
        rules.address(route["nexthop"], "host_routes")


def _is_router(tx: Tx, port_id: str) -> bool:
    owner = tx.execute(sa.select(PORTS.c.device_owner).where(PORTS.c.id == port_id)).scalar()
    return owner in (port_store.ROUTER, port_store.GATEWAY)


def _drop_dhcp(tx: Tx, subnet: Row) -> None:
    """Take the DHCP ports' addresses in a subnet back; ports without any address go."""
    for port in port_store.of_network(tx, subnet["network_id"]):
        if port["device_owner"] != port_store.DHCP:
            continue
        keep = [ip for ip in port["fixed_ips"] if ip["subnet_id"] != subnet["id"]]
        if len(keep) == len(port["fixed_ips"]):
            continue
        if not keep:
            port_store.remove(tx, port["id"])
            continue
        addresses.release(tx, port["id"], keep=keep)
        tx.execute(PORTS.update().where(PORTS.c.id == port["id"]).values(fixed_ips=keep))
