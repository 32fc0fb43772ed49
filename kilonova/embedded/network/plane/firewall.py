"""The rule set of a host: anti-spoofing and stateful security groups on bridges, host NAT.

Connection tracking exists for bridged packets only through br_netfilter, which hands them to the
``inet`` prerouting hook between the bridge prerouting and forward hooks. So the tracker's answer is
put into one bit of the packet mark there, and everything that has to know a bridge port (both the
sender's and the receiver's rules) is decided in the bridge forward hook, where both are known.

Only answers to a connection pass by their state; packets in the direction of the first one meet the
rules each time, so that taking a rule away also ends what it had allowed.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable

from kilonova.embedded.network.plane import names
from kilonova.embedded.network.plane.desired import HostPlan, Network, Port
from kilonova.embedded.network.plane.secgroups import Compiled, compile_rules

REPLY = 0x20000000
_OTHERS = 0xFFFFFFFF ^ REPLY


def host_rules(plan: HostPlan, deployment_id: str) -> tuple[str, str]:
    """The whole rule set of the host as ``nft -f`` input, and its revision.

    The revision is also the name of an empty chain in each table, by which a later look finds out
    that exactly this rule set is loaded.
    """
    table = names.table(deployment_id)
    group = names.link_group(deployment_id)
    up = tuple(port for port in plan.ports if port.admin_up)
    guarded = tuple(port for port in up if port.port_security)
    compiled = compile_rules(guarded, plan.groups)
    bridge = [
        *_bridge_sets(plan, up, guarded),
        *_security_sets(compiled),
        *_spoofing(group),
        *_filter(group, compiled),
    ]
    inet = _inet(plan, group)
    revision = revision_of([*bridge, *inet])
    mark = [f"chain {revision} {{", "}"]
    lines = [
        *_replace("bridge", table, [*mark, *bridge]),
        *_replace("inet", table, [*mark, *inet]),
    ]
    return "\n".join(lines) + "\n", revision


def revision_of(lines: Iterable[str]) -> str:
    """A name for a rule set's content."""
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    return f"rev_{digest[:24]}"


def removal(families: Iterable[str], table: str) -> str:
    """``nft -f`` input that removes the tables, whether they exist or not."""
    return "".join(
        f"table {family} {table}\ndelete table {family} {table}\n" for family in families
    )


def _replace(family: str, table: str, lines: list[str]) -> list[str]:
    return [
        f"table {family} {table}",
        f"delete table {family} {table}",
        f"table {family} {table} {{",
        *(f"  {line}" for line in lines),
        "}",
    ]


def elements_of(name: str, declaration: list[str], elements: Iterable[str]) -> list[str]:
    """A named set or map; nft refuses an empty ``elements``."""
    listed = ", ".join(elements)
    inside = [*declaration, *([f"elements = {{ {listed} }}"] if listed else [])]
    return [f"{name} {{", *(f"  {line}" for line in inside), "}"]


def _trusted(network: Network, plan: HostPlan) -> list[str]:
    """Bridge ports of a network that are ours and not a guest's."""
    found = [
        names.router_leg(leg.port_id)
        for router in plan.routers
        for leg in router.legs
        if leg.network_id == network.id
    ]
    if network.dhcp is not None:
        found.append(names.dhcp_leg(network.id))
    if network.vxlan is not None:
        found.append(names.vxlan(network.id))
    if network.host_gateway is not None:
        found.append(names.gateway_legs(network.id)[0])
    return found


