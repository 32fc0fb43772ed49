"""Compute nodes and what their hypervisors report (cell database)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from kilonova.db.database import Tx
from kilonova.db.prepared import Prepared
from kilonova.db.tables.cell import compute_nodes
from kilonova.domain.guest import HostReport
from kilonova.domain.resources import Node
from kilonova.store import servers

_COLUMNS = [compute_nodes.c[name] for name in ("id", "uuid", "host", "node", "report")]
_TIMES = [compute_nodes.c.created_at, compute_nodes.c.updated_at]


_PLACES = Prepared(
    sa.select(compute_nodes.c.uuid, compute_nodes.c.host).order_by(compute_nodes.c.id)
)


def places(tx: Tx) -> list[tuple[str, str]]:
    """(uuid, host) of every node, by id."""
    return [(uuid, host) for uuid, host in _PLACES.all(tx)]


_OF_HOST = Prepared(
    sa.select(compute_nodes.c.uuid)
    .where(compute_nodes.c.host == sa.bindparam("host"))
    .order_by(compute_nodes.c.id)
)


def of_host(tx: Tx, host: str) -> list[str]:
    """The uuids of a host's nodes, by id."""
    return [uuid for (uuid,) in _OF_HOST.all(tx, {"host": host})]


def reports(tx: Tx, host: str) -> list[HostReport]:
    """What the hypervisors of a host reported last."""
    query = sa.select(compute_nodes.c.report).where(compute_nodes.c.host == host)
    return list(tx.execute(query.order_by(compute_nodes.c.id)).scalars())


def page(tx: Tx, *, pattern: str | None = None, host: str | None = None) -> list[Node]:
    """The cell's nodes by id; ``pattern``: a part of the name."""
    query = sa.select(*_COLUMNS, *_TIMES)
    if pattern is not None:
        query = query.where(compute_nodes.c.node.contains(pattern, autoescape=True))
    if host is not None:
        query = query.where(compute_nodes.c.host == host)
    rows = tx.execute(query.order_by(compute_nodes.c.id)).all()
    counts = servers.counts_by_host(tx) if rows else {}
    return [_node(row, counts) for row in rows]


def get(tx: Tx, *, uuid: str | None = None, number: int | None = None) -> Node | None:
    """One node by uuid or by its number in this cell."""
    where = compute_nodes.c.uuid == uuid if uuid is not None else compute_nodes.c.id == number
    row = tx.execute(sa.select(*_COLUMNS, *_TIMES).where(where)).first()
    return _node(row, servers.counts_by_host(tx)) if row else None


def _node(row: Any, counts: Mapping[str, tuple[int, int]]) -> Node:
    vms, busy = counts.get(row.host, (0, 0))
    return Node(*(*row[:5], vms, busy, *row[5:]))


def save(tx: Tx, *, uuid: str, host: str, report: HostReport, now: dt.datetime) -> None:
    """What a hypervisor reported; the first report makes the row."""
    where = (compute_nodes.c.host == host, compute_nodes.c.node == report.node)
    changed = tx.execute(
        compute_nodes.update().where(*where).values(report=report, uuid=uuid, updated_at=now)
    )
    if not changed.rowcount:
        tx.execute(
            compute_nodes.insert().values(
                uuid=uuid, host=host, node=report.node, report=report, created_at=now
            )
        )


def delete_host(tx: Tx, host: str) -> list[str]:
    """Remove the nodes of a host; their uuids."""
    where = compute_nodes.c.host == host
    uuids = list(tx.execute(sa.select(compute_nodes.c.uuid).where(where)).scalars())
    tx.execute(compute_nodes.delete().where(where))
    return uuids
