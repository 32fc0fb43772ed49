"""Volume usage: what guests read from and wrote to their volumes, told now and then."""

from __future__ import annotations

import logging
from collections import defaultdict

import msgspec

from kilonova.base.aio import gather_bounded
from kilonova.base.clock import Clock
from kilonova.base.errors import Fault
from kilonova.base.ids import Ids
from kilonova.db.cells import Cell
from kilonova.db.database import Tx
from kilonova.domain.agent import topic
from kilonova.domain.diagnostics import Diagnostics, DiskUse
from kilonova.domain.guest import Disk, PowerState
from kilonova.domain.operations import (
    DIAGNOSTICS,
    GuestName,
    OperationId,
    OperationReply,
    request_of,
)
from kilonova.domain.server import Server
from kilonova.messaging.bus import Bus
from kilonova.notifications.facts import VolumeUsage
from kilonova.store import block_devices, servers
from kilonova.store.noting import note

log = logging.getLogger(__name__)

AT_ONCE = 10
EVENT = "volume.usage"


class VolumeUsages:
    """Asks the agents of one cell about running guests with volumes; call ``reconcile``."""

    def __init__(self, *, cell: Cell, bus: Bus, clock: Clock, ids: Ids) -> None:
        self._cell = cell
        self._bus = bus
        self._clock = clock
        self._ids = ids

    async def reconcile(self) -> int:
        """Tell what can be learned; of how many volumes."""
        found = await self._cell.db.read(_with_volumes)
        return sum(await gather_bounded(self._one, found, limit=AT_ONCE))

    async def _one(self, pair: tuple[Server, list[Disk]]) -> int:
        server, disks = pair
        try:
            told = await self._ask(server)
        except Fault as fault:
            log.warning("volumes of %s were not measured: %s", server.id, fault.message)
            return 0
        uses = [use for use in (self._use(server, disk, told) for disk in disks) if use]

        def write(tx: Tx) -> None:
            for use in uses:
                note(tx, EVENT, use)

        if uses:
            await self._cell.db.run(write)
        return len(uses)

    async def _ask(self, server: Server) -> dict[str, DiskUse]:
        identity = OperationId(self._ids.uuid(), DIAGNOSTICS.name, 0)
        request = request_of(DIAGNOSTICS, identity, server.id, GuestName(server.id))
        reply = await self._bus.call(
            topic(server.host or ""),
            "operate",
            request,
            reply=OperationReply,
            seconds=DIAGNOSTICS.seconds,
        )
        if reply.state != "done":
            return {}
        made = msgspec.msgpack.decode(reply.result, type=Diagnostics)
        return {disk.name: disk for disk in made.disks}

    def _use(self, server: Server, disk: Disk, told: dict[str, DiskUse]) -> VolumeUsage | None:
        use = told.get(disk.device)
        if use is None or disk.volume_id is None:
            return None
        return VolumeUsage(
            volume_id=disk.volume_id,
            project_id=server.project_id,
            user_id=server.user_id,
            zone=server.availability_zone,
            server_id=server.id,
            refreshed=self._clock.now(),
            reads=use.read_requests or 0,
            read_bytes=use.read_bytes or 0,
            writes=use.write_requests or 0,
            write_bytes=use.write_bytes or 0,
            host=server.host or "",
        )


def _with_volumes(tx: Tx) -> list[tuple[Server, list[Disk]]]:
    """Running servers that have volumes, with those."""
    of: dict[str, list[Disk]] = defaultdict(list)
    for server_id, disk in block_devices.all_volumes(tx):
        of[server_id].append(disk)
    found = []
    for server_id, disks in of.items():
        server = servers.get(tx, server_id)
        if server is not None and server.host and server.power_state == PowerState.RUNNING:
            found.append((server, disks))
    return found
