"""Counts for operators: servers by state, sagas by state and age, agents alive or dead."""

from __future__ import annotations

import datetime as dt

import msgspec
import sqlalchemy as sa

from kilonova.db.database import Tx
from kilonova.db.tables.api import saga_tables
from kilonova.db.tables.cell import instances, services
from kilonova.db.tables.sagas import SagaTables

_SAGAS: SagaTables = saga_tables


class SagaCount(msgspec.Struct, frozen=True):
    """Sagas of one state that have not ended; when the oldest was accepted (seconds since 1970)."""

    count: int
    oldest: float


def servers(tx: Tx) -> dict[str, int]:
    """vm_state → living servers of a cell."""
    query = sa.select(instances.c.vm_state, sa.func.count()).where(instances.c.deleted.is_(False))
    return {row[0]: row[1] for row in tx.execute(query.group_by(instances.c.vm_state))}


def sagas(tx: Tx) -> dict[str, SagaCount]:
    """State → the sagas of a database that have not ended (those held elsewhere left out)."""
    table = _SAGAS.sagas
    query = (
        sa.select(table.c.state, sa.func.count(), sa.func.min(table.c.created_at))
        .where(table.c.ended_at.is_(None), table.c.state != "elsewhere")
        .group_by(table.c.state)
    )
    return {row[0]: SagaCount(row[1], row[2]) for row in tx.execute(query)}


def agents(tx: Tx, *, alive_since: dt.datetime) -> tuple[int, int]:
    """How many nova-compute of a cell live and how many do not."""
    lives = sa.and_(services.c.last_seen_up >= alive_since, services.c.forced_down.is_(False))
    query = sa.select(sa.func.count(), sa.func.sum(sa.case((lives, 1), else_=0)))
    total, up = tx.execute(query.where(services.c.binary == "nova-compute")).one()
    return int(up or 0), int(total) - int(up or 0)
