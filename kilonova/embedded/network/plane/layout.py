"""From a host's plan to the exact links, namespaces, rule sets and servers that shall exist."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable

from msgspec import Struct

from kilonova.embedded.network.plane import names
from kilonova.embedded.network.plane.desired import (
    HostPlan,
    Network,
    Route,
    Router,
    RouterGateway,
    RouterInterface,
)
from kilonova.embedded.network.plane.dhcp import (
    INNER,
    METADATA_IP,
    DnsmasqSpec,
    advertiser,
    dhcp_server,
)
from kilonova.embedded.network.plane.firewall import host_rules, revision_of

METADATA_PORT = 9697


class Leg(Struct, frozen=True):
    """The far end of a veth pair. ``netns`` none: it stays on the host."""

    device: str
    mac: str
    netns: str | None
    addresses: tuple[str, ...] = ()
    plain_checksums: bool = False


class Tunnel(Struct, frozen=True):
    """What makes a VXLAN device: a change of the first three needs a new device."""

    vni: int
    local: str
    port: int
    peers: tuple[str, ...]


class LinkSpec(Struct, frozen=True):
    """A link on the host: a bridge, a VXLAN device, or the bridge side of a veth pair."""

    name: str
    kind: str
    mtu: int
    master: str | None = None
    leg: Leg | None = None
    tunnel: Tunnel | None = None


class RouteSpec(Struct, frozen=True):
    """A route in a namespace; ``onlink`` when no address of the device covers the next hop."""

    destination: str
    via: str
    device: str | None = None
    onlink: bool = False


class NamespaceSpec(Struct, frozen=True):
    """The inside of a namespace."""

    name: str
    legs: tuple[Leg, ...]
    mtus: dict[str, int]
    forwarding: bool = False
    routes: tuple[RouteSpec, ...] = ()
    rules: str = ""
    revision: str = ""
    garp: str | None = None


class Layout(Struct, frozen=True):
    """Everything that shall exist on a host, by name; ``taps`` is tap → (bridge, MTU).

    Empty ``rules`` mean that the rule set is not looked at.
    """

    links: dict[str, LinkSpec]
    taps: dict[str, tuple[str, int]]
    expected_taps: frozenset[str]
    namespaces: dict[str, NamespaceSpec]
    dnsmasqs: dict[str, DnsmasqSpec]
    rules: str
    revision: str
    gateways: tuple[Leg, ...]
    masquerade: bool


def layout(plan: HostPlan, deployment_id: str, lease_time: int) -> Layout:
    """Work out the whole layout; pure."""
    networks = {network.id: network for network in plan.networks}
    links: dict[str, LinkSpec] = {}
    namespaces: dict[str, NamespaceSpec] = {}
    dnsmasqs: dict[str, DnsmasqSpec] = {}
    gateways: list[Leg] = []
    for network in plan.networks:
        links[network.bridge] = LinkSpec(network.bridge, "bridge", network.mtu)
        for link in _network_links(network, plan, deployment_id):
            links[link.name] = link
            if link.leg is not None and link.leg.netns is None:
                gateways.append(link.leg)
        if network.dhcp is not None:
            name = names.dhcp_namespace(deployment_id, network.id)
            leg = links[names.dhcp_leg(network.id)].leg
            assert leg is not None
            namespaces[name] = NamespaceSpec(name, (leg,), {leg.device: network.mtu})
            server = dhcp_server(network, name, lease_time)
            if server is not None:
                dnsmasqs[server.key] = server
    for router in plan.routers:
        name = names.router_namespace(deployment_id, router.id)
        for link in _router_links(router, networks, name):
            links[link.name] = link
        namespaces[name] = _router_namespace(router, links, name, deployment_id)
        sender = advertiser(router, networks, name)
        if sender is not None:
            dnsmasqs[sender.key] = sender
    rules, revision = host_rules(plan, deployment_id)
    by_id = {port.id: networks[port.network_id] for port in plan.ports}
    return Layout(
        links=links,
        taps={port.tap: (by_id[port.id].bridge, by_id[port.id].mtu) for port in plan.ports},
        expected_taps=frozenset(port.tap for port in plan.ports if port.expected),
        namespaces=namespaces,
        dnsmasqs=dnsmasqs,
        rules=rules,
        revision=revision,
        gateways=tuple(gateways),
        masquerade=any(n.host_gateway and n.host_gateway.masquerade for n in plan.networks),
    )


def _network_links(network: Network, plan: HostPlan, deployment_id: str) -> Iterable[LinkSpec]:
    if network.vxlan is not None and plan.vtep_ip is not None:
        peers = tuple(sorted({peer for peer in network.vxlan.peers if peer != plan.vtep_ip}))
        yield LinkSpec(
            names.vxlan(network.id),
            "vxlan",
            network.mtu,
            network.bridge,
            tunnel=Tunnel(network.vxlan.vni, plan.vtep_ip, plan.vxlan_port, peers),
        )
    if network.dhcp is not None:
        lengths = {s.id: ipaddress.ip_network(s.cidr).prefixlen for s in network.subnets}
        addresses = [
            f"{fixed.ip}/{lengths[fixed.subnet_id]}"
            for fixed in network.dhcp.fixed_ips
            if fixed.subnet_id in lengths
        ]
        leg = Leg(
            INNER,
            network.dhcp.mac,
            names.dhcp_namespace(deployment_id, network.id),
            canonical([*addresses, f"{METADATA_IP}/32"]),
            plain_checksums=True,
        )
        yield LinkSpec(names.dhcp_leg(network.id), "veth", network.mtu, network.bridge, leg)
    if network.host_gateway is not None:
        inner, outer = names.gateway_legs(network.id)
        leg = Leg(outer, made_mac(network.id), None, canonical(network.host_gateway.addresses))
        yield LinkSpec(inner, "veth", network.mtu, network.bridge, leg)


def _router_links(router: Router, networks: dict[str, Network], netns: str) -> Iterable[LinkSpec]:
    floating = [f.floating for f in router.floating_ips]
    for leg in router.legs:
        network = networks[leg.network_id]
        addresses = list(leg.addresses)
        if isinstance(leg, RouterGateway):
            own = {str(ipaddress.ip_interface(address).ip) for address in addresses}
            addresses += [f"{ip}/32" for ip in floating if ip not in own]
        yield LinkSpec(
            names.router_leg(leg.port_id),
            "veth",
            network.mtu,
            network.bridge,
            Leg(_device(leg), leg.mac, netns, canonical(addresses)),
        )


def _router_namespace(
    router: Router, links: dict[str, LinkSpec], netns: str, deployment_id: str
) -> NamespaceSpec:
    ours = [link for link in links.values() if link.leg is not None and link.leg.netns == netns]
    legs = tuple(link.leg for link in ours if link.leg is not None)
    rules, revision = router_rules(router, names.table(deployment_id))
    return NamespaceSpec(
        name=netns,
        legs=legs,
        mtus={link.leg.device: link.mtu for link in ours if link.leg is not None},
        forwarding=True,
        routes=_routes(router, legs),
        rules=rules,
        revision=revision,
        garp=names.outer_leg(router.gateway.port_id) if router.gateway else None,
    )


def _routes(router: Router, legs: tuple[Leg, ...]) -> tuple[RouteSpec, ...]:
    wanted = {}
    if router.gateway is not None:
        for hop in router.gateway.next_hops:
            default = "::/0" if ":" in hop else "0.0.0.0/0"
            device = names.outer_leg(router.gateway.port_id)
            covered = _covers([leg for leg in legs if leg.device == device], hop)
            wanted[default] = RouteSpec(default, _ip(hop), device, onlink=not covered)
    for route in router.routes:
        if _covers(legs, route.nexthop):
            destination = str(ipaddress.ip_network(route.destination, strict=False))
            wanted[destination] = RouteSpec(destination, _ip(route.nexthop))
    return tuple(wanted.values())


def unreachable(router: Router) -> list[Route]:
    """Extra routes whose next hop is on no network of the router; they are left out."""
    addresses = [address for leg in router.legs for address in leg.addresses]
    nets = [ipaddress.ip_interface(address).network for address in addresses]
    return [
        route
        for route in router.routes
        if not any(ipaddress.ip_address(route.nexthop) in net for net in nets)
    ]


def router_rules(router: Router, table: str) -> tuple[str, str]:
    """NAT of a router as ``nft -f`` input, and its revision."""
    pairs = [(_ip(f.floating), _ip(f.fixed)) for f in router.floating_ips]
    lines = [
        "chain prerouting {",
        "  type nat hook prerouting priority -100; policy accept;",
        f'  iifname "qr-*" ip daddr {METADATA_IP} tcp dport 80 redirect to :{METADATA_PORT}',
    ]
    if pairs:
        listed = ", ".join(f"{floating} : {fixed}" for floating, fixed in pairs)
        lines.append(f"  dnat ip to ip daddr map {{ {listed} }}")
    lines += [
        "}",
        "chain input {",
        "  type filter hook input priority 0; policy accept;",
        f'  iifname "qg-*" tcp dport {METADATA_PORT} drop',
        "}",
    ]
    if router.gateway is not None:
        lines += _source_nat(router.gateway, {fixed: floating for floating, fixed in pairs})
    revision = revision_of(lines)
    text = [
        f"table inet {table}",
        f"delete table inet {table}",
        f"table inet {table} {{",
        f"  chain {revision} {{",
        "  }",
        *(f"  {line}" for line in lines),
        "}",
    ]
    return "\n".join(text) + "\n", revision


def _source_nat(gateway: RouterGateway, floating: dict[str, str]) -> list[str]:
    device = names.outer_leg(gateway.port_id)
    found = (ipaddress.ip_interface(address).ip for address in gateway.addresses)
    own = next((str(ip) for ip in found if ip.version == 4), None)
    listed = ", ".join(f"{fixed} : {outside}" for fixed, outside in floating.items())
    by_floating = [f"  snat ip to ip saddr map {{ {listed} }}"] if listed else []
    by_own = [f"  meta nfproto ipv4 snat ip to {own}"] if own is not None else []
    return [
        "chain outward {",
        *by_floating,
        *(by_own if gateway.enable_snat else []),
        "}",
        # From inside to a floating address and back inside: the answer has to come this way too.
        "chain hairpin {",
        *by_floating,
        *by_own,
        "}",
        "chain postrouting {",
        "  type nat hook postrouting priority 100; policy accept;",
        f'  oifname "{device}" goto outward',
        f'  iifname != "{device}" ct status dnat goto hairpin',
        "}",
    ]


def _device(leg: RouterInterface | RouterGateway) -> str:
    if isinstance(leg, RouterGateway):
        return names.outer_leg(leg.port_id)
    return names.inner_leg(leg.port_id)


def _covers(legs: Iterable[Leg], hop: str) -> bool:
    address = ipaddress.ip_address(hop)
    return any(address in ipaddress.ip_interface(a).network for leg in legs for a in leg.addresses)


def canonical(addresses: Iterable[str]) -> tuple[str, ...]:
    """Interface addresses in the one spelling the kernel's answers are compared in."""
    return tuple(dict.fromkeys(ipaddress.ip_interface(a).with_prefixlen for a in addresses))


def made_mac(seed: str) -> str:
    """A locally administered MAC that stays the same for the same seed."""
    digest = hashlib.sha256(seed.encode()).digest()
    return ":".join(f"{octet:02x}" for octet in (0xFE, 0x4B, *digest[:4]))


def _ip(value: str) -> str:
    return str(ipaddress.ip_address(value))
