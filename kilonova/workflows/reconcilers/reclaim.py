"""Soft-deleted servers whose time is over are deleted for good."""

from __future__ import annotations

import datetime as dt
import logging

from kilonova.base.clock import Clock
from kilonova.base.ids import Ids
from kilonova.db.cells import Cell
from kilonova.db.database import Tx
from kilonova.domain.sagas import DELETE
from kilonova.domain.states import Task
from kilonova.store import servers
from kilonova.workflows.engine import accept as engine
from kilonova.workflows.reconcilers.beginning import begin

log = logging.getLogger(__name__)


class Reclaimer:
    """Looks at the servers of a cell; ``seconds`` is how long they may be restored."""

    def __init__(self, *, cell: Cell, clock: Clock, ids: Ids, seconds: float) -> None:
        self._cell = cell
        self._clock = clock
        self._ids = ids
        self._seconds = seconds

    async def reconcile(self) -> None:
        """Start the deletion of each server whose time is over."""
        limit = self._clock.now() - dt.timedelta(seconds=self._seconds)
        for server_id in await self._cell.db.read(servers.set_aside, limit):
            await self._cell.db.run(self._delete, server_id)

    def _delete(self, tx: Tx, server_id: str) -> None:
        if engine.living(tx, server_id) is not None:
            return
        now = self._clock.now()
        server = servers.begin(
            tx, server_id, "delete", task=Task.DELETING, now=now, override_lock=True
        )
        begin(tx, DELETE, [server_id], server, clock=self._clock, ids=self._ids)
        log.info("server %s was deleted long enough ago: reclaiming it", server_id)
