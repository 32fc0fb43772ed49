"""Shelved servers that have stayed on their hosts long enough are taken off them."""

from __future__ import annotations

import datetime as dt
import logging

from kilonova.base.clock import Clock
from kilonova.base.errors import Conflict
from kilonova.base.ids import Ids
from kilonova.db.cells import Cell
from kilonova.db.database import Tx
from kilonova.domain.sagas import SHELVE_OFFLOAD
from kilonova.domain.states import Task
from kilonova.store import servers, shelved
from kilonova.workflows.engine import accept as engine
from kilonova.workflows.reconcilers.beginning import begin

log = logging.getLogger(__name__)


class Offloader:
    """Looks at the servers of a cell; ``seconds`` is how long they stay on their hosts."""

    def __init__(self, *, cell: Cell, clock: Clock, ids: Ids, seconds: float) -> None:
        self._cell = cell
        self._clock = clock
        self._ids = ids
        self._seconds = seconds

    async def reconcile(self) -> None:
        """Start the offloading of each server whose time is over."""
        limit = self._clock.now() - dt.timedelta(seconds=self._seconds)
        for server_id in await self._cell.db.read(shelved.before, limit):
            await self._cell.db.run(self._offload, server_id)

    def _offload(self, tx: Tx, server_id: str) -> None:
        if engine.living(tx, server_id) is not None:
            return
        task, now = Task.SHELVING_OFFLOADING, self._clock.now()
        try:
            server = servers.begin(
                tx, server_id, "shelveOffload", task=task, now=now, override_lock=True
            )
        except Conflict:
            # Somebody was faster; what he does tells when to look again.
            return
        begin(tx, SHELVE_OFFLOAD, [server_id], server, clock=self._clock, ids=self._ids)
        log.info("server %s was shelved long enough ago: taking it off its host", server_id)
