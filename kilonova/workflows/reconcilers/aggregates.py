"""Host aggregates mirrored to Placement, and disabled services marked there."""

from __future__ import annotations

from kilonova.base.errors import NotFound
from kilonova.db.cells import Cell
from kilonova.db.database import Database
from kilonova.interfaces.placement import PlacementService
from kilonova.store import aggregates, nodes, services
from kilonova.workflows.reconcilers.agents import DISABLED_TRAIT


class Mirror:
    """Keeps Placement's view of a cell's hosts as the records have it."""

    def __init__(self, *, db: Database, cell: Cell, placement: PlacementService) -> None:
        self._db = db
        self._cell = cell
        self._placement = placement
        self._told: dict[str, tuple[frozenset[str], bool]] = {}

    async def reconcile(self) -> None:
        """Write what changed since the last look (everything on the first)."""
        rows = await self._db.read(aggregates.page)
        known = {row.uuid for row in rows}
        member: dict[str, set[str]] = {}
        for row in rows:
            for host in row.hosts:
                member.setdefault(host, set()).add(row.uuid)
        disabled = {
            s.host
            for s in await self._cell.db.read(services.page, binary="nova-compute")
            if s.disabled
        }
        for uuid, host in await self._cell.db.read(nodes.places):
            wanted = frozenset(member.get(host, ()))
            off = host in disabled
            if self._told.get(uuid) == (wanted, off):
                continue
            owned = known | set(self._told.get(uuid, (frozenset(), False))[0])
            try:
                await self._placement.set_aggregates(uuid, wanted, owned=owned)
                await self._placement.set_traits(
                    uuid, {DISABLED_TRAIT} if off else set(), owned={DISABLED_TRAIT}
                )
            except NotFound:
                # Its provider is being made; the next look finds it.
                continue
            self._told[uuid] = (wanted, off)
