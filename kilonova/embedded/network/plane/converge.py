"""Find what on the host differs from the layout and, if asked to, put it right."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from kilonova.embedded.network.plane import dnsmasq, inside, names, netns, system
from kilonova.embedded.network.plane.env import PlaneEnv, PlaneError
from kilonova.embedded.network.plane.firewall import removal
from kilonova.embedded.network.plane.layout import Layout, LinkSpec, NamespaceSpec
from kilonova.embedded.network.plane.netlink import Link, Netlink

log = logging.getLogger(__name__)

_FAMILIES = ("bridge", "inet")


class Convergence:
    """One look at a host, in a thread of the host's namespace; ``fix`` makes it a repair.

    ``before`` is a layout the host was brought to a moment ago: what both layouts say alike is
    taken as being in place, as far as looking costs more than a list of links and names.

    ``findings`` are differences (with ``fix``: repaired ones), ``problems`` those that could not be
    repaired. A problem with one object does not keep the others from being put right.
    """

    def __init__(
        self,
        ip: Netlink,
        layout: Layout,
        env: PlaneEnv,
        *,
        fix: bool,
        before: Layout | None = None,
    ) -> None:
        self._ip = ip
        self._layout = layout
        self._before = before
        self._renewed: set[str | None] = set()
        self._env = env
        self._fix = fix
        self._table = names.table(env.deployment_id)
        self._group = names.link_group(env.deployment_id)
        self._alias = f"kilonova {env.deployment_id}"
        self._links: dict[str, Link] = {}
        self.findings: list[str] = []
        self.problems: list[str] = []
        self.enforced = True

    def run(self) -> None:
        """The whole of it, in the order in which things depend on each other."""
        self._rules()
        self._policies()
        self._end_processes()
        self._links = self._ip.links()
        self._remove_namespaces()
        self._remove_links()
        self._make_namespaces()
        self._bridges()
        self._bridge_ports()
        self._taps()
        self._gateways()
        for spec in self._layout.namespaces.values():
            self._namespace(spec)
        self._processes()

    def absent_taps(self) -> list[str]:
        """Taps the plan expects and nobody has plugged (``apply`` cannot make them good)."""
        gone = sorted(self._layout.expected_taps - self._links.keys())
        return [f"tap {name} is missing" for name in gone]

    def _settle(self, finding: str, repair: Callable[[], object]) -> bool:
        """Note a finding and repair it; true when it is repaired now."""
        if not self._fix:
            self.findings.append(finding)
            return False
        try:
            repair()
        except (PlaneError, OSError) as error:
            log.warning("data plane: %s; repair failed: %s", finding, error)
            self.problems.append(f"{finding}: {error}")
            return False
        self.findings.append(finding)
        return True

    def _rules(self) -> None:
        layout, env, before = self._layout, self._env, self._before
        if not layout.rules or (before is not None and before.revision == layout.revision):
            return
        if before is None and system.rules_loaded(env, self._table, _FAMILIES, layout.revision):
            return
        self.enforced = self._settle(
            "the host's rule set is not the wanted one",
            partial(system.load_rules, env, layout.rules),
        )

    def _policies(self) -> None:
        """Bridged packets pass the host's FORWARD chain; a container engine drops them there."""
        if self._before is not None and bool(self._before.links) == bool(self._layout.links):
            return
        for tool in ("iptables", "ip6tables"):
            rules = system.forward_rules(tool)
            ours = any(self._table in rule for rule in rules)
            if self._layout.links and not ours and "-P FORWARD DROP" in rules:
                self._settle(
                    f"{tool} drops what bridges forward",
                    partial(system.accept_forwarded, tool, self._table),
                )
            elif ours and not self._layout.links:
                self._settle(
                    f"{tool} rules for bridges are not in the plan",
                    partial(system.withdraw_accepted, tool, self._table),
                )

    def _end_processes(self) -> None:
        wanted, env = self._layout.dnsmasqs, self._env
        if self._before is not None and _configured(self._before) == _configured(self._layout):
            return
        for process in dnsmasq.running(env):
            spec = wanted.get(process.key)
            if spec is None:
                finding = f"dnsmasq {process.key} is not in the plan"
            elif not dnsmasq.in_place(env, process, spec):
                finding = f"dnsmasq {process.key} runs with an old configuration"
            else:
                continue
            self._settle(finding, partial(dnsmasq.stop, process.pid))
        for key in sorted(dnsmasq.kept(self._env) - wanted.keys()):
            self._settle(
                f"files of dnsmasq {key} are not in the plan",
                partial(dnsmasq.forget, self._env, key),
            )

    def _remove_namespaces(self) -> None:
        for name in netns.names_with(names.namespace_prefix(self._env.deployment_id)):
            if name not in self._layout.namespaces:
                self._settle(
                    f"namespace {name} is not in the plan",
                    partial(netns.delete, name),
                )

    def _remove_links(self) -> None:
        wanted = {*self._layout.links, *self._layout.taps}
        wanted |= {leg.device for leg in self._layout.gateways}
        ours = [link for link in self._links.values() if link.group == self._group]
        stays: set[int | None] = set()
        gone = []
        for link in sorted(ours, key=lambda link: link.kind == "bridge"):
            if link.name in wanted or (link.kind == "bridge" and link.index in stays):
                continue
            if self._young(link):
                stays.add(link.master)
                continue
            if self._settle(
                f"{link.kind or 'link'} {link.name} is not in the plan",
                partial(self._ip.delete_link, link.name),
            ):
                del self._links[link.name]
                gone.append(link)
        if any(link.kind == "veth" for link in gone):
            self._links = self._ip.links()  # The other ends went with them.

    def _young(self, link: Link) -> bool:
        """Whether a tap may be newer than the plan."""
        if link.kind != "tun" or not self._fix:
            return False
        made = link.alias.rpartition(" ")[2]
        age = self._env.clock.now().timestamp() - (int(made) if made.isdigit() else 0)
        return 0 <= age < self._env.tap_grace

    def _make_namespaces(self) -> None:
        for spec in self._layout.namespaces.values():
            if not netns.alive(spec.name):
                self._renewed.add(spec.name)
                self._settle(
                    f"namespace {spec.name} is missing",
                    partial(inside.create, spec),
                )

    def _bridges(self) -> None:
        made = False
        for spec in self._layout.links.values():
            if spec.kind == "bridge":
                link = self._links.get(spec.name)
                if link is None:
                    made |= self._settle(
                        f"bridge {spec.name} is missing",
                        partial(make_bridge, self._ip, spec.name, spec.mtu, self._env),
                    )
                elif not self._foreign(link):
                    self._check(link, spec.mtu, None)
                    if not link.tracks:
                        self._settle(
                            f"bridge {spec.name} does not track connections",
                            partial(self._ip.track, spec.name),
                        )
        if made:
            self._links = self._ip.links()

    def _bridge_ports(self) -> None:
        changed = False
        for spec in self._layout.links.values():
            if spec.kind == "bridge":
                continue
            link = self._links.get(spec.name)
            if link is not None and self._foreign(link):
                continue
            if link is not None and self._misfit(link, spec):
                again = self._settle(
                    f"{spec.kind} {spec.name} is another than wanted",
                    partial(self._ip.delete_link, spec.name),
                )
                link = None if again else link
            if link is None:
                changed |= self._settle(
                    f"{spec.kind} {spec.name} is missing",
                    partial(self._make_port, spec),
                )
            else:
                self._check(link, spec.mtu, spec.master)
        if changed:
            self._links = self._ip.links()
        self._flooding()

    def _misfit(self, link: Link, spec: LinkSpec) -> bool:
        if link.kind != spec.kind:
            return True
        if spec.tunnel is not None:
            return link.vxlan != (spec.tunnel.vni, spec.tunnel.local, spec.tunnel.port)
        return False

    def _make_port(self, spec: LinkSpec) -> None:
        if spec.tunnel is not None:
            self._ip.add_vxlan(
                spec.name,
                vni=spec.tunnel.vni,
                local=spec.tunnel.local,
                port=spec.tunnel.port,
                mtu=spec.mtu,
                group=self._group,
                alias=self._alias,
            )
        elif spec.leg is not None:
            self._renewed.add(spec.leg.netns)
            peer: dict[str, object] = {"ifname": spec.leg.device, "address": spec.leg.mac}
            handle = -1
            try:
                if spec.leg.netns is not None:
                    self._silence(spec.leg.netns)
                    handle = os.open(netns.RUN / spec.leg.netns, os.O_RDONLY | os.O_CLOEXEC)
                    peer["net_ns_fd"] = handle
                self._ip.add_veth(
                    spec.name, peer, mtu=spec.mtu, group=self._group, alias=self._alias
                )
            finally:
                if handle >= 0:
                    os.close(handle)
        if spec.leg is not None and spec.leg.netns is None:
            # Whoever may send router advertisements there is no router of this host.
            system.sysctl(f"ipv6/conf/{spec.leg.device}/accept_ra", "0", fix=True)
        system.no_ipv6(spec.name)
        self._ip.set_link(spec.name, master=spec.master, state="up")

    def _silence(self, namespace: str) -> None:
        """End a server that still listens on the interface this one replaces."""
        for process in dnsmasq.running(self._env):
            spec = self._layout.dnsmasqs.get(process.key)
            if spec is not None and spec.netns == namespace:
                dnsmasq.stop(process.pid)

    def _flooding(self) -> None:
        if not any(spec.tunnel for spec in self._layout.links.values()):
            return
        have = self._ip.flood_peers()
        for spec in self._layout.links.values():
            link = self._links.get(spec.name)
            if spec.tunnel is None or link is None:
                continue
            now, then = have.get(link.index, set()), set(spec.tunnel.peers)
            for peer in sorted(then - now):
                self._settle(
                    f"{spec.name} does not reach {peer}",
                    partial(self._ip.add_flood_peer, spec.name, peer),
                )
            for peer in sorted(now - then):
                self._settle(
                    f"{spec.name} still reaches {peer}",
                    partial(self._ip.delete_flood_peer, spec.name, peer),
                )

    def _taps(self) -> None:
        for name, (bridge, mtu) in self._layout.taps.items():
            link = self._links.get(name)
            if link is not None and not self._foreign(link):
                self._check(link, mtu, bridge)

    def _foreign(self, link: Link) -> bool:
        """A link of the wanted name that is not ours is left alone and reported."""
        if link.group == self._group:
            return False
        finding = f"{link.name} belongs to somebody else"
        (self.problems if self._fix else self.findings).append(finding)
        return True

    def _check(self, link: Link, mtu: int, master: str | None) -> None:
        changes: dict[str, object] = {}
        if link.mtu != mtu:
            changes["mtu"] = mtu
        if master is not None:
            bridge = self._links.get(master)
            if bridge is None or link.master != bridge.index:
                changes["master"] = master
        if not link.up:
            changes["state"] = "up"
        if changes:
            self._settle(
                f"{link.name} has not the right {', '.join(sorted(changes))}",
                partial(self._ip.set_link, link.name, **changes),
            )

    def _gateways(self) -> None:
        gateways, before = self._layout.gateways, self._before
        if not gateways:
            return
        if before is not None and before.gateways == gateways and None not in self._renewed:
            return
        mtus = {s.leg.device: s.mtu for s in self._layout.links.values() if s.leg is not None}
        addresses = self._ip.addresses()
        for leg in gateways:
            mtu = mtus[leg.device]
            try:
                done = inside.settle_leg(self._ip, leg, mtu, self._links, addresses, fix=self._fix)
                self.findings += done.findings
            except (PlaneError, OSError) as error:
                self.problems.append(f"{leg.device}: {error}")
        if self._layout.masquerade:
            self._forwarding()

    def _forwarding(self) -> None:
        """Let packets through between the host's gateways and its default route, nothing else."""
        ways = sorted(self._ip.default_devices())
        for device in [*(leg.device for leg in self._layout.gateways), *ways]:
            path = f"ipv4/conf/{device}/forwarding"
            if system.sysctl(path, "1", fix=False):
                self._settle(
                    f"{device} does not forward",
                    partial(self._forward, device, ways),
                )

    def _forward(self, device: str, ways: list[str]) -> None:
        if device in ways:
            memory = self._env.run_dir / "forwarding.json"
            known = set(_remembered(memory))
            memory.write_text(json.dumps(sorted({*known, device})))
        system.sysctl(f"ipv4/conf/{device}/forwarding", "1", fix=True)

    def _namespace(self, spec: NamespaceSpec) -> None:
        if not netns.alive(spec.name):
            return
        before = self._before
        if (
            before is not None
            and before.namespaces.get(spec.name) == spec
            and spec.name not in self._renewed
        ):
            return
        try:
            found = inside.settle(spec, self._table, self._env, fix=self._fix)
        except (PlaneError, OSError) as error:
            log.warning("data plane: namespace %s: %s", spec.name, error)
            self.problems.append(f"{spec.name}: {error}")
        else:
            self.findings += [f"{spec.name}: {finding}" for finding in found]

    def _processes(self) -> None:
        before = self._before
        if not self._layout.dnsmasqs or (
            before is not None
            and before.dnsmasqs == self._layout.dnsmasqs
            and not self._renewed & {spec.netns for spec in self._layout.dnsmasqs.values()}
        ):
            return
        present = {process.key: process for process in dnsmasq.running(self._env)}
        for spec in self._layout.dnsmasqs.values():
            process = present.get(spec.key)
            if process is None or not dnsmasq.in_place(self._env, process, spec):
                self._settle(
                    f"dnsmasq {spec.key} does not run",
                    partial(dnsmasq.start, self._env, spec),
                )
            elif not dnsmasq.told(self._env, spec):
                self._settle(
                    f"dnsmasq {spec.key} does not know all hosts and options",
                    partial(dnsmasq.tell, self._env, spec, process),
                )


