"""Hosts as the scheduler looks at them: nodes, their services, their servers (cell database)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from kilonova.db.database import Tx
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
        c = compute_nodes.c
        nodes = tx.execute(
            sa.select(c.uuid, c.host, c.node, c.report).where(
                c.uuid.in_(uuids[start : start + _CHUNK])
            )
        ).all()
        hosts = {row.host for row in nodes}
        if not hosts:
            continue
        daemons = services.computes(tx, hosts)
        load = _load(tx, hosts, images=images)
        shaped = {row.host for row in nodes if row.report.shape is not None}
        held = holds.of_hosts(tx, shaped) if shaped else {}
        for row in nodes:
            mine = held.get(row.host, ())
            found.append(HostRow(*row, daemons.get(row.host), *load[row.host], mine))
    return found


def _load(
    tx: Tx, hosts: Collection[str], *, images: bool
) -> dict[str, tuple[frozenset[str], int, tuple[dict[str, str], ...]]]:
    c = instances.c
    columns: list[sa.Column[Any]] = [c.host, c.uuid, c.vm_state, c.task_state]
    if images:
        columns.append(c.server)
    servers: dict[str, set[str]] = defaultdict(set)
    busy: dict[str, int] = defaultdict(int)
    properties: dict[str, list[dict[str, str]]] = defaultdict(list)
    rows = tx.execute(sa.select(*columns).where(c.host.in_(hosts), c.deleted == sa.false()))
    for row in rows:
        servers[row.host].add(row.uuid)
        busy[row.host] += is_busy(row.vm_state, row.task_state)
        image = decode(row.server).image if images else None
        if image is not None:
            properties[row.host].append(image.properties)
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
