"""Resizes that nobody has looked at for long enough are confirmed."""

from __future__ import annotations

import datetime as dt
import logging

from kilonova.base.clock import Clock
from kilonova.base.ids import Ids
from kilonova.db.cells import Cell
from kilonova.db.database import Tx
from kilonova.domain.sagas import CONFIRM_RESIZE
from kilonova.domain.states import Task, VmState
from kilonova.store import migrations, servers
from kilonova.workflows.engine import accept as engine
from kilonova.workflows.reconcilers.beginning import begin

log = logging.getLogger(__name__)


class Confirmer:
    """Looks at the moves of a cell; ``seconds`` is how long one waits for its owner's word."""

    def __init__(self, *, cell: Cell, clock: Clock, ids: Ids, seconds: float) -> None:
        self._cell = cell
        self._clock = clock
        self._ids = ids
        self._seconds = seconds

    async def reconcile(self) -> None:
        """Confirm each move whose time is over, unless its server is in other hands."""
        limit = self._clock.now() - dt.timedelta(seconds=self._seconds)
        for row in await self._cell.db.read(migrations.finished, limit):
            await self._cell.db.run(self._confirm, row.server_id)

    def _confirm(self, tx: Tx, server_id: str) -> None:
        server = servers.get(tx, server_id, lock=True)
        if server is None or server.vm_state != VmState.RESIZED or server.task_state is not None:
            return
        if engine.living(tx, server_id) is not None:
            return
        now = self._clock.now()
        servers.set_task(tx, server_id, Task.RESIZE_CONFIRMING, now=now)
        begin(tx, CONFIRM_RESIZE, [server_id], server, clock=self._clock, ids=self._ids)
        log.info("the resize of server %s waited long enough: confirming it", server_id)
