"""Finding the guests that ask: in the API database and the cells."""

from __future__ import annotations

from kilonova.base.clock import Clock
from kilonova.base.errors import Conflict, NotFound
from kilonova.db.cells import Cells
from kilonova.db.database import Database, Tx
from kilonova.domain.describe import guest_spec
from kilonova.domain.guest import GuestSpec
from kilonova.store import mappings, servers

PASSWORD = "password"


class LocalGuests:
    """``metadata.service.Guests`` over one cell (``[api] local_metadata_per_cell``)."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    async def describe(self, server_id: str) -> GuestSpec | None:
        return await self._db.read(_describe, server_id)

    async def by_address(self, address: str) -> str | None:
        found = await self._db.read(servers.by_address, address)
        return found[0] if len(found) == 1 else None

    async def password(self, server_id: str) -> str:
        private = await self._db.read(servers.private, server_id)
        return private.system.get(PASSWORD, "") if private else ""

    async def set_password(self, server_id: str, password: str) -> None:
        await self._db.run(self._keep, server_id, password)

    def _keep(self, tx: Tx, server_id: str, password: str) -> None:
        if servers.get(tx, server_id, lock=True) is None:
            raise NotFound("There is no such server.")
        private = servers.private(tx, server_id)
        if private is None:
            raise NotFound("There is no such server.")
        if private.system.get(PASSWORD):
            raise Conflict("The password is set already.")
        system = {**private.system, PASSWORD: password}
        servers.update(tx, server_id, now=self._clock.now(), system=system)


class StoredGuests:
    """``metadata.service.Guests`` over all cells, by the mappings of the API database."""

    def __init__(self, db: Database, cells: Cells, clock: Clock) -> None:
        self._db = db
        self._cells = cells
        self._clock = clock

    async def describe(self, server_id: str) -> GuestSpec | None:
        cell = await self._cell(server_id)
        return await cell.describe(server_id) if cell else None

    async def by_address(self, address: str) -> str | None:
        found = (await self._cells.gather(servers.by_address, address)).rows()
        return found[0] if len(found) == 1 else None

    async def password(self, server_id: str) -> str:
        cell = await self._cell(server_id)
        return await cell.password(server_id) if cell else ""

    async def set_password(self, server_id: str, password: str) -> None:
        cell = await self._cell(server_id)
        if cell is None:
            raise NotFound("There is no such server.")
        await cell.set_password(server_id, password)

    async def _cell(self, server_id: str) -> LocalGuests | None:
        mapping = await self._db.read(mappings.find, server_id)
        if mapping is None or mapping.cell_id is None:
            return None
        cell = self._cells.get(mapping.cell_id)
        return LocalGuests(cell.db, self._clock) if cell else None


def _describe(tx: Tx, server_id: str) -> GuestSpec | None:
    server = servers.get(tx, server_id)
    private = servers.private(tx, server_id)
    return guest_spec(server, private) if server and private else None
