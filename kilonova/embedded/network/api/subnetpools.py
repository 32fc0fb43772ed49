"""Subnet pools: prefixes subnets are cut from."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any

from kilonova.base.errors import BadRequest, Conflict
from kilonova.embedded.network import rules
from kilonova.embedded.network.api.networks import DEFAULTS
from kilonova.embedded.network.api.resource import Resource, plain, usable
from kilonova.embedded.network.app import Work
from kilonova.embedded.network.kinds import SUBNETPOOL
from kilonova.embedded.network.store import networks, quotas, rows
from kilonova.embedded.network.store.rows import Row

SMALLEST = {4: 8, 6: 64}


def create(job: Work, values: Row) -> Row:
    """Insert a pool; its prefixes are put together where they touch."""
    prefixes = _prefixes(values["prefixes"])
    version = prefixes[0].version
    most = prefixes[0].max_prefixlen
    values["ip_version"] = version
    values["prefixes"] = [str(p) for p in prefixes]
    values["min_prefixlen"] = values.get("min_prefixlen") or SMALLEST[version]
    values["max_prefixlen"] = values.get("max_prefixlen") or most
    values["default_prefixlen"] = values.get("default_prefixlen") or values["min_prefixlen"]
    _check_lengths(values, most)
    if values["is_default"]:
        _only_default(job, version, values["id"])
    return rows.insert(job.tx, SUBNETPOOL, values, job.now)


def update(job: Work, row: Row, changes: Row) -> Row:
    """Change a pool; it may only grow."""
    if "prefixes" in changes:
        prefixes = _prefixes([*changes["prefixes"]])
        if any(p.version != row["ip_version"] for p in prefixes):
            raise rules.invalid("prefixes", "the IP version of a pool cannot change.")
        for old in map(ipaddress.ip_network, row["prefixes"]):
            if not any(_inside(old, new) for new in prefixes):
                raise BadRequest(
                    "Illegal update to prefixes: a prefix was removed.",
                    code="IllegalSubnetPoolPrefixUpdate",
                )
        changes["prefixes"] = [str(p) for p in prefixes]
    for key in ("min_prefixlen", "max_prefixlen", "default_prefixlen"):
        if changes.get(key, 0) is None:
            del changes[key]
    _check_lengths(row | changes, 32 if row["ip_version"] == 4 else 128)
    if changes.get("is_default"):
        _only_default(job, row["ip_version"], row["id"])
    return rows.update(job.tx, SUBNETPOOL, row, changes, job.now)


def delete(job: Work, row: Row) -> None:
    """Delete a pool no subnet is from."""
    if networks.pool_prefixes(job.tx, row["id"]):
        raise BadRequest(
            f"Unable to complete operation on subnetpool {row['id']}: Subnet pool has existing "
            "allocations.",
            code="SubnetPoolDeleteError",
        )
    rows.delete(job.tx, SUBNETPOOL, row["id"])


def take(job: Work, pool_id: str, *, cidr: str | None, length: int | None) -> rules.Net:
    """A prefix of the pool that is free: the named one, or the first of a length."""
    usable(job, SUBNETPOOL_RESOURCE, pool_id)
    pool = rows.need(job.tx, SUBNETPOOL, pool_id, lock=True)
    taken = [ipaddress.ip_network(c) for c in networks.pool_prefixes(job.tx, pool_id)]
    have = [ipaddress.ip_network(p) for p in pool["prefixes"]]
    if cidr:
        net = rules.network(cidr)
        if not any(_inside(net, p) for p in have) or _meets(net, taken):
            raise _exhausted("Cannot allocate requested subnet from the available set of prefixes")
        return net
    size = length or pool["default_prefixlen"]
    if not pool["min_prefixlen"] <= size <= pool["max_prefixlen"]:
        raise BadRequest(
            f"Unable to allocate subnet with prefix length {size}, the pool gives "
            f"{pool['min_prefixlen']} to {pool['max_prefixlen']}.",
            code="MinPrefixSubnetAllocationError"
            if size < pool["min_prefixlen"]
            else "MaxPrefixSubnetAllocationError",
        )
    for prefix in have:
        if size < prefix.prefixlen:
            continue
        free = _first_free(prefix, size, taken)
        if free is not None:
            return free
    raise _exhausted("Insufficient prefix space to allocate subnet size /" + str(size))


SUBNETPOOL_RESOURCE = Resource(SUBNETPOOL, create, update, delete, plain(SUBNETPOOL))


def _first_free(prefix: rules.Net, size: int, taken: list[rules.Net]) -> rules.Net | None:
    """The lowest free prefix of a length: a jump past what is in the way, not a walk."""
    step = 1 << (prefix.max_prefixlen - size)
    start, end = int(prefix.network_address), int(prefix.broadcast_address)
    kind = type(prefix.network_address)
    while start + step - 1 <= end:
        net = ipaddress.ip_network((kind(start), size))
        blocker = next((t for t in taken if t.version == net.version and t.overlaps(net)), None)
        if blocker is None:
            return net
        after = int(blocker.broadcast_address) + 1
        start = -(-after // step) * step
    return None


def _prefixes(given: Iterable[str]) -> list[rules.Net]:
    found = [rules.network(text) for text in given]
    if len({p.version for p in found}) != 1:
        raise BadRequest(
            "Cannot mix IPv4 and IPv6 prefixes in a subnet pool.", code="PrefixVersionMismatch"
        )
    whole: Any = ipaddress.collapse_addresses(found)
    return list(whole)


def _check_lengths(values: Row, most: int) -> None:
    low, high = values["min_prefixlen"], values["max_prefixlen"]
    if not 0 <= low <= values["default_prefixlen"] <= high <= most:
        raise BadRequest(
            f"Illegal prefix lengths: minimum {low}, default {values['default_prefixlen']}, "
            f"maximum {high}, of {most}.",
            code="IllegalSubnetPoolPrefixBounds",
        )


def _inside(small: rules.Net, big: rules.Net) -> bool:
    return (
        small.version == big.version
        and small.prefixlen >= big.prefixlen
        and small.network_address in big
    )


def _meets(net: rules.Net, others: Iterable[rules.Net]) -> bool:
    return any(other.version == net.version and other.overlaps(net) for other in others)


def _only_default(job: Work, version: int, pool_id: str) -> None:
    quotas.lock(job.tx, DEFAULTS)
    other = networks.default_pool(job.tx, version)
    if other is not None and other != pool_id:
        raise BadRequest(
            f"A default subnetpool for this IP family has already been set. Only one default may "
            f"exist per IP family: {other}",
            code="InvalidInput",
        )


def _exhausted(why: str) -> Conflict:
    return Conflict(f"Failed to allocate subnet: {why}.", code="SubnetAllocationError")
