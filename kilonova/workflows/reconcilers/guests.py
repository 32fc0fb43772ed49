"""Rows and guests compared: power states that drifted, guests whose server is gone."""

from __future__ import annotations

import logging
from collections.abc import Collection

from kilonova.base.clock import Clock
from kilonova.base.errors import Fault
from kilonova.base.ids import Ids
from kilonova.db.cells import Cell
from kilonova.db.database import Database, Tx
from kilonova.domain.agent import GuestList, topic
from kilonova.domain.describe import guest_spec
from kilonova.domain.guest import GuestSpec, GuestStatus
from kilonova.domain.operations import (
    DESTROY,
    Destroy,
    OperationId,
    OperationReply,
    OperationRequest,
)
from kilonova.messaging.bus import Bus, encode
from kilonova.store import mappings, servers, services
from kilonova.workflows.reconcilers.agents import Agents

log = logging.getLogger(__name__)


class Guests:
    """Looks at every living host of a cell, in turn."""

    def __init__(
        self,
        *,
        db: Database,
        cell: Cell,
        bus: Bus,
        agents: Agents,
        clock: Clock,
        ids: Ids,
        down_after: float,
    ) -> None:
        self._db = db
        self._cell = cell
        self._bus = bus
        self._agents = agents
        self._clock = clock
        self._ids = ids
        self._down_after = down_after

    async def reconcile(self) -> None:
        """Ask each living agent for its guests and put right what differs."""
        now = self._clock.now()
        for service in await self._cell.db.read(services.page, binary="nova-compute"):
            if service.is_up(now, self._down_after):
                try:
                    await self.look(service.host)
                except Fault as fault:
                    log.warning("guests of %s were not compared: %s", service.host, fault.message)

    async def look(self, host: str) -> None:
        """Compare the guests of one host with its rows."""
        told = await self._bus.call(topic(host), "guests", reply=GuestList, seconds=30)
        for status in told.guests:
            await self._cell.db.run(self._agents.follow, host, status)
        for status, spec in await self._cell.db.read(self._orphans, host, told.guests):
            if await self._stays(status.server_id):
                continue
            log.warning("guest of deleted server %s found on %s: ending it", spec.server_id, host)
            await self._destroy(host, spec)

    def _orphans(
        self, tx: Tx, host: str, guests: Collection[GuestStatus]
    ) -> list[tuple[GuestStatus, GuestSpec]]:
        """Guests whose server is marked deleted here, with what is still known of them."""
        found = []
        for status in guests:
            server = servers.get(tx, status.server_id, deleted=True)
            if server is None or not server.deleted:
                continue
            private = servers.private(tx, server.id)
            if private is not None:
                found.append((status, guest_spec(server, private)))
        return found

    async def _stays(self, server_id: str) -> bool:
        """Whether the server lives on in another cell, or its deletion is not over."""
        mapping = await self._db.read(mappings.find, server_id)
        return mapping is not None and not mapping.queued_for_delete

    async def _destroy(self, host: str, spec: GuestSpec) -> None:
        request = OperationRequest(
            id=OperationId(f"reap-{self._ids.uuid()}", DESTROY.name, 1),
            name=DESTROY.name,
            server_id=spec.server_id,
            args=encode(Destroy(spec)),
            seconds=DESTROY.seconds,
        )
        reply = await self._bus.call(
            topic(host), "operate", request, reply=OperationReply, seconds=60
        )
        if reply.state == "failed":
            log.warning("guest of %s could not be ended: %s", spec.server_id, reply.message)
