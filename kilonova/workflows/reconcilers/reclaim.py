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
from kilonova.store import actions, servers
from kilonova.workflows.engine import accept as engine
from kilonova.workflows.engine.steps import Asked

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
        asked = Asked(
            request_id=f"req-{self._ids.uuid()}",
            user_id=server.user_id,
            project_id=server.project_id,
        )
        actions.start(
            tx,
            server_id,
            DELETE.action,
            request_id=asked.request_id,
            user_id=asked.user_id,
            project_id=asked.project_id,
            now=now,
        )
        engine.accept(
            tx,
            DELETE.name,
            [server_id],
            server_id=server_id,
            asked=asked,
            ids=self._ids,
            clock=self._clock,
            cancels=True,
        )
        log.info("server %s was deleted long enough ago: reclaiming it", server_id)
