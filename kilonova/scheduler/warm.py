"""Host states out of memory, brought up to date before each decision instead of read anew."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial

import msgspec

from kilonova.base.clock import Clock
from kilonova.db.cells import Cell, Cells
from kilonova.db.database import Database, Tx
from kilonova.domain.request import ServerGroup
from kilonova.scheduler.hosts import StoredHosts, by_host, plain
from kilonova.scheduler.state import Aggregate, HostState
from kilonova.scheduler.view import CellView
from kilonova.store import aggregates, host_changes, hosts
from kilonova.store.host_changes import Changes, Since, Whole
from kilonova.store.hosts import HostRow

log = logging.getLogger(__name__)

OVERLAP = dt.timedelta(seconds=10)
"""How far back each look goes: for transactions that end late and clocks that differ."""
SWEEP_EVERY = 30.0
SWEEP_OVERLAP = dt.timedelta(seconds=90)
RENEW_EVERY = 1800.0
AWAY = 10.0
"""Seconds a cell that did not answer is left alone."""


class WarmHosts:
    """Implements ``state.HostStates``.

    A decision asks for what has changed since the last one: services that are out, servers and
    nodes written since, aggregates whose rows differ. Decisions that come together share one look,
    which begins after each of them came, so that everybody sees what he did before. Rows that went
    without a trace are found by a sweep; `follow` sweeps in the background.
    """

    def __init__(
        self,
        api: Database,
        cells: Cells,
        clock: Clock,
        *,
        down_after: float = 60.0,
        images: bool = False,
    ) -> None:
        self._api = api
        self._cells = cells
        self._clock = clock
        self._down_after = dt.timedelta(seconds=down_after)
        self._images = images
        self._stored = StoredHosts(api, cells, clock, down_after=down_after, images=images)
        self._views: dict[str, CellView] = {}
        self._away: dict[str, float] = {}
        self._member_of: dict[str, tuple[Aggregate, ...]] = {}
        self._aggregates: list[Aggregate] = []
        self._signature: tuple[tuple[int, str], ...] | None = None
        self._hosts_turn = _Turn()
        self._zones_turn = _Turn()
        self._swept = float("-inf")
        self._renewed = clock.monotonic()

    async def hosts(self, providers: Collection[str]) -> list[HostState]:
        """The hosts with these provider uuids in enabled cells; unknown ones are left out."""
        await self._zones_turn.run(self._look_at_zones)
        await self._hosts_turn.run(self._look)
        found: list[HostState] = []
        missing: Collection[str] = providers
        views = self._there()
        for view in views:
            missing = view.states(missing, self._member_of, found)
        if missing and len(views) < len(self._enabled()):
            log.warning("%d hosts are passed over: their cell does not answer", len(missing))
        return found

    async def providers_of(self, host: str | None, node: str | None) -> list[str]:
        """The provider uuids of the compute nodes of a host: all nodes, or the one named."""
        return await self._stored.providers_of(host, node)

    async def aggregates(self) -> list[Aggregate]:
        """All host aggregates."""
        await self._zones_turn.run(self._look_at_zones)
        return self._aggregates

    async def group(self, group_id: str, *, but: Collection[str] = ()) -> ServerGroup | None:
        """A server group with its members counted by host, the servers ``but`` left out."""
        return await self._stored.group(group_id, but=but)

    async def follow(self) -> None:
        """Stay current for ever, so that a decision after a quiet hour is as fast as any other."""
        while True:
            try:
                await self._zones_turn.run(self._look_at_zones)
                await self._hosts_turn.run(partial(self._look, sweeping=True))
            except Exception:
                log.exception("host states could not be brought up to date")
            await self._clock.sleep(SWEEP_EVERY / 2)

    def _enabled(self) -> list[Cell]:
        return [cell for cell in self._cells.real if not cell.disabled]

    def _there(self) -> list[CellView]:
        """The views of the cells that are enabled and answer."""
        return [
            self._views[cell.id]
            for cell in self._enabled()
            if cell.id in self._views and cell.id not in self._away
        ]

    async def _look_at_zones(self) -> None:
        signature = await self._api.read(aggregates.signature)
        if signature == self._signature:
            return
        rows = await self._api.read(aggregates.page)
        before, self._member_of = self._member_of, _shared(by_host(rows))
        self._aggregates = [plain(row) for row in rows]
        self._signature = signature
        moved = [
            host
            for host in before.keys() | self._member_of.keys()
            if before.get(host) != self._member_of.get(host)
        ]
        for view in self._views.values():
            view.touch_all(moved)

    async def _look(self, *, sweeping: bool = False) -> None:
        """Bring every enabled cell up to date."""
        now = self._clock.monotonic()
        self._away = {cell: until for cell, until in self._away.items() if until > now}
        # Without `follow` a decision sweeps itself, but later than `follow` would.
        sweeping = now - self._swept >= (SWEEP_EVERY / 2 if sweeping else SWEEP_EVERY)
        if now - self._renewed >= RENEW_EVERY:
            self._renewed = now
            self._views.clear()
        work = [
            self._look_at(c, sweeping=sweeping) for c in self._enabled() if c.id not in self._away
        ]
        if len(work) == 1:
            await work[0]
        else:
            async with asyncio.TaskGroup() as group:
                for one in work:
                    group.create_task(one)
        if sweeping:
            self._swept = now

    async def _look_at(self, cell: Cell, *, sweeping: bool) -> None:
        view = self._views.get(cell.id) or CellView(cell.id)
        new = cell.id not in self._views
        begun = self._clock.now()
        asked = view.building if sweeping and not new else None
        # A database remembers by their names which reads take long; these must not be confused.
        read = self._sweep if sweeping or new else self._read
        answer = await self._cells.ask([cell], read, view, asked)
        if not answer.found:
            self._away[cell.id] = self._clock.monotonic() + AWAY
            return
        news = answer.found[0][1]
        view.looked = begun
        view.take(news.changes)
        if news.whole is not None:
            doubtful = view.take_whole(news.whole, asked or ())
            if doubtful:
                rows = await self._cells.ask([cell], hosts.present, doubtful)
                view.take_rows(rows.rows(), view.stamps | news.changes.nodes)
        view.take_rows(news.rows, news.changes.nodes)
        self._views[cell.id] = view

    def _sweep(self, tx: Tx, view: CellView, asked: Sequence[str] | None) -> _News:
        changes, rows = self._changes(tx, view, SWEEP_OVERLAP)
        whole = None
        if asked is not None:
            whole = host_changes.whole(tx, asked, images=self._images)
        return _News(changes, rows, whole)

    def _read(self, tx: Tx, view: CellView, _asked: Sequence[str] | None) -> _News:
        return _News(*self._changes(tx, view, OVERLAP), None)

    def _changes(
        self, tx: Tx, view: CellView, overlap: dt.timedelta
    ) -> tuple[Changes, list[HostRow]]:
        now = self._clock.now()
        heard = (now - self._down_after, now + self._down_after)
        written = None if view.looked is None else view.looked - overlap
        since = Since(written, view.node_id, heard)
        changes = host_changes.changes(tx, since, images=self._images)
        stale = view.stale(changes)
        return changes, hosts.present(tx, stale) if stale else []


class _News(msgspec.Struct, frozen=True):
    """What one transaction saw."""

    changes: Changes
    rows: list[HostRow]
    whole: Whole | None


class _Turn:
    """Work that all who wait for it share, if it began after they came."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._begun = 0
        self._done = 0

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Done once at least since this call."""
        before = self._begun
        async with self._lock:
            if self._done > before:
                return
            # Who comes in the same moment shares what begins after it.
            await asyncio.sleep(0)
            self._begun += 1
            await work()
            self._done = self._begun


def _shared(
    member_of: Mapping[str, tuple[Aggregate, ...]],
) -> dict[str, tuple[Aggregate, ...]]:
    """The same with one tuple for all hosts in the same aggregates."""
    kept: dict[tuple[int, ...], tuple[Aggregate, ...]] = {}
    return {
        host: kept.setdefault(tuple(one.id for one in items), items)
        for host, items in member_of.items()
    }
