"""Subnets: prefixes that do not overlap in their network, pools, gateway, DHCP."""

from __future__ import annotations

import ipaddress

from kilonova.base.errors import BadRequest, Conflict
from kilonova.db.database import Tx
from kilonova.embedded.network import rules
from kilonova.embedded.network.api import subnetpools
from kilonova.embedded.network.api.networks import NETWORK_RESOURCE
from kilonova.embedded.network.api.resource import Resource, usable
from kilonova.embedded.network.app import Work
from kilonova.embedded.network.kinds import SUBNET
from kilonova.embedded.network.store import addresses, networks, rows
from kilonova.embedded.network.store import ports as port_store
from kilonova.embedded.network.store.rows import Row


def create(job: Work, values: Row) -> Row:
    """Insert a subnet, fill in prefix (from a pool, if one is named), gateway and pools."""
    network = usable(job, NETWORK_RESOURCE, values["network_id"])
    if not job.admin and network["project_id"] != job.project_id:
        raise rows.missing(NETWORK_RESOURCE.kind, values["network_id"])
    version = int(values.get("ip_version") or 4)
    networks.lock(job.tx, network["id"])
    net = _prefix(job, values, version)
    version = net.version
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
        holder = addresses.holder(job.tx, row["id"], gateway) if gateway else None
        if holder is not None and port_store.owner_of(job.tx, holder) == port_store.ROUTER:
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
        if gateway is not None and gateway != row["gateway_ip"]:
            rules.check_pools(net, row["allocation_pools"], gateway)
    _check_lists(changes)
    if changes.get("enable_dhcp") is False:
        _drop_dhcp(job.tx, row)
    return rows.update(job.tx, SUBNET, row, changes, job.now)


def delete(job: Work, row: Row) -> None:
    """Delete a subnet nobody but DHCP has an address in."""
    networks.lock(job.tx, row["network_id"])
    users = port_store.users_of_subnet(job.tx, row["id"])
    if any(owner not in port_store.AUTOMATIC for owner in users.values()):
        raise Conflict(
            f"Unable to complete operation on subnet {row['id']}: One or more ports have an IP "
            "allocation from this subnet.",
            code="SubnetInUse",
        )
    _drop_dhcp(job.tx, row)
    rows.delete(job.tx, SUBNET, row["id"])


def render(_tx: Tx, found: list[Row], admin: bool) -> list[dict[str, object]]:
    """Documents."""
    return [
        SUBNET.view(row, admin=admin, more={"segment_id": None, "dns_publish_fixed_ip": False})
        for row in found
    ]


SUBNET_RESOURCE = Resource(SUBNET, create, update, delete, render)


def _prefix(job: Work, values: Row, version: int) -> rules.Net:
    """The prefix given, or one taken from the pool that is named or the default one."""
    asked = values.get("cidr")
    pool_id = values.get("subnetpool_id")
    length = values.pop("prefixlen", None)
    if values.pop("use_default_subnetpool", False) and not pool_id:
        pool_id = networks.default_pool(job.tx, version)
        if pool_id is None:
            raise BadRequest(
                f"No default subnetpool found for IPv{version}", code="NoDefaultSubnetPool"
            )
    values["subnetpool_id"] = pool_id
    if pool_id:
        return subnetpools.take(job, pool_id, cidr=asked, length=length)
    if not asked:
        raise BadRequest(
            "Bad subnets request: a subnetpool must be specified in the absence of a cidr",
            code="BadRequest",
        )
    net = rules.network(asked)
    if net.version != version:
        raise rules.invalid("cidr", f"'{asked}' does not match the ip_version '{version}'.")
    if net.prefixlen == 0:
        raise rules.invalid("cidr", "a subnet cannot be everything.")
    return net


def _gateway(net: rules.Net, text: str) -> rules.Ip:
    gateway = rules.address(text, "gateway_ip")
    if gateway.version != net.version:
        raise rules.invalid("gateway_ip", f"'{text}' is not of the subnet's IP version.")
    if net.prefixlen < net.max_prefixlen - 1 and gateway == net.network_address:
        raise BadRequest(
            f"Invalid input for operation: Gateway {text} is the network's own address.",
            code="InvalidInput",
        )
    return gateway


def _check_modes(values: Row, version: int) -> None:
    ra, mode = values.get("ipv6_ra_mode"), values.get("ipv6_address_mode")
    if version == 4 and (ra or mode):
        raise BadRequest(
            "Invalid input for operation: ipv6_ra_mode or ipv6_address_mode cannot be set when "
            "ip_version is not 6.",
            code="InvalidInput",
        )
    if ra and mode and ra != mode:
        raise BadRequest(
            f"Invalid input for operation: ipv6_ra_mode set to '{ra}' with ipv6_address_mode set "
            f"to '{mode}' is not valid. If both attributes are set, they must be the same value.",
            code="InvalidInput",
        )
    if mode in addresses.AUTO_MODES and ipaddress.ip_network(values["cidr"]).prefixlen != 64:
        raise BadRequest(
            f"Invalid input for operation: Invalid CIDR {values['cidr']} for IPv6 address mode. "
            "OpenStack uses the EUI-64 address format, which requires the prefix to be /64.",
            code="InvalidInput",
        )


def _check_overlap(tx: Tx, network_id: str, net: rules.Net) -> None:
    for other in networks.subnets(tx, [network_id]):
        present = ipaddress.ip_network(other["cidr"])
        if present.version == net.version and present.overlaps(net):
            raise BadRequest(
                f"Invalid input for operation: Requested subnet with cidr: {net} for network: "
                f"{network_id} overlaps with another subnet.",
                code="InvalidInput",
            )


def _check_lists(values: Row) -> None:
    if values.get("dns_nameservers"):
        found = [str(rules.address(s, "dns_nameservers")) for s in values["dns_nameservers"]]
        values["dns_nameservers"] = list(dict.fromkeys(found))
    elif "dns_nameservers" in values:
        values["dns_nameservers"] = []
    if "host_routes" in values:
        given = values["host_routes"] or []
        values["host_routes"] = [rules.route(item, "host_routes") for item in given]


def _drop_dhcp(tx: Tx, subnet: Row) -> None:
    """Take the DHCP ports' addresses in a subnet back; ports without any address go."""
    served = port_store.of_network(tx, subnet["network_id"], port_store.DHCP)
    addresses.release_subnet(tx, subnet["id"], [port["id"] for port in served])
    for port in served:
        if all(ip["subnet_id"] == subnet["id"] for ip in port["fixed_ips"]):
            port_store.remove(tx, port["id"])
