"""Telling the compute service what happened to its ports: at least once, in order."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from kilonova.base.aio import Signal, backoff
from kilonova.base.clock import Clock, isoformat
from kilonova.db.database import Database
from kilonova.embedded.network.store import outbox

# Takes os-server-external-events entries; raises when they have to be told again.
Notify = Callable[[list[dict[str, Any]]], Awaitable[None]]

log = logging.getLogger(__name__)

BATCH = 100
KEEP = dt.timedelta(hours=1)
LONGEST_PAUSE = 10.0


class Teller:
    """Carries the outbox to ``notify`` in the background.

    Entries nobody took within an hour are dropped: whoever waited for them has given up.
    """

    def __init__(self, db: Database, notify: Notify, clock: Clock) -> None:
        self._db = db
        self._notify = notify
        self._clock = clock
        self._signal = Signal()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, with what an earlier process left; repeated calls are harmless."""
        if self._task is None:
            self._signal.set()
            self._task = asyncio.create_task(self._run(), name="network-events")

    async def close(self) -> None:
        """Stop; an entry under way may be told again after the next start."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    def wake(self) -> None:
        """There is something to tell."""
        self._signal.set()

    async def _run(self) -> None:
        pauses = backoff(0.1, most=LONGEST_PAUSE)
        while True:
            await self._signal.wait()
            try:
                while await self._deliver():
                    pass
                pauses = backoff(0.1, most=LONGEST_PAUSE)
            except Exception as error:
                pause = next(pauses)
                log.warning(
                    "the compute service could not be told (again in %.1f s): %s", pause, error
                )
                await asyncio.sleep(pause)
                self._signal.set()

    async def _deliver(self) -> bool:
        """Tell one batch; False when that was all (who writes more wakes us again)."""
        found = await self._db.read(outbox.first, BATCH)
        if not found:
            return False
        oldest = isoformat(self._clock.now() - KEEP)
        fresh = [entry.event for entry in found if entry.created_at >= oldest]
        if len(fresh) < len(found):
            log.warning("%d old events nobody took are dropped", len(found) - len(fresh))
        if fresh:
            await self._notify(fresh)
        await self._db.run(outbox.drop, [entry.id for entry in found])
        return len(found) == BATCH
