"""Giving addresses to ports: the primary key of one table makes each be given once."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from kilonova.base.errors import BadRequest, Conflict
from kilonova.db.database import Tx
from kilonova.embedded.network import rules
from kilonova.embedded.network.store.rows import Row
from kilonova.embedded.network.tables import ADDRESSES, SUBNETS

AUTO_MODES = ("slaac", "dhcpv6-stateless")


def allocate(
    tx: Tx,
    port: Row,
    wanted: list[dict[str, Any]] | None,
    *,
    random: Callable[[int], bytes],
) -> list[dict[str, str]]:
    """Take addresses for a new port: those asked for, or one per IP version of the network.

    Raises Conflict (IpAddressInUse, IpAddressGenerationFailure) and BadRequest (InvalidIpForSubnet
    …); a subnet is locked while addresses are chosen in it.
    """
    subnets = _subnets(tx, port["network_id"])
    if wanted is None:
        return _automatic(tx, port, subnets, random)
    given: list[dict[str, str]] = []
    for item in wanted:
        given.append(_one(tx, port, subnets, item, random))
    return given


def release(tx: Tx, port_id: str, *, keep: list[dict[str, str]] | None = None) -> None:
    """Give back a port's addresses but those to ``keep``."""
    statement = ADDRESSES.delete().where(ADDRESSES.c.port_id == port_id)
    for ip in keep or ():
        statement = statement.where(
            sa.not_(
                sa.and_(
                    ADDRESSES.c.subnet_id == ip["subnet_id"],
                    ADDRESSES.c.ip_address == ip["ip_address"],
                )
            )
        )
    tx.execute(statement)


def used(tx: Tx, subnet_id: str) -> dict[str, str]:
    """Address → port of everything given out in a subnet."""
    statement = sa.select(ADDRESSES.c.ip_address, ADDRESSES.c.port_id).where(
        ADDRESSES.c.subnet_id == subnet_id
    )
    return {row.ip_address: row.port_id for row in tx.execute(statement)}


def _subnets(tx: Tx, network_id: str) -> list[Row]:
    statement = (
        sa.select(SUBNETS)
        .where(SUBNETS.c.network_id == network_id)
        .order_by(SUBNETS.c.created_at, SUBNETS.c.id)
        .with_for_update()
    )
    return [dict(row._mapping) for row in tx.execute(statement)]


def _automatic(
    tx: Tx, port: Row, subnets: list[Row], random: Callable[[int], bytes]
) -> list[dict[str, str]]:
    given: list[dict[str, str]] = []
    full = False
    for version in (4, 6):
        same = [s for s in subnets if s["ip_version"] == version and _serves(s, port)]
        slaac = [s for s in same if s["ipv6_address_mode"] in AUTO_MODES]
        for subnet in slaac:
            given.append(_take(tx, port, subnet, _slaac(subnet, port)))
        pooled = [s for s in same if s not in slaac]
        for subnet in pooled:
            free = _free(tx, subnet, random)
            if free is not None:
                given.append(_take(tx, port, subnet, free))
                break
        else:
            full = full or bool(pooled)
    if full and not given:
        raise Conflict(
            f"No more IP addresses available on network {port['network_id']}.",
            code="IpAddressGenerationFailure",
        )
    return given


def _one(
    tx: Tx,
    port: Row,
    subnets: list[Row],
    item: dict[str, Any],
    random: Callable[[int], bytes],
) -> dict[str, str]:
    subnet_id = item.get("subnet_id") or item.get("subnet")
    ip = item.get("ip_address")
    if not subnet_id and not ip:
        raise rules.invalid("fixed_ips", "each needs a subnet_id or an ip_address.")
    if subnet_id:
        subnet = next((s for s in subnets if s["id"] == subnet_id), None)
        if subnet is None:
            raise BadRequest(
                f"Subnet {subnet_id} is not one of network {port['network_id']}.",
                code="InvalidInput",
            )
    else:
        found = rules.address(str(ip), "fixed_ips")
        subnet = next((s for s in subnets if found in ipaddress.ip_network(s["cidr"])), None)
        if subnet is None:
            raise BadRequest(
                f"IP address {ip} is not a valid IP for any of the subnets on the specified "
                "network.",
                code="InvalidIpForNetwork",
            )
    if ip:
        text = str(rules.address(str(ip), "fixed_ips"))
        if not _usable(subnet, text):
            raise BadRequest(
                f"IP address {text} is not a valid IP for the specified subnet.",
                code="InvalidIpForSubnet",
            )
        return _take(tx, port, subnet, text)
    if subnet["ipv6_address_mode"] in AUTO_MODES:
        return _take(tx, port, subnet, _slaac(subnet, port))
    free = _free(tx, subnet, random)
    if free is None:
        raise Conflict(
            f"No more IP addresses available on network {port['network_id']}.",
            code="IpAddressGenerationFailure",
        )
    return _take(tx, port, subnet, free)


def _take(tx: Tx, port: Row, subnet: Row, ip: str) -> dict[str, str]:
    owner = used(tx, subnet["id"]).get(ip)
    if owner is not None and owner != port["id"]:
        raise Conflict(
            f"IP address {ip} already allocated in subnet {subnet['id']}",
            code="IpAddressAlreadyAllocated",
        )
    if owner is None:
        tx.execute(
            ADDRESSES.insert().values(subnet_id=subnet["id"], ip_address=ip, port_id=port["id"])
        )
    return {"subnet_id": subnet["id"], "ip_address": ip}


def _free(tx: Tx, subnet: Row, random: Callable[[int], bytes]) -> str | None:
    taken = set(used(tx, subnet["id"]))
    start = int.from_bytes(random(8), "big")
    return next(rules.candidates(subnet["allocation_pools"], taken, start), None)


def _slaac(subnet: Row, port: Row) -> str:
    return rules.eui64(ipaddress.ip_network(subnet["cidr"]), port["mac_address"])


def _serves(subnet: Row, port: Row) -> bool:
    kinds = subnet["service_types"]
    return not kinds or any(port["device_owner"].startswith(kind) for kind in kinds)


def _usable(subnet: Row, ip: str) -> bool:
    net = ipaddress.ip_network(subnet["cidr"])
    address = ipaddress.ip_address(ip)
    if address.version != net.version or address not in net:
        return False
    if net.version == 6 or net.prefixlen >= 31:
        return True
    return address not in (net.network_address, net.broadcast_address)
