"""Giving addresses to ports: the primary key of one table makes each be given once."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa

from kilonova.base.errors import BadRequest, Conflict
from kilonova.db.database import Tx
from kilonova.db.prepared import Prepared
from kilonova.embedded.network import rules
from kilonova.embedded.network.tables import ADDRESSES, SUBNETS

Row = dict[str, Any]
Fixed = dict[str, str]

AUTO_MODES = ("slaac", "dhcpv6-stateless")
_CHUNK = 500

_OF_PORTS = Prepared(
    sa.select(ADDRESSES.c.port_id, ADDRESSES.c.subnet_id, ADDRESSES.c.ip_address).where(
        ADDRESSES.c.port_id.in_(sa.bindparam("ports", expanding=True))
    )
)
_HOLDER = Prepared(
    sa.select(ADDRESSES.c.port_id).where(
        ADDRESSES.c.subnet_id == sa.bindparam("subnet"),
        ADDRESSES.c.ip_address == sa.bindparam("ip"),
    )
)
_USED = Prepared(
    sa.select(ADDRESSES.c.ip_address).where(ADDRESSES.c.subnet_id == sa.bindparam("subnet"))
)
_SUBNETS = Prepared(
    sa.select(SUBNETS)
    .where(SUBNETS.c.network_id == sa.bindparam("network"))
    .order_by(SUBNETS.c.created_at, SUBNETS.c.id)
    .with_for_update()
)
_GIVE = Prepared(ADDRESSES.insert())


def of_ports(tx: Tx, port_ids: Sequence[str]) -> dict[str, list[Fixed]]:
    """Port → its addresses, IPv4 first."""
    found: dict[str, list[Fixed]] = {}
    for start in range(0, len(port_ids), _CHUNK):
        some = port_ids[start : start + _CHUNK]
        for port_id, subnet_id, ip in _OF_PORTS.all(tx, {"ports": some}):
            found.setdefault(port_id, []).append({"subnet_id": subnet_id, "ip_address": ip})
    return {port: in_order(ips) for port, ips in found.items()}


def in_order(ips: list[Fixed]) -> list[Fixed]:
    """IPv4 before IPv6, then by number."""

    def key(fixed: Fixed) -> tuple[int, int]:
        ip = ipaddress.ip_address(fixed["ip_address"])
        return ip.version, int(ip)

    return sorted(ips, key=key) if len(ips) > 1 else ips


def allocate(
    tx: Tx,
    port: Row,
    wanted: list[dict[str, Any]] | None,
    *,
    random: Callable[[int], bytes],
) -> list[Fixed]:
    """Take addresses for a port: those asked for, or one per IP version of the network.

    Raises Conflict (IpAddressAlreadyAllocated, IpAddressGenerationFailure) and BadRequest
    (InvalidIpForSubnet …); the network's subnets are locked while addresses are chosen.
    """
    if wanted is not None and not wanted:
        return []
    subnets = _subnets(tx, port["network_id"])
    if wanted is None:
        return _automatic(tx, port, subnets, random)
    given: list[Fixed] = []
    for item in wanted:
        fixed = _one(tx, port, subnets, item, random)
        if fixed not in given:
            given.append(fixed)
    return given


def release(tx: Tx, port_id: str, *, keep: list[Fixed] | None = None) -> None:
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


def release_subnet(tx: Tx, subnet_id: str, port_ids: list[str]) -> None:
    """Give back the addresses these ports have in a subnet."""
    tx.execute(
        ADDRESSES.delete().where(
            ADDRESSES.c.subnet_id == subnet_id, ADDRESSES.c.port_id.in_(port_ids)
        )
    )


def holder(tx: Tx, subnet_id: str, ip: str) -> str | None:
    """The port that has an address."""
    found: str | None = _HOLDER.scalar(tx, {"subnet": subnet_id, "ip": ip})
    return found


def used(tx: Tx, subnet_id: str) -> set[str]:
    """Every address given out in a subnet."""
    return set(_USED.scalars(tx, {"subnet": subnet_id}))


def _subnets(tx: Tx, network_id: str) -> list[Row]:
    return _SUBNETS.dicts(tx, {"network": network_id})


def _automatic(
    tx: Tx, port: Row, subnets: list[Row], random: Callable[[int], bytes]
) -> list[Fixed]:
    given: list[Fixed] = []
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
                given.append(_give(tx, port, subnet, free))
                break
        else:
            full = full or bool(pooled)
    if full and not given:
        raise _exhausted(port)
    return given


def _one(
    tx: Tx,
    port: Row,
    subnets: list[Row],
    item: dict[str, Any],
    random: Callable[[int], bytes],
) -> Fixed:
    subnet = _chosen(port, subnets, item)
    ip = item.get("ip_address")
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
        raise _exhausted(port)
    return _give(tx, port, subnet, free)


def _chosen(port: Row, subnets: list[Row], item: dict[str, Any]) -> Row:
    """The subnet an address is asked in."""
    subnet_id = item.get("subnet_id") or item.get("subnet")
    ip = item.get("ip_address")
    if subnet_id:
        found = next((s for s in subnets if s["id"] == subnet_id), None)
        if found is None:
            raise BadRequest(
                f"Invalid input for operation: Failed to create port on network "
                f"{port['network_id']}, because fixed_ips included invalid subnet {subnet_id}.",
                code="InvalidInput",
            )
        return found
    if not ip:
        raise rules.invalid("fixed_ips", "each needs a subnet_id or an ip_address.")
    address = rules.address(str(ip), "fixed_ips")
    found = next((s for s in subnets if address in ipaddress.ip_network(s["cidr"])), None)
    if found is None:
        raise BadRequest(
            f"IP address {ip} is not a valid IP for any of the subnets on the specified network.",
            code="InvalidIpForNetwork",
        )
    return found


def _take(tx: Tx, port: Row, subnet: Row, ip: str) -> Fixed:
    owner = holder(tx, subnet["id"], ip)
    if owner is not None and owner != port["id"]:
        raise Conflict(
            f"IP address {ip} already allocated in subnet {subnet['id']}",
            code="IpAddressAlreadyAllocated",
        )
    if owner is not None:
        return {"subnet_id": subnet["id"], "ip_address": ip}
    return _give(tx, port, subnet, ip)


def _give(tx: Tx, port: Row, subnet: Row, ip: str) -> Fixed:
    _GIVE.run(tx, {"subnet_id": subnet["id"], "ip_address": ip, "port_id": port["id"]})
    return {"subnet_id": subnet["id"], "ip_address": ip}


def _exhausted(port: Row) -> Conflict:
    return Conflict(
        f"No more IP addresses available on network {port['network_id']}.",
        code="IpAddressGenerationFailure",
    )


def _free(tx: Tx, subnet: Row, random: Callable[[int], bytes]) -> str | None:
    start = int.from_bytes(random(8), "big")
    return next(rules.candidates(subnet["allocation_pools"], used(tx, subnet["id"]), start), None)


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
