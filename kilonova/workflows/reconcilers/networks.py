"""A server's cards as the network service has them now, written beside the server."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import msgspec

from kilonova.base.aio import backoff
from kilonova.base.clock import Clock
from kilonova.base.ids import Ids
from kilonova.db.cells import Cell, Cells
from kilonova.db.database import Database, Tx
from kilonova.domain.guest import Nic
from kilonova.domain.sagas import DETACH_INTERFACE, ServerArgs
from kilonova.domain.server import Server
from kilonova.interfaces.network import NetworkService
from kilonova.store import mappings, servers
from kilonova.workflows.engine import accept as engine
from kilonova.workflows.reconcilers.beginning import begin

log = logging.getLogger(__name__)

PATIENCE = 60.0


class NetworkInfo:
    """Refreshes single servers; serve ``network_changed`` on the conductors' topic."""

    def __init__(
        self,
        *,
        db: Database,
        cells: Cells,
        networks: NetworkService,
        clock: Clock,
        ids: Ids,
        patience: float = PATIENCE,
    ) -> None:
        """``patience``: seconds a guest has to let go of cards without ports."""
        self._db = db
        self._cells = cells
        self._networks = networks
        self._clock = clock
        self._ids = ids
        self._patience = patience

    async def network_changed(self, args: ServerArgs) -> None:
        """Read the cards of a server anew; one that is gone meanwhile is left alone.

        A card whose port is no more is taken out of the guest, too, one after the other; one that
        the guest does not let go of stays in it until its next start.
        """
        mapping = await self._db.read(mappings.find, args.server_id)
        if mapping is None or mapping.cell_id is None:
            return
        db = self._cells.get(mapping.cell_id).db
        pauses, end = backoff(0.5, most=5.0), self._clock.monotonic() + self._patience
        while await self._refresh(db, args.server_id, last=self._clock.monotonic() >= end):
            await self._clock.sleep(next(pauses))

    async def heal(self, cell: Cell) -> None:
        """The same for every server of a cell (``heal_instance_info_cache_interval``)."""
        for server_id in await cell.db.read(servers.placed):
            await self._refresh(cell.db, server_id)

    async def _refresh(self, db: Database, server_id: str, *, last: bool = False) -> bool:
        """Write what is different; whether cards are left whose ports are gone.

        The ``last`` time such cards are forgotten.
        """
        present = await db.read(servers.get_nics, server_id)
        if not present:
            return False
        fresh = await self._networks.nics(server_id, tuple(nic.port_id for nic in present))
        known = {nic.port_id: nic for nic in fresh}
        lost = tuple(nic.port_id for nic in present if nic.port_id not in known)
        if lost:
            # An empty answer must not cost a guest its cards: each is asked for by its own id.
            kept = {p.id for p in await self._networks.ports(ids=lost) if p.device_id == server_id}
            lost = tuple(port_id for port_id in lost if port_id not in kept)
        return await db.run(self._write, server_id, present, known, lost, last=last)

    def _write(
        self,
        tx: Tx,
        server_id: str,
        before: tuple[Nic, ...],
        known: Mapping[str, Nic],
        lost: tuple[str, ...],
        *,
        last: bool,
    ) -> bool:
        server = servers.get(tx, server_id, lock=True)
        if server is None or servers.get_nics(tx, server_id) != before:
            return False
        busy = engine.living(tx, server_id) is not None
        # On no host there is no guest to take a card out of.
        forget = not busy and (last or server.host is None)
        after = [
            msgspec.structs.replace(known.get(nic.port_id, nic), tag=nic.tag)
            for nic in before
            if nic.port_id not in lost or not forget
        ]
        if tuple(after) != before:
            servers.set_nics(tx, server_id, after, now=self._clock.now())
        if forget or last or not lost:
            return False
        if not busy:
            self._detach(tx, server, lost[0])
        return True

    def _detach(self, tx: Tx, server: Server, port_id: str) -> None:
        log.info("port %s of server %s is gone: taking its card out", port_id, server.id)
        args = [server.id, port_id]
        begin(tx, DETACH_INTERFACE, args, server, clock=self._clock, ids=self._ids)
