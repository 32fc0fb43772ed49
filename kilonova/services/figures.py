"""Figures of the cloud for ``/metrics``: servers, sagas, agents; counted every few seconds."""

from __future__ import annotations

import datetime as dt

from prometheus_client import Gauge, Histogram

from kilonova.base.clock import Clock
from kilonova.db.cells import Cells
from kilonova.db.database import Database, Tx
from kilonova.services.gauges import Rarely, fill
from kilonova.store import figures
from kilonova.store.figures import SagaCount
from kilonova.web.health import Metrics
from kilonova.workflows.engine.kit import Measure

STEP_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60, 300)


def step_times(metrics: Metrics) -> Measure:
    """What the steps of sagas are measured with: one histogram by step and how it ended."""
    times = Histogram(
        "kilonova_saga_step_seconds",
        "Seconds from the beginning of a step of a saga to its end",
        ("step", "status"),
        buckets=STEP_BUCKETS,
        registry=metrics.registry,
    )

    def measure(step: str, status: str, seconds: float) -> None:
        times.labels(step, status).observe(seconds)

    return measure


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
        fill(self._servers, servers)
        fill(self._agents, {"up": up, "down": down})
        none = {"running": 0, "stuck": 0}
        fill(self._sagas, none | {s: sum(c.count for c in some) for s, some in found.items()})
        now = self._clock.now().timestamp()
        fill(
            self._oldest,
            none | {s: max(now - c.oldest for c in some) for s, some in found.items()},
        )


def _cell(
    tx: Tx, since: dt.datetime
) -> tuple[dict[str, int], dict[str, SagaCount], tuple[int, int]]:
    return figures.servers(tx), figures.sagas(tx), figures.agents(tx, alive_since=since)
