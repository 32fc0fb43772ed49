"""Names and marks by which the data plane recognises what belongs to one deployment."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_DEVICE_CHARS = 11


def tag(deployment_id: str) -> str:
    """Six hexadecimal digits that stand for a deployment in names of namespaces and tables."""
    return hashlib.sha256(deployment_id.encode()).hexdigest()[:6]


def link_group(deployment_id: str) -> int:
    """The interface group all links of a deployment are in: set in the same call that makes a
    link, so that none is ever without an owner."""
    return 0x40000000 | int(tag(deployment_id), 16)


def table(deployment_id: str) -> str:
    """The nftables table name of a deployment, in every family and namespace."""
    return f"kilonova_{tag(deployment_id)}"


def short(identifier: str) -> str:
    """Eleven characters that stand for an identifier in a device name (15 are allowed)."""
    if _UUID.fullmatch(identifier):
        return identifier[:_DEVICE_CHARS]
    return hashlib.sha256(identifier.encode()).hexdigest()[:_DEVICE_CHARS]


def bridge(network_id: str) -> str:
    """The bridge of a network."""
    return f"kvb{short(network_id)}"


def tap(port_id: str) -> str:
    """The tap of a port, named as Nova names it."""
    return f"tap{short(port_id)}"


def vxlan(network_id: str) -> str:
    """The tunnel device of a network."""
    return f"kvx{short(network_id)}"


def dhcp_leg(network_id: str) -> str:
    """The bridge side of the veth pair into a DHCP namespace."""
    return f"kvd{short(network_id)}"


def router_leg(port_id: str) -> str:
    """The bridge side of the veth pair into a router namespace."""
    return f"kvr{short(port_id)}"


def inner_leg(port_id: str) -> str:
    """The router side of the pair to an internal network."""
    return f"qr-{short(port_id)}"


def outer_leg(port_id: str) -> str:
    """The router side of the pair to an external network."""
    return f"qg-{short(port_id)}"


def gateway_legs(network_id: str) -> tuple[str, str]:
    """Bridge side and host side of the pair that carries the host's own address."""
    return f"kvg{short(network_id)}", f"kvh{short(network_id)}"


def namespace_prefix(deployment_id: str) -> str:
    """What the names of all namespaces of a deployment begin with."""
    return f"kv{tag(deployment_id)}-"


def dhcp_namespace(deployment_id: str, network_id: str) -> str:
    """The namespace of a network's DHCP and metadata function."""
    return f"{namespace_prefix(deployment_id)}dhcp-{network_id}"


def router_namespace(deployment_id: str, router_id: str) -> str:
    """The namespace of a router."""
    return f"{namespace_prefix(deployment_id)}router-{router_id}"


def zones(network_ids: Iterable[str]) -> dict[str, int]:
    """A conntrack zone (1..65535) for each network, so that equal addresses in two networks are
    two connections; stable as networks come and go, but for the rare clash of two hashes."""
    taken: dict[int, str] = {}
    for network_id in sorted(network_ids):
        zone = int(hashlib.sha256(network_id.encode()).hexdigest()[:8], 16) % 65535
        while zone in taken:
            zone = (zone + 1) % 65535
        taken[zone] = network_id
    return {network_id: zone + 1 for zone, network_id in taken.items()}