def _bridge_sets(plan: HostPlan, up: tuple[Port, ...], guarded: tuple[Port, ...]) -> list[str]:
    trusted = [name for network in plan.networks for name in _trusted(network, plan)]
    opened = [port.tap for port in up if not port.port_security]
    taps = [port.tap for port in guarded]
    sources = [source for port in guarded for source in _sources(port)]
    macs = dict.fromkeys((tap, mac) for tap, mac, _ in sources)
    single = [(tap, mac, prefix) for tap, mac, prefix in sources if prefix.num_addresses == 1]
    four = [f'"{t}" . {m} . {p.network_address}' for t, m, p in single if p.version == 4]
    six = [f'"{t}" . {m} . {p.network_address}' for t, m, p in single if p.version == 6]
    targets = [f'"{t}" . {m} . {int(p.network_address):#034x}' for t, m, p in single
               if p.version == 6]  # fmt: skip
    return [
        *elements_of("set trusted", ["type ifname"], _quoted(trusted)),
        *elements_of("set opened", ["type ifname"], _quoted(opened)),
        *elements_of("set known", ["type ifname"], _quoted([*trusted, *opened, *taps])),
        *elements_of("set macs", ["typeof iifname . ether saddr"],
                     (f'"{tap}" . {mac}' for tap, mac in macs)),
        *elements_of("set src4", ["typeof iifname . ether saddr . ip saddr"], dict.fromkeys(four)),
        *elements_of("set src6", ["typeof iifname . ether saddr . ip6 saddr"], dict.fromkeys(six)),
        *elements_of("set nd6", ["typeof iifname . ether saddr . @nh,384,128"],
                     dict.fromkeys(targets)),
        *_wide(sources),
    ]  # fmt: skip


def _sources(
    port: Port,
) -> list[tuple[str, str, ipaddress.IPv4Network | ipaddress.IPv6Network]]:
    """(tap, MAC, prefix) a port may send from: its addresses, its pairs, and link-local ones."""
    pairs = [(port.mac, fixed.ip) for fixed in port.fixed_ips]
    pairs += [(pair.mac or port.mac, pair.ip) for pair in port.allowed_address_pairs]
    macs = dict.fromkeys([port.mac, *(mac for mac, _ in pairs)])
    pairs += [(mac, link_local(mac)) for mac in macs]
    return [(port.tap, mac, ipaddress.ip_network(ip, strict=False)) for mac, ip in pairs]


def _wide(
    sources: list[tuple[str, str, ipaddress.IPv4Network | ipaddress.IPv6Network]],
) -> list[str]:
    """Allowed pairs that are prefixes: a rule each, for they are few."""
    four, six, nd, arp = [], [], [], []
    for tap, mac, prefix in sources:
        if prefix.num_addresses == 1:
            continue
        who = f'iifname "{tap}" ether saddr {mac}'
        if prefix.version == 4:
            four.append(f"{who} ip saddr {prefix} return")
            arp.append(f'iifname "{tap}" arp saddr ether {mac} arp saddr ip {prefix} return')
        else:
            six.append(f"{who} ip6 saddr {prefix} return")
            first, last = int(prefix[0]), int(prefix[-1])
            nd.append(f"{who} @nh,384,128 {first:#034x}-{last:#034x} return")
    chains = []
    for name, lines in (("wide4", four), ("wide6", six), ("widend", nd), ("widearp", arp)):
        chains += [f"chain {name} {{", *(f"  {line}" for line in lines), "  drop", "}"]
    return chains


def link_local(mac: str) -> str:
    """The modified EUI-64 link-local address of a MAC (RFC 4291, appendix A)."""
    octets = [int(part, 16) for part in mac.split(":")]
    octets[0] ^= 2
    full = bytes([*octets[:3], 0xFF, 0xFE, *octets[3:]])
    return str(ipaddress.IPv6Address(b"\xfe\x80" + bytes(6) + full))


def _security_sets(compiled: Compiled) -> list[str]:
    lines: list[str] = []
    for name, wanted in sorted(compiled.sets.items()):
        declaration = [f"type {wanted.kind}", "flags interval", "auto-merge"]
        lines += elements_of(f"set {name}", declaration, wanted.members)
    return lines


