"""Rows and guests compared: power states that drifted, guests whose server is gone."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import TypeVar

import msgspec

from kilonova.base.clock import Clock
from kilonova.base.errors import Fault
from kilonova.base.ids import Ids
from kilonova.db.cells import Cell, Cells
from kilonova.db.database import Database, Tx
from kilonova.domain.agent import GuestList, topic
from kilonova.domain.describe import guest_spec
from kilonova.domain.guest import FlavorSpec, GuestMetadata, GuestSpec, GuestStatus, PowerState
from kilonova.domain.live import LIVE_STAY, SENT_AWAY, LiveSettle
from kilonova.domain.operations import (
    DESTROY,
    Destroy,
    Operation,
    OperationId,
    OperationReply,
    request_of,
)
from kilonova.domain.states import VmState
from kilonova.messaging.bus import Bus, Undelivered
from kilonova.store import mappings, servers, services
from kilonova.workflows.engine import accept as engine
from kilonova.workflows.reconcilers.agents import Agents
from kilonova.workflows.reconcilers.evacuations import Evacuations

A = TypeVar("A", bound=msgspec.Struct)
R = TypeVar("R", bound=msgspec.Struct)

log = logging.getLogger(__name__)

WELCOME_TRIES = 20
WELCOME_PAUSE = 0.2


class Guests:
    """Looks at every living host of a cell, in turn."""

    def __init__(
        self,
        *,
        db: Database,
        cells: Cells,
        cell: Cell,
        bus: Bus,
        agents: Agents,
        clock: Clock,
        ids: Ids,
        down_after: float,
        evacuations: Evacuations,
    ) -> None:
        self._evacuations = evacuations
        self._db = db
        self._cells = cells
        self._cell = cell
        self._bus = bus
        self._agents = agents
        self._clock = clock
        self._ids = ids
        self._down_after = down_after

    async def reconcile(self) -> None:
        """Ask each living agent for its guests and put right what differs."""
        now = self._clock.now()
        waiting = await self._evacuations.waiting()
        for service in await self._cell.db.read(services.page, binary="nova-compute"):
            # A host is forced down until what was evacuated from it is cleaned up.
            forced = service.forced_down and service.host not in waiting
            if not forced and service.is_alive(now, self._down_after):
                try:
                    await self.look(service.host)
                except Fault as fault:
                    log.warning("guests of %s were not compared: %s", service.host, fault.message)

    async def welcome(self) -> None:
        """Look at each host that returns, for ever."""
        while True:
            host = await self._agents.returned.get()
            for _ in range(WELCOME_TRIES):
                # The agent serves its topic only after it was welcomed.
                await self._clock.sleep(WELCOME_PAUSE)
                try:
                    await self.look(host)
                    break
                except Undelivered:
                    continue
                except Fault as fault:
                    log.warning("guests of %s were not compared: %s", host, fault.message)
                    break

    async def look(self, host: str) -> None:
        """Compare the guests of one host with its rows."""
        told = await self._bus.call(topic(host), "guests", reply=GuestList, seconds=30)
        for status in told.guests:
            await self._cell.db.run(self._agents.follow, host, status)
        here = {status.server_id for status in told.guests}
        await self._cell.db.run(self._missing, host, here)
        for status in told.guests:
            if await self._unwanted(host, status.server_id):
                spec = await self._cell.db.read(self._spec, status)
                log.warning("guest %s of %s is not wanted: ending it", status.name, host)
                await self.destroy(host, spec)
            elif status.detail.startswith(SENT_AWAY):
                await self._take_back(host, status)
        await self._evacuations.settle(host, self.destroy)

    def _missing(self, tx: Tx, host: str, here: Collection[str]) -> None:
        """Servers whose guest the host lost have no power."""
        for server in servers.on_host(tx, host):
            if (
                server.id not in here
                and server.task_state is None
                and server.vm_state in (VmState.ACTIVE, VmState.STOPPED, VmState.PAUSED)
                and engine.living(tx, server.id) is None
            ):
                servers.set_power(tx, server.id, PowerState.NOSTATE, now=self._clock.now())

    async def _unwanted(self, host: str, server_id: str) -> bool:
        """Whether no server of ours can want this guest here: deleted, buried, or elsewhere.

        A guest nobody knows anything of is left alone (the audit tells of it).
        """
        if await self._db.read(engine.living, server_id) is not None:
            return False
        mapping = await self._db.read(mappings.find, server_id)
        if mapping is None or mapping.cell_id is None:
            gone = mapping is not None and mapping.queued_for_delete
            return gone or await self._cell.db.read(_deleted, server_id)
        cell = self._cells.get(mapping.cell_id)
        if await cell.db.read(engine.living, server_id) is not None:
            return False
        if mapping.queued_for_delete or cell.is_cell0:
            return True
        server = await cell.db.read(servers.get, server_id)
        return server is not None and server.host != host and server.vm_state != VmState.RESIZED

    def _spec(self, tx: Tx, status: GuestStatus) -> GuestSpec:
        """What is still known of a guest."""
        server = servers.get(tx, status.server_id, deleted=True)
        private = servers.private(tx, status.server_id)
        if server is not None and private is not None:
            return guest_spec(server, private)
        return unknown_guest(status)

    async def destroy(self, host: str, spec: GuestSpec) -> bool:
        """End what a host has of a guest; whether it did."""
        return await self._operate(host, DESTROY, spec.server_id, Destroy(spec, aside=True))

    async def _take_back(self, host: str, status: GuestStatus) -> None:
        """Let a guest go on whose move was given up while its host did not answer."""
        spec = await self._cell.db.read(self._forsaken, host, status)
        if spec is not None:
            log.warning("guest %s of %s was sent away for nothing: going on", status.name, host)
            await self._operate(host, LIVE_STAY, spec.server_id, LiveSettle(spec))

    def _forsaken(self, tx: Tx, host: str, status: GuestStatus) -> GuestSpec | None:
        server = servers.get(tx, status.server_id)
        if server is None or server.host != host or server.vm_state != VmState.ACTIVE:
            return None
        if server.task_state is not None or engine.living(tx, server.id) is not None:
            return None
        return self._spec(tx, status)

    async def _operate(
        self, host: str, operation: Operation[A, R], server_id: str, args: A
    ) -> bool:
        identity = OperationId(f"reap-{self._ids.uuid()}", operation.name, 1)
        request = request_of(operation, identity, server_id, args)
        reply = await self._bus.call(
            topic(host), "operate", request, reply=OperationReply, seconds=60
        )
        if reply.state == "failed":
            log.warning("%s of %s failed: %s", operation.name, server_id, reply.message)
        return reply.state == "done"


def _deleted(tx: Tx, server_id: str) -> bool:
    server = servers.get(tx, server_id, deleted=True)
    return server is not None and server.deleted


def unknown_guest(status: GuestStatus) -> GuestSpec:
    """The description of a guest of which only its host knows: enough to end it."""
    return GuestSpec(
        server_id=status.server_id,
        name=status.name,
        flavor=FlavorSpec(0, "", "", 0, 0, 0),
        image=None,
        disks=(),
        nics=(),
        metadata=GuestMetadata(status.server_id, "", "", "", ""),
    )
