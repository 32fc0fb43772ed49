"""Events for the compute service that were not taken yet."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from kilonova.db.database import Tx
from kilonova.db.prepared import Prepared
from kilonova.embedded.network.tables import OUTBOX

_PUT = Prepared(OUTBOX.insert())
_FIRST = Prepared(
    sa.select(OUTBOX.c.id, OUTBOX.c.event, OUTBOX.c.created_at)
    .order_by(OUTBOX.c.id)
    .limit(sa.bindparam("most"))
)
_DROP = Prepared(OUTBOX.delete().where(OUTBOX.c.id.in_(sa.bindparam("ids", expanding=True))))


class Entry(msgspec.Struct, frozen=True):
    """One event and when it was put here."""

    id: int
    event: dict[str, Any]
    created_at: str


def put(tx: Tx, events: list[dict[str, Any]], now: str) -> None:
    """Keep events for telling."""
    _PUT.many(tx, [{"event": event, "created_at": now} for event in events])


def first(tx: Tx, limit: int) -> list[Entry]:
    """The oldest entries."""
    return [Entry(*row) for row in _FIRST.all(tx, {"most": limit})]


def drop(tx: Tx, ids: list[int]) -> None:
    """Forget told entries."""
    _DROP.run(tx, {"ids": ids})
