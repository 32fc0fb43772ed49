"""Which servers ran in a span of time (cell database)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

import sqlalchemy as sa

from kilonova.db.database import Tx
from kilonova.db.tables.cell import instances
from kilonova.domain.server import Server
from kilonova.store.servers import decode


def active(
    tx: Tx,
    begin: dt.datetime,
    end: dt.datetime,
    *,
    project_id: str | None = None,
    limit: int | None = None,
    marker: str | None = None,
) -> list[tuple[str, bytes]]:
    """Servers that had been launched before ``end`` and were not gone before ``begin``, by id.

    Deleted ones are among them; those after the marker only. As (id, what `merge` reads).
    """
    c = instances.c
    # Ids are sorted, not whole servers.
    first = sa.select(c.id.label("number")).where(
        c.launched_at.is_not(None),
        c.launched_at < end,
        sa.or_(c.terminated_at.is_(None), c.terminated_at > begin),
    )
    if project_id is not None:
        first = first.where(c.project_id == project_id)
    if marker is not None:
        first = first.where(c.uuid > marker)
    if limit is not None:
        first = first.order_by(c.uuid).limit(limit)
    chosen = first.subquery("chosen")
    query = sa.select(c.uuid, c.server).join(chosen, chosen.c.number == c.id)
    return [(row[0], row[1]) for row in tx.execute(query)]


def merge(rows: Iterable[tuple[str, bytes]], limit: int | None) -> list[Server]:
    """The first of several cells' `active` rows, in the order of their ids."""
    return [decode(kept) for _, kept in sorted(rows, key=lambda row: row[0])[:limit]]


def exists(tx: Tx, server_id: str) -> bool:
    """Whether a server, living or deleted, has a row here."""
    query = sa.select(instances.c.id).where(instances.c.uuid == server_id)
    return tx.execute(query).first() is not None
