"""Idempotency keys and their sealed answers in a SQL table."""

from __future__ import annotations

import sqlalchemy as sa

from kilonova.base.clock import Clock
from kilonova.db.database import Database, Tx
from kilonova.db.types import blob
from kilonova.domain.claims import Begun, Fresh, InProgress, Mismatch, Stored

_LARGEST = 16 * 1024 * 1024 - 1
_PRUNE_EVERY = 600.0
_PRUNE_ROWS = 1000


def table(metadata: sa.MetaData, name: str = "idempotency_keys") -> sa.Table:
    """The table of keys in ``metadata``; times are milliseconds since 1970 UTC."""
    return sa.Table(
        name,
        metadata,
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("begun_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False, index=True),
        sa.Column("reply", blob()),
    )


class SqlIdempotencyStore:
    """The web layer's ``IdempotencyStore`` on a database shared by many processes.

    Answers are kept ``keep`` seconds. A claim without an answer holds ``lease`` seconds after it
    was renewed: then its process is taken for dead and the next equal request does the work again,
    with the same ids.
    """

    def __init__(
        self,
        database: Database,
        keys: sa.Table,
        clock: Clock,
        *,
        keep: float = 86400.0,
        lease: float = 15.0,
    ) -> None:
        self._database = database
        self._keys = keys
        self._clock = clock
        self._keep = int(keep * 1000)
        self.lease = lease
        self._lease = int(lease * 1000)
        self._next_prune = clock.monotonic() + _PRUNE_EVERY

    async def begin(self, key: str, fingerprint: str) -> Begun:
        """Claim ``key``, or say what became of it."""
        if self._clock.monotonic() >= self._next_prune:
            self._next_prune = self._clock.monotonic() + _PRUNE_EVERY
            await self.prune()
        try:
            return await self._database.run(self._begin, key, fingerprint, self._now())
        except sa.exc.IntegrityError:
            # Two equal requests at once: the other one has the key.
            return InProgress()

    async def renew(self, key: str) -> None:
        """Hold a claim that has no answer yet for another lease."""
        await self._database.run(self._hold, key, self._now() + self._lease)

    async def finish(self, key: str, reply: bytes) -> None:
        """Keep the answer of the claimed key; one too large for the table is not kept."""
        if len(reply) > _LARGEST:
            await self.release(key)
            return
        await self._database.run(self._finish, key, reply, self._now() + self._keep)

    async def release(self, key: str) -> None:
        """Give back a claim that has no answer."""
        await self._database.run(self._hold, key, self._now())

    async def prune(self) -> int:
        """Delete up to 1 000 rows whose time is over; how many.

        A claim without an answer stays as long as an answer would: its seed may be needed again.
        """
        return await self._database.run(self._prune, self._now())

    def _now(self) -> int:
        return int(self._clock.now().timestamp() * 1000)

    def _begin(self, tx: Tx, key: str, fingerprint: str, now: int) -> Begun:
        keys = self._keys
        row = tx.execute(sa.select(keys).where(keys.c.id == key).with_for_update()).first()
        claim = {"fingerprint": fingerprint, "expires_at": now + self._lease, "reply": None}
        if row is None:
            tx.execute(keys.insert().values(id=key, begun_at=now, **claim))
            return Fresh(str(now))
        if row.expires_at <= now:
            begun = row.begun_at if row.reply is None else now
            tx.execute(keys.update().where(keys.c.id == key).values(begun_at=begun, **claim))
            return Fresh(str(begun))
        if row.fingerprint != fingerprint:
            return Mismatch()
        return InProgress() if row.reply is None else Stored(bytes(row.reply))

    def _finish(self, tx: Tx, key: str, reply: bytes, until: int) -> None:
        keys = self._keys
        tx.execute(keys.update().where(keys.c.id == key).values(reply=reply, expires_at=until))

    def _hold(self, tx: Tx, key: str, until: int) -> None:
        keys = self._keys
        mine = keys.update().where(keys.c.id == key, keys.c.reply.is_(None))
        tx.execute(mine.values(expires_at=until))

    def _prune(self, tx: Tx, now: int) -> int:
        keys = self._keys
        over = sa.or_(
            keys.c.expires_at <= now - self._keep,
            sa.and_(keys.c.expires_at <= now, keys.c.reply.is_not(None)),
        )
        ids = list(tx.execute(sa.select(keys.c.id).where(over).limit(_PRUNE_ROWS)).scalars())
        if ids:
            tx.execute(keys.delete().where(keys.c.id.in_(ids), over))
        return len(ids)
