"""Bring the inside of one namespace, and legs that stay on the host, to what they should be."""

from __future__ import annotations

import ipaddress

from kilonova.embedded.network.plane import conntrack, netns, system
from kilonova.embedded.network.plane.env import PlaneEnv
from kilonova.embedded.network.plane.layout import Leg, NamespaceSpec
from kilonova.embedded.network.plane.netlink import KernelRoute, Link, Netlink, netlink

_DEFAULTS = (
    ("ipv4/conf/all/arp_ignore", "1"),
    ("ipv4/conf/all/arp_announce", "2"),
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv6/conf/default/accept_ra", "0"),
    ("ipv6/conf/all/accept_ra", "0"),
)


def create(spec: NamespaceSpec) -> None:
    """Make the namespace with the switches its interfaces inherit."""
    netns.create(spec.name)

    def prepare() -> None:
        for path, value in _DEFAULTS:
            system.sysctl(path, value, fix=True)
        with netlink() as ip:
            ip.set_link("lo", state="up")

    netns.run_in(spec.name, prepare)


def settle(spec: NamespaceSpec, table: str, env: PlaneEnv, *, fix: bool) -> list[str]:
    """What differs inside the namespace; with ``fix`` it is put right on the way."""
    return netns.run_in(spec.name, lambda: _settle(spec, table, env, fix=fix))


def _settle(spec: NamespaceSpec, table: str, env: PlaneEnv, *, fix: bool) -> list[str]:
    found: list[str] = []
    forward = "1" if spec.forwarding else "0"
    for path in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
        if system.sysctl(path, forward, fix=fix):
            found.append(f"net/{path} is not {forward}")
    if spec.rules and not system.rules_loaded(env, table, ("inet",), spec.revision):
        found.append("its rule set is not loaded")
        if fix:
            before = conntrack.pairs(system.chain(env, table, "prerouting"))
            system.load_rules(env, spec.rules)
            after = conntrack.pairs(system.chain(env, table, "prerouting"))
            if before - after:
                conntrack.forget(before - after)
    with netlink() as ip:
        links, addresses = ip.links(), ip.addresses()
        for leg in spec.legs:
            fresh = settle_leg(ip, leg, spec.mtus[leg.device], links, addresses, fix=fix)
            found += fresh.findings
            if fix and leg.device == spec.garp and fresh.added:
                system.announce(leg.device, leg.mac, fresh.added)
        found += _settle_routes(ip, spec, fix=fix)
    return found


class Settled:
    """What ``settle_leg`` found, and the IPv4 addresses it gave."""

    def __init__(self) -> None:
        self.findings: list[str] = []
        self.added: list[str] = []


def settle_leg(
    ip: Netlink,
    leg: Leg,
    mtu: int,
    links: dict[str, Link],
    addresses: dict[int, set[str]],
    *,
    fix: bool,
) -> Settled:
    """MAC, MTU, state and addresses of an interface in this thread's namespace."""
    done = Settled()
    link = links.get(leg.device)
    if link is None:
        done.findings.append(f"{leg.device} is missing")
        return done
    changes: dict[str, object] = {}
    if link.mac != leg.mac:
        changes["address"] = leg.mac
    if link.mtu != mtu:
        changes["mtu"] = mtu
    if not link.up:
        changes["state"] = "up"
    if changes:
        done.findings.append(f"{leg.device} has not the right {', '.join(sorted(changes))}")
        if fix:
            ip.set_link(leg.device, **changes)
    if leg.plain_checksums and system.plain_checksums(leg.device, fix=fix):
        done.findings.append(f"{leg.device} leaves checksums open")
    have = addresses.get(link.index, set())
    for address in leg.addresses:
        if address not in have:
            done.findings.append(f"{leg.device} lacks {address}")
            if fix:
                ip.add_address(leg.device, address)
                interface = ipaddress.ip_interface(address)
                done.added += [str(interface.ip)] if interface.version == 4 else []
    for address in sorted(have - set(leg.addresses)):
        done.findings.append(f"{leg.device} has {address}")
        if fix:
            ip.delete_address(leg.device, address)
    return done


def _settle_routes(ip: Netlink, spec: NamespaceSpec, *, fix: bool) -> list[str]:
    found = []
    have = {route.destination: route for route in ip.routes()}
    wanted = {route.destination: route for route in spec.routes}
    for destination, route in wanted.items():
        now: KernelRoute | None = have.get(destination)
        if now is None or now.via != route.via:
            found.append(f"the route to {destination} is not by {route.via}")
            if fix:
                ip.replace_route(destination, route.via, device=route.device, onlink=route.onlink)
    for destination, stray in have.items():
        if destination not in wanted:
            found.append(f"there is a route to {destination}")
            if fix:
                ip.delete_route(stray)
    return found
