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


class AddressSet(Struct, frozen=True):
    """A named set of addresses and prefixes of one version."""

    name: str
    kind: str
    members: tuple[str, ...]


class Compiled(Struct, frozen=True):
    """Chains of the ports' rules: equal rule lists share one chain.

    ``chains`` is chain name → lines; ``ingress`` and ``egress`` are tap → chain name; ``sets`` are
    those the chains speak of, by name.
    """

    chains: dict[str, tuple[str, ...]]
    ingress: dict[str, str]
    egress: dict[str, str]
    sets: dict[str, AddressSet]


def compile_rules(ports: tuple[Port, ...], groups: tuple[Group, ...]) -> Compiled:
    """The chains of all ports with port security; traffic no rule names is dropped at the end."""
    sets = {group.id: _sets(group) for group in groups}
    done = Compiled(chains={}, ingress={}, egress={}, sets={})
    known: dict[tuple[Rule, ...], tuple[str, str]] = {}
    for port in ports:
        if port.rules not in known:
            known[port.rules] = (
                _chain("ingress", port.rules, sets, done),
                _chain("egress", port.rules, sets, done),
            )
        done.ingress[port.tap], done.egress[port.tap] = known[port.rules]
    return done


def _chain(
    direction: str, rules: tuple[Rule, ...], sets: dict[str, dict[int, AddressSet]], done: Compiled
) -> str:
    lines = list(_ALWAYS[direction])
    for rule in rules:
        if rule.direction == direction:
            lines += _rule(rule, sets, done.sets)
    lines = [*dict.fromkeys(lines), "drop"]
    name = f"{direction}_{hashlib.sha256('|'.join(lines).encode()).hexdigest()[:16]}"
    done.chains[name] = tuple(lines)
    return name


def _sets(group: Group) -> dict[int, AddressSet]:
    """The group's members by IP version, as sets; a version without members is left out."""
    members: dict[int, set[str]] = {}
    for member in group.members:
        prefix = ipaddress.ip_network(member, strict=False)
        members.setdefault(prefix.version, set()).add(str(prefix))
    digest = hashlib.sha256(group.id.encode()).hexdigest()[:16]
    return {
        version: AddressSet(f"group{version}_{digest}", f"ipv{version}_addr", tuple(sorted(found)))
        for version, found in members.items()
    }


def _rule(
    rule: Rule, sets: dict[str, dict[int, AddressSet]], used: dict[str, AddressSet]
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
        remote = sets[rule.remote_group].get(version)
        if remote is None:
            return []
        used[remote.name] = remote
        match.append(f"{family} {side} @{remote.name}")
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
