"""Opening the network service, and the first content of a cloud's networks."""

from __future__ import annotations

import asyncio
import ipaddress
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from kilonova.base.clock import Clock
from kilonova.base.errors import Conflict
from kilonova.base.ids import Ids
from kilonova.db.database import Database
from kilonova.embedded.network import service, topology
from kilonova.embedded.network.api import networks, subnets
from kilonova.embedded.network.api.security_groups import add_rule, ensure_default
from kilonova.embedded.network.app import NetworkApp, NetworkSettings, Work
from kilonova.embedded.network.kinds import SECURITY_GROUP
from kilonova.embedded.network.rules import Net, network
from kilonova.embedded.network.store import networks as network_store
from kilonova.embedded.network.store import quotas, rows
from kilonova.embedded.network.telling import Notify
from kilonova.web.call import Caller

PUBLIC = "public"
PRIVATE = "private"
RESOLV = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))
ROUTE_TABLE = Path("/proc/net/route")


async def open_network(
    db: Database,
    settings: NetworkSettings,
    *,
    clock: Clock,
    ids: Ids,
    random: Callable[[int], bytes] = os.urandom,
    notify: Notify | None = None,
) -> NetworkApp:
    """The service on a database brought to the newest schema; ``close`` it later.

    ``notify`` is given os-server-external-events entries in the background, again and again until
    it returns without an error; entries survive a restart.
    """
    await asyncio.to_thread(service.prepare, db)
    app = NetworkApp(db, settings, clock=clock, ids=ids, random=random, notify=notify)
    app.start()
    return app


async def ensure_public(
    app: NetworkApp,
    *,
    project_id: str,
    name: str = PUBLIC,
    cidr: str | None = None,
    avoid: Iterable[str] | None = None,
) -> str:
    """The id of the default external network, made when there is none.

    It is flat, without DHCP, and the host itself is its gateway. Without ``cidr`` the first of
    172.24.4.0/24, 172.24.5.0/24 … that meets none of ``avoid`` (by default the prefixes this host
    has routes to) is taken. Conflict if none is left.
    """
    taken = list(avoid) if avoid is not None else host_prefixes()

    def work(job: Work) -> str:
        quotas.lock(job.tx, networks.DEFAULTS)
        present = network_store.default_external(job.tx)
        if present is not None:
            return present
        chosen = network(cidr) if cidr else _free(taken)
        made = networks.create(
            job,
            {
                "id": job.ids.uuid(),
                "name": name,
                "project_id": project_id,
                "external": True,
                "is_default": True,
            },
        )
        subnets.create(
            job,
            {
                "id": job.ids.uuid(),
                "name": f"{name}-subnet",
                "project_id": project_id,
                "network_id": made["id"],
                "ip_version": chosen.version,
                "cidr": str(chosen),
                "enable_dhcp": False,
            },
        )
        return str(made["id"])

    return await app.write(_self(project_id), work)


async def ensure_private(
    app: NetworkApp, *, project_id: str, name: str = PRIVATE, cidr: str | None = None
) -> str:
    """The id of a project's network of that name, made with a subnet and a router when missing.

    When it is made, the project's default security group is opened for ICMP and SSH over IPv4.
    """

    def work(job: Work) -> str:
        quotas.lock(job.tx, project_id)
        present = network_store.by_name(job.tx, name, project_id)
        if present is not None:
            return present
        group = rows.need(job.tx, SECURITY_GROUP, ensure_default(job, project_id))
        anyone = {"direction": "ingress", "ethertype": "IPv4", "remote_ip_prefix": "0.0.0.0/0"}
        add_rule(job, group, protocol="icmp", **anyone)
        add_rule(job, group, protocol="tcp", port_range_min=22, port_range_max=22, **anyone)
        made, _ = topology.make(
            job,
            project_id,
            external=network_store.default_external(job.tx),
            cidr=cidr or topology.free_prefix(job),
            names=(name, f"{name}-subnet", f"{name}-router"),
        )
        return made

    return await app.write(_self(project_id), work)


def host_prefixes(table: Path = ROUTE_TABLE) -> list[str]:
    """The IPv4 prefixes this host has routes to, but for the default one (Linux proc(5))."""
    try:
        lines = table.read_text().splitlines()[1:]
    except OSError:
        return []
    found = []
    for line in lines:
        fields = line.split()
        if len(fields) < 8:
            continue
        address, mask = (int.from_bytes(bytes.fromhex(fields[i]), "little") for i in (1, 7))
        if mask:
            found.append(f"{ipaddress.IPv4Address(address)}/{mask.bit_count()}")
    return found


def host_resolvers(files: Iterable[Path] = RESOLV) -> tuple[str, ...]:
    """Name servers of this host that guests can reach too: those that are not on loopback."""
    for file in files:
        try:
            lines = file.read_text(errors="replace").splitlines()
        except OSError:
            continue
        found = tuple(dict.fromkeys(_resolvers(lines)))
        if found:
            return found[:3]
    return ()


def _resolvers(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        words = line.split()
        if len(words) < 2 or words[0] != "nameserver" or "%" in words[1]:
            continue
        try:
            address = ipaddress.ip_address(words[1])
        except ValueError:
            continue
        if not (address.is_loopback or address.is_link_local or address.is_unspecified):
            yield str(address)


def _free(taken: Iterable[str]) -> Net:
    """The first /24 from 172.24.4.0 on, then of 10.224.0.0/11, that meets none of ``taken``."""
    used = [ipaddress.ip_network(text) for text in taken]
    ranges = (ipaddress.IPv4Network("172.24.4.0/22"), ipaddress.IPv4Network("172.24.8.0/21"))
    for big in (*ranges, ipaddress.IPv4Network("10.224.0.0/11")):
        for net in big.subnets(new_prefix=24):
            if not any(other.version == 4 and other.overlaps(net) for other in used):
                return net
    raise Conflict("No prefix is left for an external network; name one.")


def _self(project_id: str) -> Caller:
    return Caller(user_id="network", project_id=project_id, roles=("admin",))
