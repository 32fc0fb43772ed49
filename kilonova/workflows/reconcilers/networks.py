"""A server's cards as the network service has them now, written beside the server."""

from __future__ import annotations

import msgspec

from kilonova.base.clock import Clock
from kilonova.db.cells import Cells
from kilonova.db.database import Database, Tx
from kilonova.domain.guest import Nic
from kilonova.domain.sagas import ServerArgs
from kilonova.domain.server import addresses
from kilonova.interfaces.network import NetworkService
from kilonova.store import mappings, servers


class NetworkInfo:
    """Refreshes single servers; serve ``network_changed`` on the conductors' topic."""

    def __init__(
        self, *, db: Database, cells: Cells, networks: NetworkService, clock: Clock
    ) -> None:
        self._db = db
        self._cells = cells
        self._networks = networks
        self._clock = clock

    async def network_changed(self, args: ServerArgs) -> None:
        """Read the cards of a server anew; one that is gone meanwhile is left alone."""
        mapping = await self._db.read(mappings.find, args.server_id)
        if mapping is None or mapping.cell_id is None:
            return
        db = self._cells.get(mapping.cell_id).db
        present = await db.read(servers.get_nics, args.server_id)
        if not present:
            return
        order = tuple(nic.port_id for nic in present)
        fresh = await self._networks.nics(args.server_id, order)
        tags = {nic.port_id: nic.tag for nic in present}
        await db.run(
            self._write,
            args.server_id,
            present,
            [msgspec.structs.replace(nic, tag=tags.get(nic.port_id)) for nic in fresh],
        )

    def _write(self, tx: Tx, server_id: str, before: tuple[Nic, ...], fresh: list[Nic]) -> None:
        if servers.get(tx, server_id, lock=True) is None:
            return
        if servers.get_nics(tx, server_id) != before or tuple(fresh) == before:
            return
        now = self._clock.now()
        servers.set_nics(tx, server_id, fresh, now=now)
        servers.update(tx, server_id, now=now, addresses=addresses(fresh))
