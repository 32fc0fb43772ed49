"""Figures of the cloud for ``/metrics``: servers, sagas, agents; counted every few seconds."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
from collections.abc import Awaitable, Callable, Mapping

from prometheus_client import Gauge

from kilonova.base.clock import Clock
from kilonova.base.errors import Fault
from kilonova.db.cells import Cells
from kilonova.db.database import Database, Tx
from kilonova.store import figures
from kilonova.store.figures import SagaCount
from kilonova.web.health import Metrics

log = logging.getLogger(__name__)

LEAST_SECONDS = 5.0
SHARE = 20.0
"""Counting takes at most one part in this many of the time."""

Guests = Callable[[], Awaitable[Mapping[str, int]]]


class Rarely:
    """Work that many ask for and that is done once in a while, the rarer the longer it takes."""

    def __init__(self, work: Callable[[], Awaitable[None]], clock: Clock) -> None:
        self._work = work
        self._clock = clock
        self._next = clock.monotonic()
        self._lock = asyncio.Lock()

    async def __call__(self) -> None:
        """Do it unless it was done not long ago; what is being done is waited for."""
        async with self._lock:
            began = self._clock.monotonic()
            if began < self._next:
                return
            try:
                await self._work()
            except Fault as fault:
                log.warning("figures could not be counted: %s", fault.message)
            now = self._clock.monotonic()
            self._next = now + max(LEAST_SECONDS, SHARE * (now - began))


class CloudFigures:
    """Gauges over the API database and the cells."""

    def __init__(
        self, metrics: Metrics, db: Database, cells: Cells, clock: Clock, *, down_after: float
    ) -> None:
        self._db = db
        self._cells = cells
        self._clock = clock
        self._down_after = dt.timedelta(seconds=down_after)
        registry = metrics.registry
        self._servers = Gauge("kilonova_servers", "Living servers", ("state",), registry=registry)
        self._sagas = Gauge(
            "kilonova_sagas", "Sagas that have not ended", ("state",), registry=registry
        )
        self._oldest = Gauge(
            "kilonova_saga_oldest_seconds",
            "Age of the oldest saga that has not ended",
            ("state",),
            registry=registry,
        )
        self._agents = Gauge("kilonova_agents", "Compute agents", ("state",), registry=registry)
        metrics.before.append(Rarely(self.count, clock))

    async def count(self) -> None:
        """Count now; cells that do not answer are left out."""
        since = self._clock.now() - self._down_after
        answers = await self._cells.ask(self._cells.all, _cell, since)
        servers: dict[str, int] = {}
        found: dict[str, list[SagaCount]] = {}
        up = down = 0
        sagas = [await self._db.read(figures.sagas)]
        for _, (states, of_cell, (alive, dead)) in answers.found:
            for state, number in states.items():
                servers[state] = servers.get(state, 0) + number
            sagas.append(of_cell)
            up, down = up + alive, down + dead
        for one in sagas:
            for state, counted in one.items():
                found.setdefault(state, []).append(counted)
        _set(self._servers, servers)
        _set(self._agents, {"up": up, "down": down})
        none = {"running": 0, "stuck": 0}
        _set(self._sagas, none | {s: sum(c.count for c in some) for s, some in found.items()})
        now = self._clock.now().timestamp()
        _set(
            self._oldest,
            none | {s: max(now - c.oldest for c in some) for s, some in found.items()},
        )


class GuestFigures:
    """A gauge of the guests on the hosts of this process, by power state."""

    def __init__(self, metrics: Metrics, guests: Guests, clock: Clock) -> None:
        self._guests = guests
        self._gauge = Gauge(
            "kilonova_guests",
            "Guests of this process's hosts",
            ("power",),
            registry=metrics.registry,
        )
        metrics.before.append(Rarely(self.count, clock))

    async def count(self) -> None:
        """Count now."""
        _set(self._gauge, await self._guests())


def _cell(
    tx: Tx, since: dt.datetime
) -> tuple[dict[str, int], dict[str, SagaCount], tuple[int, int]]:
    return figures.servers(tx), figures.sagas(tx), figures.agents(tx, alive_since=since)


def _set(gauge: Gauge, values: Mapping[str, float]) -> None:
    gauge.clear()
    for label, value in values.items():
        gauge.labels(label).set(value)
