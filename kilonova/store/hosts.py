"""Hosts as the scheduler looks at them: nodes, their services, their servers (cell database)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence

import msgspec
import sqlalchemy as sa

from kilonova.db.database import Tx
from kilonova.db.prepared import Prepared
from kilonova.db.tables.cell import compute_nodes, instances
from kilonova.domain.fit.shapes import Held
from kilonova.domain.guest import HostReport
from kilonova.domain.resources import Service
from kilonova.store import holds, services
from kilonova.store.servers import decode

# Work that keeps a host's disks and network busy.
_BUSY_TASKS = frozenset(
    {
        "resize_prep",
        "resize_migrating",
        "rebuilding",
        "image_snapshot",
        "image_backup",
        "unshelving",
        "rescuing",
    }
)
_CHUNK = 500

_N = compute_nodes.c
_NODES = Prepared(
    sa.select(_N.uuid, _N.host, _N.node, _N.report).where(
        _N.uuid.in_(sa.bindparam("uuids", expanding=True))
    )
)
_I = instances.c
_BRIEF = sa.select(_I.host, _I.uuid, _I.vm_state, _I.task_state)
_ON_HOSTS = (_I.host.in_(sa.bindparam("hosts", expanding=True)), _I.deleted == sa.false())
_SERVERS = Prepared(_BRIEF.where(*_ON_HOSTS))
_WHOLE_SERVERS = Prepared(_BRIEF.add_columns(_I.server).where(*_ON_HOSTS))


class HostRow(msgspec.Struct, frozen=True):
    """A node with its service (None: never heard of) and what runs on its host.

    ``images``: the image properties of the servers, only where they were asked for. ``held``: what
    guests have of the node's shape.
    """

    uuid: str
    host: str
    node: str
    report: HostReport
    service: Service | None
    servers: frozenset[str]
    busy: int
    images: tuple[dict[str, str], ...] = ()
    held: tuple[Held, ...] = ()


def present(tx: Tx, uuids: Sequence[str], *, images: bool = False) -> list[HostRow]:
    """The nodes with these uuids that this cell has; four statements for each 500."""
    found: list[HostRow] = []
    for start in range(0, len(uuids), _CHUNK):
        nodes = _NODES.all(tx, {"uuids": uuids[start : start + _CHUNK]})
        hosts = {row[1] for row in nodes}
        if not hosts:
            continue
        daemons = services.computes(tx, hosts)
        load = _load(tx, hosts, images=images)
        shaped = [host for _, host, _, report in nodes if report.shape is not None]
        held = holds.of_hosts(tx, shaped) if shaped else {}
        for uuid, host, node, report in nodes:
            mine = held.get(host, ())
            found.append(HostRow(uuid, host, node, report, daemons.get(host), *load[host], mine))
    return found


def _load(
    tx: Tx, hosts: Collection[str], *, images: bool
) -> dict[str, tuple[frozenset[str], int, tuple[dict[str, str], ...]]]:
    servers: dict[str, set[str]] = defaultdict(set)
    busy: dict[str, int] = defaultdict(int)
    properties: dict[str, list[dict[str, str]]] = defaultdict(list)
    query = _WHOLE_SERVERS if images else _SERVERS
    for host, uuid, vm_state, task_state, *server in query.all(tx, {"hosts": hosts}):
        servers[host].add(uuid)
        busy[host] += is_busy(vm_state, task_state)
        image = decode(server[0]).image if images else None
        if image is not None:
            properties[host].append(image.properties)
    return {h: (frozenset(servers[h]), busy[h], tuple(properties[h])) for h in hosts}


def is_busy(vm_state: str, task_state: str | None) -> bool:
    """Whether a server in that state keeps its host's disks and network busy."""
    return vm_state == "building" or task_state in _BUSY_TASKS


def nodes_of(tx: Tx, host: str, node: str | None = None) -> list[str]:
    """The uuids of a host's nodes in this cell, or of the one named."""
    c = compute_nodes.c
    query = sa.select(c.uuid).where(c.host == host)
    if node is not None:
        query = query.where(c.node == node)
    return list(tx.execute(query.order_by(c.id)).scalars())


def nodes_named(tx: Tx, node: str) -> list[str]:
    """The uuids of the nodes of that name in this cell, whatever their host."""
    c = compute_nodes.c
    return list(tx.execute(sa.select(c.uuid).where(c.node == node).order_by(c.id)).scalars())
