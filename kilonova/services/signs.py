"""Signs of life of daemons that have a database: their row in the list of services."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt

from kilonova.base.aio import forever
from kilonova.base.clock import Clock
from kilonova.base.errors import Fault
from kilonova.base.ids import Ids
from kilonova.config.settings import Settings
from kilonova.db.database import Database
from kilonova.services.process import Process
from kilonova.store import services

VERSION = 1


class Signs:
    """The row of one daemon in its cell's database."""

    def __init__(
        self, settings: Settings, db: Database, binary: str, *, clock: Clock, ids: Ids
    ) -> None:
        self.every = float(settings.default.report_interval)
        self._host = settings.default.host
        self._down_after = settings.default.service_down_time
        self._db = db
        self._binary = binary
        self._clock = clock
        self._ids = ids
        self._task: asyncio.Task[None] | None = None

    async def beat(self) -> None:
        """One sign of life; the first one makes the row."""
        await self._db.run(
            services.heartbeat,
            self._host,
            self._binary,
            uuid=self._ids.uuid(),
            now=self._clock.now(),
            version=VERSION,
        )

    def start(self) -> None:
        """Give signs of life from now on."""
        work = forever("signs of life", self.beat, every=self.every)
        self._task = asyncio.create_task(work, name=f"signs of {self._binary}")

    async def stop(self) -> None:
        """Count as down from now on; a database that is away is let be."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None
        before = self._clock.now() - dt.timedelta(seconds=self._down_after + 1)
        with contextlib.suppress(Fault):
            await self._db.run(services.stop, self._host, self._binary, before=before)


def report(at: Process, db: Database, binary: str) -> None:
    """Stand in the list of services for as long as the process runs."""
    row = Signs(at.settings, db, binary, clock=at.clock, ids=at.ids)
    row.start()
    at.stack.push_async_callback(row.stop)
