"""Servers that are rescued (cell database)."""

from __future__ import annotations

import datetime as dt

import sqlalchemy as sa

from kilonova.db.database import Tx
from kilonova.db.tables.cell import instances
from kilonova.domain.states import VmState


def overdue(tx: Tx, before: dt.datetime) -> list[str]:
    """Servers without a task that were rescued before that time."""
    c = instances.c
    rows = tx.execute(
        sa.select(c.uuid).where(
            c.vm_state == str(VmState.RESCUED),
            c.task_state.is_(None),
            c.launched_at < before,
            c.deleted == sa.false(),
        )
    )
    return list(rows.scalars())
