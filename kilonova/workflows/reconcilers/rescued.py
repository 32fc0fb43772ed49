"""Servers that are rescued for too long go back to their own disks."""

from __future__ import annotations

import datetime as dt
import logging

from kilonova.base.clock import Clock
from kilonova.base.errors import Conflict
from kilonova.base.ids import Ids
from kilonova.db.cells import Cell
from kilonova.db.database import Tx
from kilonova.domain.sagas import UNRESCUE
from kilonova.domain.states import Task
from kilonova.store import rescues, servers
from kilonova.workflows.engine import accept as engine
from kilonova.workflows.reconcilers.beginning import begin

log = logging.getLogger(__name__)


class RescueEnder:
    """Looks at the servers of a cell; ``seconds`` is how long they may be rescued."""

    def __init__(self, *, cell: Cell, clock: Clock, ids: Ids, seconds: float) -> None:
        self._cell = cell
        self._clock = clock
        self._ids = ids
        self._seconds = seconds

    async def reconcile(self) -> None:
        """Start the end of each rescue whose time is over."""
        limit = self._clock.now() - dt.timedelta(seconds=self._seconds)
        for server_id in await self._cell.db.read(rescues.overdue, limit):
            try:
                await self._cell.db.run(self._end, server_id)
            except Conflict as reason:
                log.info("the rescue of %s goes on: %s", server_id, reason.message)

    def _end(self, tx: Tx, server_id: str) -> None:
        if engine.living(tx, server_id) is not None:
            return
        now = self._clock.now()
        server = servers.begin(
            tx, server_id, "unrescue", task=Task.UNRESCUING, now=now, override_lock=True
        )
        begin(tx, UNRESCUE, [server_id], server, clock=self._clock, ids=self._ids)
        log.info("server %s was rescued for long enough: ending it", server_id)