def _configured(layout: Layout) -> dict[str, tuple[str, str]]:
    """What a change of needs another process."""
    return {spec.key: (spec.conf_name, spec.netns) for spec in layout.dnsmasqs.values()}


def make_bridge(ip: Netlink, name: str, mtu: int, env: PlaneEnv) -> None:
    """A bridge of ours; it has no address and the host does not speak on it."""
    group = names.link_group(env.deployment_id)
    ip.add_bridge(name, mtu=mtu, group=group, alias=f"kilonova {env.deployment_id}")
    system.no_ipv6(name)
    ip.set_link(name, state="up")


def remove_tables(env: PlaneEnv) -> list[str]:
    """Remove the deployment's tables and undo the switch on the default route's links."""
    table = names.table(env.deployment_id)
    present = [family for family in _FAMILIES if system.table_exists(env, family, table)]
    if present:
        system.load_rules(env, removal(present, table))
    for device in _remembered(env.run_dir / "forwarding.json"):
        system.sysctl(f"ipv4/conf/{device}/forwarding", "0", fix=True)
    return [f"table {family} {table}" for family in present]


def _remembered(path: Path) -> Iterable[str]:
    try:
        return [str(name) for name in json.loads(path.read_text())]
    except (FileNotFoundError, ValueError):
        return []
