"""Notifications that wait to be sent (every database of compute)."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import sqlalchemy as sa

from kilonova.db.database import Tx
from kilonova.db.prepared import Prepared
from kilonova.db.tables.outbox import TABLES

OUTBOX, SENDERS = TABLES

VERSIONED, UNVERSIONED = "versioned", "unversioned"
_ONLY = 1


class Waiting(msgspec.Struct, frozen=True):
    """A notification. ``message`` is JSON text; ``form`` versioned or unversioned."""

    id: int
    form: str
    event: str
    priority: str
    message: str


class New(msgspec.Struct, frozen=True):
    """One to be written."""

    form: str
    event: str
    priority: str
    message: str


_COLUMNS = [OUTBOX.c[name] for name in Waiting.__struct_fields__]
_PUT = Prepared(OUTBOX.insert())
_BATCH = Prepared(sa.select(*_COLUMNS).order_by(OUTBOX.c.id).limit(sa.bindparam("most")))
_HELD = Prepared(sa.select(SENDERS.c.owner, SENDERS.c.lease_until).with_for_update())


def put(tx: Tx, rows: Sequence[New]) -> None:
    """Write notifications; they are sent after the transaction, in this order."""
    if len(rows) == 1:
        _PUT.run(tx, msgspec.structs.asdict(rows[0]))
    elif rows:
        tx.execute(OUTBOX.insert(), [msgspec.structs.asdict(row) for row in rows])


def batch(tx: Tx, most: int) -> list[Waiting]:
    """The oldest."""
    return [Waiting(*row) for row in _BATCH.all(tx, {"most": most})]


def sent(tx: Tx, ids: Sequence[int]) -> None:
    """Remove those that the broker has taken."""
    tx.execute(OUTBOX.delete().where(OUTBOX.c.id.in_(list(ids))))


def count(tx: Tx) -> int:
    """How many wait."""
    return int(tx.execute(sa.select(sa.func.count()).select_from(OUTBOX)).scalar() or 0)


def drop_oldest(tx: Tx, keep: int) -> int:
    """Remove all but the newest ``keep``; how many were removed."""
    first = sa.select(OUTBOX.c.id).order_by(OUTBOX.c.id.desc()).offset(keep).limit(1)
    limit = tx.execute(first).scalar()
    if limit is None:
        return 0
    return tx.execute(OUTBOX.delete().where(OUTBOX.c.id <= limit)).rowcount


def lease(tx: Tx, owner: str, *, now: float, seconds: float) -> bool:
    """Become (or stay) the one sender of this database; False while another one is."""
    row = _HELD.first(tx)
    until = {"owner": owner, "lease_until": now + seconds}
    if row is None:
        # Two who find none: the second one's transaction fails, and finds the first's next time.
        tx.execute(SENDERS.insert().values(id=_ONLY, **until))
        return True
    if row[0] != owner and row[1] > now:
        return False
    tx.execute(SENDERS.update().where(SENDERS.c.id == _ONLY).values(**until))
    return True


def release(tx: Tx, owner: str) -> None:
    """Let another one send at once."""
    tx.execute(SENDERS.delete().where(SENDERS.c.owner == owner))
