"""The data plane's verbs: apply a plan, audit against it, plug and unplug taps, destroy.

All work on the kernel is done in short-lived threads, for it blocks and enters namespaces. What is
touched of the host beside our own links, tables and namespaces: forwarding between the host's
gateway interfaces and the links of its default route; three accepting rules in an ``iptables``
FORWARD chain whose policy is to drop (a container engine's); and, when br_netfilter had to be
loaded, its host-wide switches, which are turned off because our bridges ask for it one by one.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from kilonova.embedded.network.plane import layout as layouts
from kilonova.embedded.network.plane import names, netns, system
from kilonova.embedded.network.plane.converge import Convergence, make_bridge, remove_tables
from kilonova.embedded.network.plane.desired import HostPlan, check
from kilonova.embedded.network.plane.env import PlaneEnv, PlaneError, Report
from kilonova.embedded.network.plane.firewall import host_rules
from kilonova.embedded.network.plane.netlink import netlink

T = TypeVar("T")

_BRIDGE_SWITCHES = Path("/proc/sys/net/bridge")
_CAP_NET_ADMIN, _CAP_SYS_ADMIN = 12, 21


async def apply(plan: HostPlan, *, env: PlaneEnv) -> Report:
    """Make the host what the plan says: what is missing is made, what differs is changed, what is
    ours and not in the plan is removed. Repeating it changes nothing.

    Raises ``BadPlan`` before anything is touched. What cannot be done is in the report's
    ``problems``, and tried again by the next call.
    """
    return await Plane(env).apply(plan)


class Plane:
    """The data plane of a host for one who applies plan after plan: remembers what the last one
    brought about, so that a small change is a small work."""

    def __init__(self, env: PlaneEnv) -> None:
        self._env = env
        self._before: layouts.Layout | None = None

    async def apply(self, plan: HostPlan, *, whole: bool = True) -> Report:
        """``apply`` of this package; unless ``whole``, what the last plan said alike and was
        brought about without a problem is not looked at again."""
        env = self._env
        layout = await asyncio.to_thread(_checked, plan, env)
        before, self._before = None if whole else self._before, None
        began = env.clock.monotonic()

        def work() -> Convergence:
            _prepare()
            with system.locked(env), netlink() as ip:
                convergence = Convergence(ip, layout, env, fix=True, before=before)
                convergence.run()
                return convergence

        done = await _on_host(env, work)
        if not done.problems:
            self._before = layout
        return Report(
            changes=tuple(done.findings),
            problems=tuple(done.problems),
            notes=tuple(
                f"router {router.id}: {route.nexthop} is on none of its networks, "
                f"the route to {route.destination} is left out"
                for router in plan.routers
                for route in layouts.unreachable(router)
            ),
            seconds=env.clock.monotonic() - began,
            enforced=done.enforced,
        )


async def audit(plan: HostPlan, env: PlaneEnv) -> list[str]:
    """What is ours and not in the plan, what the plan names and is missing or different; nothing
    is changed. An empty list means that plan and host agree."""
    layout = await asyncio.to_thread(_checked, plan, env)

    def work() -> list[str]:
        with netlink() as ip:
            convergence = Convergence(ip, layout, env, fix=False)
            convergence.run()
            return [*convergence.findings, *convergence.absent_taps()]

    return await _on_host(env, work)


async def leftovers(env: PlaneEnv) -> list[str]:
    """Everything of the deployment on this host, as after ``destroy`` there should be nothing."""
    empty = _nothing(env)
    table = names.table(env.deployment_id)

    def work() -> list[str]:
        with netlink() as ip:
            convergence = Convergence(ip, empty, env, fix=False)
            convergence.run()
        tables = [f for f in ("bridge", "inet") if system.table_exists(env, f, table)]
        return [*convergence.findings, *(f"table {family} {table}" for family in tables)]

    return await _on_host(env, work)


async def destroy(env: PlaneEnv) -> Report:
    """Remove everything of the deployment from this host."""
    began = env.clock.monotonic()
    now = msgspec.structs.replace(env, tap_grace=0.0)
    empty = _nothing(env)

    def work() -> tuple[Convergence, list[str]]:
        with system.locked(env), netlink() as ip:
            convergence = Convergence(ip, empty, now, fix=True)
            convergence.run()
            tables = remove_tables(env)
            shutil.rmtree(env.run_dir, ignore_errors=True)
            return convergence, tables

    done, tables = await _on_host(env, work)
    return Report(
        changes=(*done.findings, *tables),
        problems=tuple(done.problems),
        seconds=env.clock.monotonic() - began,
    )


async def plug_tap(
    name: str, bridge: str, mtu: int, env: PlaneEnv, user: int | None = None
) -> None:
    """Make a persistent tap on a bridge, for ``user`` (a user id) to open; idempotent.

    The bridge is made if it is not there yet. Frames pass once a plan that names the port is
    applied: until then the rule set drops them. Raises ``PlaneError``.
    """
    group = names.link_group(env.deployment_id)
    empty, _ = host_rules(HostPlan(host=""), env.deployment_id)
    table = names.table(env.deployment_id)

    def work() -> None:
        _prepare()
        with system.locked(env), netlink() as ip:
            if not system.table_exists(env, "bridge", table):
                system.load_rules(env, empty)
            if ip.link(bridge) is None:
                make_bridge(ip, bridge, mtu, env)
            old = ip.link(name)
            if old is not None and old.group != group:
                raise PlaneError(f"{name} belongs to somebody else")
            stamp = int(env.clock.now().timestamp())
            with system.new_tap(name, user):
                alias = f"kilonova {env.deployment_id} {stamp}"
                ip.set_link(name, group=group, ifalias=alias, mtu=mtu)
                system.no_ipv6(name)
                ip.set_link(name, master=bridge, state="up")

    await _on_host(env, work)


async def unplug_tap(name: str, env: PlaneEnv) -> None:
    """Remove a tap of ours; one that is gone is fine. Raises ``PlaneError``."""
    group = names.link_group(env.deployment_id)

    def work() -> None:
        with system.locked(env), netlink() as ip:
            link = ip.link(name)
            if link is None:
                return
            if link.group != group:
                raise PlaneError(f"{name} belongs to somebody else")
            ip.delete_link(name)

    await _on_host(env, work)


def capable(env: PlaneEnv | None = None) -> str | None:
    """None when the data plane can work here, or one sentence that says why not and what to do.

    Tries the real thing in a namespace that vanishes; takes some tens of milliseconds.
    """
    wanted = (1 << _CAP_NET_ADMIN) | (1 << _CAP_SYS_ADMIN)
    if os.geteuid() != 0 or _capabilities() & wanted != wanted:
        return (
            "Networks with bridges and routers need root (CAP_NET_ADMIN and CAP_SYS_ADMIN): "
            "run as root, or stay with user-mode networking."
        )
    nft, dnsmasq = (env.nft, env.dnsmasq) if env else ("nft", "dnsmasq")
    for tool, package in ((nft, "nftables"), (dnsmasq, "dnsmasq-base")):
        if system.tool_path(tool) is None:
            return f"The program {tool} is missing: install the package {package}."
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        return (
            "/dev/net/tun cannot be opened: load the module tun or give this container the device."
        )
    try:
        _prepare()
        probe = PlaneEnv("probe", Path("/run/kilonova/probe"), nft=nft, dnsmasq=dnsmasq)
        netns.create_nameless_and(lambda: _probe(probe))
    except (PlaneError, OSError) as error:
        return f"This kernel cannot carry the data plane: {error}."
    return None


def _checked(plan: HostPlan, env: PlaneEnv) -> layouts.Layout:
    check(plan)
    return layouts.layout(plan, env.deployment_id, env.lease_time)


def _nothing(env: PlaneEnv) -> layouts.Layout:
    """The layout of a host that shall not even have a rule set."""
    empty = layouts.layout(HostPlan(host=""), env.deployment_id, env.lease_time)
    return msgspec.structs.replace(empty, rules="")


def _probe(env: PlaneEnv) -> None:
    with netlink() as ip:
        make_bridge(ip, "kvb0", 1500, env)
        ip.add_veth("kvd0", {"ifname": "dhcp0"}, mtu=1500, group=1, alias="probe")
        ip.set_link("kvd0", master="kvb0", state="up")
        if not ip.links()["kvb0"].tracks:
            raise PlaneError("bridges do not pass frames to connection tracking")
    rules, revision = host_rules(HostPlan(host=""), env.deployment_id)
    system.load_rules(env, rules)
    if not system.rules_loaded(env, names.table(env.deployment_id), ("bridge", "inet"), revision):
        raise PlaneError("nftables does not keep its rule sets")


def _prepare() -> None:
    if _BRIDGE_SWITCHES.exists():
        return
    system.load_module("br_netfilter")
    if not _BRIDGE_SWITCHES.exists():
        raise PlaneError("br_netfilter is missing (load the module br_netfilter)")
    for name in ("iptables", "ip6tables", "arptables"):
        system.sysctl(f"bridge/bridge-nf-call-{name}", "0", fix=True)


def _capabilities() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


async def _on_host(env: PlaneEnv, work: Callable[[], T]) -> T:
    return await asyncio.to_thread(netns.run_in, env.netns, work)
