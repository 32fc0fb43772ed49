"""Hosts that come back after their servers were evacuated: what they still have of them goes."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from kilonova.base.clock import Clock
from kilonova.base.errors import Fault
from kilonova.db.cells import Cell
from kilonova.db.database import Database, Tx
from kilonova.domain.describe import guest_spec
from kilonova.domain.guest import GuestSpec, GuestStatus, PowerState
from kilonova.domain.moves import Status
from kilonova.domain.resources import Migration
from kilonova.interfaces.placement import PlacementService
from kilonova.store import groups, holds, migrations, servers
from kilonova.workflows.engine import accept as engine

Destroy = Callable[[str, GuestSpec], Awaitable[bool]]

log = logging.getLogger(__name__)


class Evacuations:
    """Settles evacuations of one cell. ``unknown`` describes a guest nobody remembers."""

    def __init__(
        self,
        *,
        db: Database,
        cell: Cell,
        placement: PlacementService,
        clock: Clock,
        unknown: Callable[[GuestStatus], GuestSpec],
    ) -> None:
        self._db = db
        self._cell = cell
        self._placement = placement
        self._clock = clock
        self._unknown = unknown

    async def waiting(self) -> set[str]:
        """Hosts that have not cleaned up yet."""
        return {str(row.source_host) for row in await self._cell.db.read(migrations.evacuated)}

    async def settle(self, host: str, destroy: Destroy) -> None:
        """End the guests that a host which is back still has, and free what was kept for them."""
        for row in await self._cell.db.read(migrations.evacuated, host):
            try:
                await self._settle(host, row, destroy)
            except Fault as fault:
                log.warning("server %s left things on %s: %s", row.server_id, host, fault.message)

    async def _settle(self, host: str, row: Migration, destroy: Destroy) -> None:
        busy, returned, spec = await self._cell.db.read(self._look, row, host)
        if busy:
            return
        if not returned:
            if not await destroy(host, spec):
                return
            await self._db.run(groups.leave_place, row.server_id, host)
        await self._placement.release(row.uuid)
        await self._cell.db.run(self._complete, row)
        log.info("host %s has nothing more of server %s, which was evacuated", host, row.server_id)

    def _look(self, tx: Tx, row: Migration, host: str) -> tuple[bool, bool, GuestSpec]:
        """Whether something works on the server, whether it is on that host again, its guest."""
        busy = engine.living(tx, row.server_id) is not None
        server = servers.get(tx, row.server_id, deleted=True)
        private = servers.private(tx, row.server_id)
        if server is None or private is None:
            nothing = GuestStatus(row.server_id, "", PowerState.NOSTATE)
            return busy, False, self._unknown(nothing)
        back = not server.deleted and server.host == host
        return busy, back, guest_spec(server, private)

    def _complete(self, tx: Tx, row: Migration) -> None:
        now = self._clock.now()
        holds.leave(tx, row.uuid, now=now)
        migrations.update(tx, row.uuid, now=now, status=Status.COMPLETED)
