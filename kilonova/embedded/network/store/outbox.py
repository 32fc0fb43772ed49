"""Events for the compute service that were not taken yet."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from kilonova.db.database import Tx
from kilonova.embedded.network.tables import OUTBOX


class Entry(msgspec.Struct, frozen=True):
    """One event and when it was put here."""

    id: int
    event: dict[str, Any]
    created_at: str


def put(tx: Tx, events: list[dict[str, Any]], now: str) -> None:
    """Keep events for telling."""
    tx.execute(OUTBOX.insert(), [{"event": event, "created_at": now} for event in events])


def first(tx: Tx, limit: int) -> list[Entry]:
    """The oldest entries."""
    statement = sa.select(OUTBOX).order_by(OUTBOX.c.id).limit(limit)
    return [Entry(row.id, row.event, row.created_at) for row in tx.execute(statement)]


def drop(tx: Tx, ids: list[int]) -> None:
    """Forget told entries."""
    tx.execute(OUTBOX.delete().where(OUTBOX.c.id.in_(ids)))
