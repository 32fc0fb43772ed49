"""Security group rules as nftables matches in the bridge family."""

from __future__ import annotations

import hashlib
import ipaddress

from msgspec import Struct

from kilonova.embedded.network.plane.desired import BadPlan, Group, Port, Rule

_WITH_PORTS = frozenset({"tcp", "udp", "sctp", "dccp", "udplite"})
_NUMBERS = {
    "icmp": 1, "igmp": 2, "ipip": 4, "tcp": 6, "egp": 8, "udp": 17, "dccp": 33, "ipv6-encap": 41,
    "ipv6-route": 43, "ipv6-frag": 44, "rsvp": 46, "gre": 47, "esp": 50, "ah": 51, "ipv6-icmp": 58,
    "icmpv6": 58, "ipv6-nonxt": 59, "ipv6-opts": 60, "ospf": 89, "pim": 103, "vrrp": 112,
    "pgm": 113, "sctp": 132, "udplite": 136,
}  # fmt: skip
_NAMES = {1: "icmp", 6: "tcp", 17: "udp", 33: "dccp", 58: "icmpv6", 132: "sctp", 136: "udplite"}
_ANY = frozenset({"any", "all", "-1"})

# What a guest needs to get and keep its addresses; senders are checked before (see firewall).
_ALWAYS = {
    "egress": (
        "ether type ip udp sport 68 udp dport 67 return",
        "ether type ip6 udp sport 546 udp dport 547 return",
        "icmpv6 type { 131, 132, 133, 135, 136, 143 } return",
    ),
    "ingress": (
        "ether type ip udp sport 67 udp dport 68 return",
        "ether type ip6 udp sport 547 udp dport 546 return",
        "icmpv6 type { 130, 131, 132, 134, 135, 136, 143 } return",
    ),
}


class Compiled(Struct, frozen=True):
    """Chains of the ports' rules: equal rule lists share one chain.

    ``chains`` is chain name → lines; ``ingress`` and ``egress`` are tap → chain name; ``sets`` is
    set name → (address type, elements).
    """

    chains: dict[str, tuple[str, ...]]
    ingress: dict[str, str]
    egress: dict[str, str]
    sets: dict[str, tuple[str, tuple[str, ...]]]


def compile_rules(ports: tuple[Port, ...], groups: tuple[Group, ...]) -> Compiled:
    """The chains of all ports with port security; traffic no rule names is dropped at the end."""
    members = {group.id: group.members for group in groups}
    done = Compiled(chains={}, ingress={}, egress={}, sets={})
    for port in ports:
        for direction, index in (("ingress", done.ingress), ("egress", done.egress)):
            lines = list(_ALWAYS[direction])
            for rule in port.rules:
                if rule.direction == direction:
                    lines += _rule(rule, members, done.sets)
            lines = [*dict.fromkeys(lines), "drop"]
            digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
            name = f"{direction}_{digest}"
            done.chains[name] = tuple(lines)
            index[port.tap] = name
    return done


def _rule(
    rule: Rule,
    members: dict[str, tuple[str, ...]],
    sets: dict[str, tuple[str, tuple[str, ...]]],
) -> list[str]:
    family = "ip" if rule.ethertype == "IPv4" else "ip6"
    version = 4 if family == "ip" else 6
    match = [f"ether type {family}"]
    side = "saddr" if rule.direction == "ingress" else "daddr"
    if rule.remote_prefix is not None:
        prefix = ipaddress.ip_network(rule.remote_prefix, strict=False)
        if prefix.version != version:
            return []
        if prefix.prefixlen:
            match.append(f"{family} {side} {prefix}")
    elif rule.remote_group is not None:
        chosen = tuple(
            str(prefix)
            for member in members[rule.remote_group]
            if (prefix := ipaddress.ip_network(member, strict=False)).version == version
        )
        if not chosen:
            return []
        name = f"group{version}_{hashlib.sha256(rule.remote_group.encode()).hexdigest()[:16]}"
        sets[name] = (f"ipv{version}_addr", tuple(sorted(set(chosen))))
        match.append(f"{family} {side} @{name}")
    match += _protocol(rule, version)
    return [" ".join([*match, "return"])]


def _protocol(rule: Rule, version: int) -> list[str]:
    if rule.protocol is None or rule.protocol in _ANY:
        return []
    number = _NUMBERS.get(rule.protocol)
    if number is None:
        if not rule.protocol.isdigit() or int(rule.protocol) > 255:
            raise BadPlan(f"{rule.protocol!r} is no IP protocol")
        number = int(rule.protocol)
    if number == 1 and version == 6:
        number = 58
    name = _NAMES.get(number)
    low, high = rule.port_min, rule.port_max
    match = [f"meta l4proto {number}"]
    if name in _WITH_PORTS and (low is not None or high is not None):
        first = low if low is not None else 0
        last = high if high is not None else first
        match.append(f"{name} dport {first}" if first == last else f"{name} dport {first}-{last}")
    elif name in ("icmp", "icmpv6"):
        if low is not None:
            match.append(f"{name} type {low}")
        if high is not None:
            match.append(f"{name} code {high}")
    return match
