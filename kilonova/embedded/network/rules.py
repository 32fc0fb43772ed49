"""Arithmetic of networks: prefixes, pools, free addresses, MACs. Pure."""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Iterable, Iterator

from kilonova.base.errors import BadRequest

Ip = ipaddress.IPv4Address | ipaddress.IPv6Address
Net = ipaddress.IPv4Network | ipaddress.IPv6Network

BASE_MAC = "fa:16:3e"


def network(cidr: str, version: int | None = None) -> Net:
    """A prefix, host bits struck out as Neutron does; BadRequest for anything else."""
    if "%" in cidr:
        raise invalid("cidr", f"'{cidr}' carries a zone.")
    try:
        net = ipaddress.ip_network(cidr, strict=False)
    except ValueError:
        raise invalid("cidr", f"'{cidr}' is not a valid IP subnet.") from None
    if version is not None and net.version != version:
        raise BadRequest(f"The prefix {cidr} is not of IP version {version}.")
    return net


def address(text: str, field: str) -> Ip:
    """An IP address without zone; BadRequest names the field."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        raise invalid(field, f"'{text}' is not a valid IP address.") from None
    if "%" in text:
        raise invalid(field, f"'{text}' carries a zone.")
    return found


def prefix(text: str, field: str) -> Net:
    """An address or prefix, host bits struck out; BadRequest names the field."""
    try:
        found = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise invalid(field, f"'{text}' is not a valid IP address or prefix.") from None
    if "%" in text:
        raise invalid(field, f"'{text}' carries a zone.")
    return found


def route(item: dict[str, str], field: str) -> dict[str, str]:
    """A checked route of ``destination`` and ``nexthop`` of one IP version."""
    destination = network(item["destination"])
    nexthop = address(item["nexthop"], field)
    if destination.version != nexthop.version:
        raise invalid(field, f"{destination} and {nexthop} are not of one IP version.")
    return {"destination": str(destination), "nexthop": str(nexthop)}


def invalid(field: str, why: str) -> BadRequest:
    """The BadRequest Neutron clients know for a value that does not fit."""
    return BadRequest(f"Invalid input for {field}. Reason: {why}", code="HTTPBadRequest")


def default_gateway(net: Net) -> str:
    """The first usable address of a prefix."""
    first = net.network_address
    return str(first if net.prefixlen >= net.max_prefixlen - 1 else first + 1)


def default_pools(net: Net, gateway: str | None) -> list[dict[str, str]]:
    """All usable addresses but the gateway, as ranges of start and end."""
    first, last = int(net.network_address), int(net.broadcast_address)
    if net.prefixlen < net.max_prefixlen - 1:
        first += 1
        if net.version == 4:
            last -= 1
    kind = type(net.network_address)
    ranges = [(first, last)]
    if gateway is not None:
        gate = int(ipaddress.ip_address(gateway))
        ranges = [(first, gate - 1), (gate + 1, last)] if first <= gate <= last else ranges
    return [{"start": str(kind(a)), "end": str(kind(b))} for a, b in ranges if a <= b]


def check_pools(net: Net, pools: list[dict[str, str]], gateway: str | None) -> list[dict[str, str]]:
    """The given pools, sorted; BadRequest if they leave the prefix, overlap or hold the gateway."""
    spans = []
    for pool in pools:
        start, end = (
            address(pool["start"], "allocation_pools"),
            address(pool["end"], "allocation_pools"),
        )
        if start.version != net.version or end.version != net.version or int(start) > int(end):
            raise BadRequest(
                f"The allocation pool {start}-{end} is not valid.", code="InvalidAllocationPool"
            )
        if start not in net or end not in net:
            raise BadRequest(
                f"The allocation pool {start}-{end} spans beyond the subnet cidr {net}.",
                code="OutOfBoundsAllocationPool",
            )
        spans.append((int(start), int(end), str(start), str(end)))
    spans.sort()
    for one, two in itertools.pairwise(spans):
        if two[0] <= one[1]:
            raise BadRequest(
                f"The allocation pools {one[2]}-{one[3]} and {two[2]}-{two[3]} overlap.",
                code="OverlappingAllocationPools",
            )
    if gateway is not None:
        gate = int(ipaddress.ip_address(gateway))
        if any(first <= gate <= last for first, last, _, _ in spans):
            raise BadRequest(
                f"The gateway {gateway} lies inside an allocation pool.",
                code="GatewayConflictWithAllocationPools",
            )
    return [{"start": s, "end": e} for _, _, s, e in spans]


def candidates(pools: Iterable[dict[str, str]], used: set[str], start: int) -> Iterator[str]:
    """Free addresses of the pools; the walk begins at offset ``start`` and goes round once."""
    spans = []
    for pool in pools:
        first = ipaddress.ip_address(pool["start"])
        last = ipaddress.ip_address(pool["end"])
        spans.append((first, int(last) - int(first) + 1))
    total = sum(size for _, size in spans)
    if not total:
        return
    begin = start % total
    for step in range(min(total, len(used) + 64)):
        offset = (begin + step) % total
        for first, size in spans:
            if offset < size:
                text = str(first + offset)
                if text not in used:
                    yield text
                break
            offset -= size


def eui64(net: Net, mac: str) -> str:
    """The SLAAC address of a card in a prefix (RFC 4291, appendix A)."""
    octets = [int(x, 16) for x in mac.split(":")]
    octets[0] ^= 2
    tail = bytes([*octets[:3], 0xFF, 0xFE, *octets[3:]])
    return str(net.network_address + int.from_bytes(tail, "big"))


def mac_from(random: bytes) -> str:
    """A MAC in our range from three random bytes."""
    return BASE_MAC + "".join(f":{b:02x}" for b in random[:3])


def check_mac(text: str) -> str:
    """A unicast MAC in lower case with colons; BadRequest else."""
    digits = text.lower().replace("-", ":")
    parts = digits.split(":")
    try:
        good = len(parts) == 6 and all(len(p) == 2 and int(p, 16) >= 0 for p in parts)
    except ValueError:
        good = False
    if not good or int(parts[0], 16) & 1 or digits == "00:00:00:00:00:00":
        raise invalid("mac_address", f"'{text}' is not a valid MAC address.")
    return digits