def _spoofing(group: int) -> list[str]:
    """What may enter a bridge from a guest; unknown taps of ours may nothing."""
    return [
        "chain from_arp {",
        "  arp saddr ip 0.0.0.0 arp operation request iifname . arp saddr ether @macs return",
        "  iifname . arp saddr ether . arp saddr ip @src4 return",
        "  goto widearp",
        "}",
        "chain from_ip {",
        "  udp sport 67 udp dport 68 drop",
        "  ip saddr 0.0.0.0 udp sport 68 udp dport 67 return",
        "  iifname . ether saddr . ip saddr @src4 return",
        "  goto wide4",
        "}",
        "chain from_nd {",
        "  iifname . ether saddr . @nh,384,128 @nd6 return",
        "  goto widend",
        "}",
        "chain from_ip6 {",
        "  icmpv6 type { 134, 137 } drop",
        "  udp sport 547 udp dport 546 drop",
        "  icmpv6 type 136 jump from_nd",
        "  ip6 saddr :: icmpv6 type { 131, 132, 135, 143 } return",
        "  iifname . ether saddr . ip6 saddr @src6 return",
        "  goto wide6",
        "}",
        "chain from_guest {",
        "  iifname @trusted return",
        "  iifname @opened return",
        "  iifname . ether saddr != @macs drop",
        # 0x8035: QEMU announces a guest that has moved by reverse ARP.
        "  ether type vmap { arp : goto from_arp, ip : goto from_ip, ip6 : goto from_ip6, "
        "0x8035 : return }",
        "  drop",
        "}",
        "chain prerouting {",
        "  type filter hook prerouting priority -300; policy accept;",
        f"  meta iifgroup {group} jump from_guest",
        "}",
        # Bridges carry no address: the host is no neighbour of its guests.
        "chain input {",
        "  type filter hook input priority -200; policy accept;",
        f"  meta iifgroup {group} drop",
        "}",
    ]


def _filter(group: int, compiled: Compiled) -> list[str]:
    lines: list[str] = []
    for name, body in sorted(compiled.chains.items()):
        lines += [f"chain {name} {{", *(f"  {line}" for line in body), "}"]
    verdicts = ["type ifname : verdict"]
    for name, index in (("sender", compiled.egress), ("receiver", compiled.ingress)):
        jumps = (f'"{tap}" : jump {chain}' for tap, chain in index.items())
        lines += elements_of(f"map {name}", verdicts, jumps)
    return [
        *lines,
        "chain through {",
        "  iifname != @known drop",
        "  oifname != @known drop",
        "  ether type { arp, 0x8035 } accept",
        f"  meta mark & {REPLY:#x} == {REPLY:#x} accept",
        "  iifname vmap @sender",
        "  oifname vmap @receiver",
        "}",
        "chain forward {",
        "  type filter hook forward priority -200; policy accept;",
        f"  meta iifgroup {group} goto through",
        f"  meta oifgroup {group} goto through",
        "}",
        # The bit has done its work; marks may mean something to others further on.
        "chain forget {",
        "  type filter hook forward priority -190; policy accept;",
        f"  meta oifgroup {group} meta mark set meta mark & {_OTHERS:#x}",
        "}",
    ]


def _inet(plan: HostPlan, group: int) -> list[str]:
    zones = names.zones(network.id for network in plan.networks)
    pairs = (f'"{network.bridge}" : {zones[network.id]}' for network in plan.networks)
    hidden = [
        str(ipaddress.ip_interface(address).network)
        for network in plan.networks
        if network.host_gateway is not None and network.host_gateway.masquerade
        for address in network.host_gateway.addresses
        if ipaddress.ip_interface(address).version == 4
    ]
    reply = f"meta mark set meta mark | {REPLY:#x}"
    lines = [
        *elements_of("map zones", ["typeof iifname : ct zone"], pairs),
        "chain zone {",
        "  type filter hook prerouting priority -300; policy accept;",
        f"  meta iifgroup {group} meta mark set meta mark & {_OTHERS:#x}",
        f"  meta iifgroup {group} ct zone set iifname map @zones",
        "}",
        "chain state {",
        "  type filter hook prerouting priority -150; policy accept;",
        f"  meta iifgroup != {group} accept",
        f"  ct state related {reply} accept",
        f"  ct state established ct direction reply {reply} accept",
        f"  ct state established ct status expected {reply}",
        "}",
    ]
    if hidden:
        lines += [
            "chain postrouting {",
            "  type nat hook postrouting priority 100; policy accept;",
            f"  meta oifgroup != {group} ip saddr {{ {', '.join(sorted(hidden))} }} masquerade",
            "}",
        ]
    return lines


def _quoted(devices: Iterable[str]) -> list[str]:
    return [f'"{device}"' for device in devices]
