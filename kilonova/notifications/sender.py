"""Sends what waits in the outboxes: in order, at least once, by one sender for each database."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from kilonova.base.aio import backoff
from kilonova.base.clock import Clock
from kilonova.base.errors import Unavailable
from kilonova.db.database import Database
from kilonova.messaging.notices import Notice, Sink
from kilonova.notifications.envelope import wrap
from kilonova.store import outbox
from kilonova.store.outbox import VERSIONED, Waiting

log = logging.getLogger(__name__)

BATCH = 200
LEASE_SECONDS = 30.0
MOST_PAUSE = 10.0


class Topics(msgspec.Struct, frozen=True):
    """The topics of each form."""

    versioned: tuple[str, ...] = ("versioned_notifications",)
    unversioned: tuple[str, ...] = ("notifications",)


class Counts(Protocol):
    """Figures of the sender, for ``/metrics``."""

    def sent(self, number: int) -> None:
        """So many were taken by all sinks."""

    def dropped(self, number: int) -> None:
        """So many were thrown away because the outbox was full."""

    def waiting(self, place: str, number: int) -> None:
        """So many wait in one database."""


class Sender:
    """Ships the outboxes of ``databases`` (name → database) to every sink.

    A row is deleted after all sinks took it, so that a crash in between sends it again with the
    same ``message_id``. While a sink takes nothing, each database keeps its newest ``keep`` rows.
    """

    def __init__(
        self,
        databases: Mapping[str, Database],
        sinks: Sequence[Sink],
        *,
        owner: str,
        clock: Clock,
        topics: Topics | None = None,
        keep: int = 100_000,
        poll: float = 0.5,
        counts: Counts | None = None,
    ) -> None:
        self.databases = databases
        self.sinks = sinks
        self._owner = owner
        self._clock = clock
        self._topics = topics or Topics()
        self._keep = keep
        self._poll = poll
        self._counts = counts
        self._leases: dict[str, float] = {}
        self._warned: dict[str, bool] = {}
        self._took: dict[str, list[set[int]]] = {}

    async def run(self) -> None:
        """Send until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                for place, db in self.databases.items():
                    group.create_task(self._follow(place, db), name=f"notifications of {place}")
        finally:
            await self.close()

    async def close(self) -> None:
        """Give the leases back and let the sinks go."""
        for place, db in self.databases.items():
            if self._leases.pop(place, 0):
                with contextlib.suppress(Unavailable):
                    await db.run(outbox.release, self._owner)
        for sink in self.sinks:
            await sink.close()

    async def flush(self) -> int:
        """Send all there is, once; how many were sent."""
        total = 0
        for place, db in self.databases.items():
            while sent := await self.turn(place, db):
                total += sent
        return total

    async def _follow(self, place: str, db: Database) -> None:
        pauses = backoff(self._poll, most=MOST_PAUSE)
        while True:
            try:
                sent = await self.turn(place, db)
            except Unavailable as error:
                log.warning("notifications of %s wait: %s", place, error.message)
                sent = None
            except Exception:
                log.exception("notifications of %s could not be sent", place)
                sent = None
            if sent is None:
                await self._clock.sleep(next(pauses))
                continue
            pauses = backoff(self._poll, most=MOST_PAUSE)
            if sent < BATCH:
                await self._clock.sleep(self._poll)

    async def turn(self, place: str, db: Database) -> int | None:
        """Send one batch; how many went, None when they must wait."""
        rows = await db.read(outbox.batch, BATCH)
        if not rows:
            return 0
        if not await self._mine(place, db):
            return 0
        number = await self._to_all(place, rows)
        if number:
            await db.run(outbox.sent, [row.id for row in rows[:number]])
            if self._counts is not None:
                self._counts.sent(number)
        if number == len(rows):
            if self._warned.pop(place, False):
                log.info("notifications of %s are sent again", place)
            return number
        await self._bound(place, db)
        return None

    async def _mine(self, place: str, db: Database) -> bool:
        now = self._clock.now().timestamp()
        if self._leases.get(place, 0.0) - now > LEASE_SECONDS / 2:
            return True
        take = functools.partial(outbox.lease, now=now, seconds=LEASE_SECONDS)
        got = await db.run(take, self._owner)
        self._leases[place] = now + LEASE_SECONDS if got else 0.0
        return got

    async def _to_all(self, place: str, rows: Sequence[Waiting]) -> int:
        """How many of the rows, from the first on, every sink has."""
        had = self._took.setdefault(place, [set() for _ in self.sinks])
        for sink, took in zip(self.sinks, had, strict=True):
            # What a sink took in an earlier turn, while another one failed, it is not given again.
            took &= {row.id for row in rows}
            left = [row for row in rows if row.id not in took]
            if left:
                number = await sink.send([self._notice(row) for row in left])
                took |= {row.id for row in left[:number]}
        for number, row in enumerate(rows):
            if not all(row.id in took for took in had):
                return number
        return len(rows)

    def _notice(self, row: Waiting) -> Notice:
        known = self._topics
        topics = known.versioned if row.form == VERSIONED else known.unversioned
        return Notice(topics, row.event, row.priority, row.message, wrap(row.message))

    async def _bound(self, place: str, db: Database) -> None:
        """Nothing is taken: keep no more than is allowed, and say so once."""
        waiting = await db.read(outbox.count)
        dropped = 0
        if waiting > self._keep:
            dropped = await db.run(outbox.drop_oldest, self._keep)
        if self._counts is not None:
            self._counts.waiting(place, waiting - dropped)
            self._counts.dropped(dropped)
        if dropped:
            log.error(
                "%d notifications of %s were thrown away: the broker takes none, and [kilonova] "
                "notifications_kept allows %d",
                dropped,
                place,
                self._keep,
            )
        elif not self._warned.get(place):
            self._warned[place] = True
            log.warning("%d notifications of %s wait for the broker", waiting, place)
