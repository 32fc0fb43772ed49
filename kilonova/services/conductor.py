"""The conductor: runs sagas, listens to agents, keeps records and world in step."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import functools
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from kilonova.base.aio import backoff, forever
from kilonova.base.clock import Clock
from kilonova.base.errors import Unavailable
from kilonova.base.ids import Ids
from kilonova.config.settings import Settings
from kilonova.db.cells import Cell, Cells
from kilonova.db.database import Database
from kilonova.domain.agent import CONDUCTOR
from kilonova.domain.request import RequestSpec, Selection
from kilonova.interfaces.placement import PlacementService
from kilonova.messaging.bus import Bus, NoReply, Subscription
from kilonova.scheduler.hosts import StoredHosts
from kilonova.services import notices
from kilonova.services.figures import step_times
from kilonova.services.neighbours import Neighbours
from kilonova.services.overdue import reconcilers
from kilonova.store import explanations
from kilonova.web.health import Metrics
from kilonova.workflows import sagas
from kilonova.workflows.audit import AuditReport, Sources, settled
from kilonova.workflows.engine.kit import Kit
from kilonova.workflows.engine.runner import Runner
from kilonova.workflows.reconcilers.agents import Agents
from kilonova.workflows.reconcilers.aggregates import Mirror
from kilonova.workflows.reconcilers.evacuations import Evacuations
from kilonova.workflows.reconcilers.guests import Guests, unknown_guest
from kilonova.workflows.reconcilers.images import ImageCacher
from kilonova.workflows.reconcilers.journals import Journals
from kilonova.workflows.reconcilers.leftovers import LeftoverCleaner
from kilonova.workflows.reconcilers.networks import NetworkInfo
from kilonova.workflows.reconcilers.usage import UsageAudits
from kilonova.workflows.reconcilers.volume_usage import VolumeUsages
from kilonova.workflows.visible import ServerVisible
from kilonova.workflows.world import World

log = logging.getLogger(__name__)

API = "api"
SELECT_SECONDS = 20.0
SELECT_PATIENCE = 150.0
MIRROR_EVERY = 5.0
LEFTOVERS_EVERY = 600.0
PRUNE_EVERY = 3600.0
JOURNALS_EVERY = 3600.0
SETTLED = 3.0
"""Seconds after the start before looking for what was left lying about."""
USAGE_EVERY = 60.0
REGISTERED = sagas.__all__


class Conductor:
    """One conductor: of the API level, and of one cell when ``cell`` is given."""

    def __init__(
        self,
        settings: Settings,
        *,
        db: Database,
        cells: Cells,
        cell: Cell,
        bus: Bus,
        neighbours: Neighbours,
        clock: Clock,
        ids: Ids,
        metrics: Metrics | None = None,
    ) -> None:
        self._settings = settings
        self._db = db
        self._bus = bus
        self._clock = clock
        down_after = float(settings.default.service_down_time)
        self.agents = Agents(
            db=db,
            cell=cell,
            placement=neighbours.placement,
            clock=clock,
            ids=ids,
            down_after=down_after,
        )
        given = db, cells, cell, bus, self.agents, neighbours.placement, clock, ids
        self.guests = _guests(*given, down_after)
        self._cell = cell
        self.networks = NetworkInfo(
            db=db, cells=cells, networks=neighbours.networks, clock=clock, ids=ids
        )
        self.overdue = reconcilers(settings, cell, clock, ids)
        self.mirror = Mirror(db=db, cell=cell, placement=neighbours.placement)
        self.sources = _sources(settings, db, cells, bus, neighbours, clock)
        self.leftovers = _cleaner(db, cells, self.sources, neighbours)
        databases = {API: db, **{c.id: c.db for c in cells.all}}
        self.journals = Journals(databases, clock)
        self.usage = _usage(settings, cell, clock)
        self.volume_usages = VolumeUsages(cell=cell, bus=bus, clock=clock, ids=ids)
        self.images = ImageCacher(db, bus)
        self.sender = notices.sender(settings, databases, bus, clock, ids, metrics)
        world = _world(
            self.agents,
            db=db,
            cells=cells,
            bus=bus,
            neighbours=neighbours,
            hosts=StoredHosts(db, cells, clock, down_after=down_after),
            clock=clock,
        )
        self.runner = self._runner(db, cells, world, ids, metrics)
        self._serving: Subscription | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def _runner(
        self, db: Database, cells: Cells, world: World, ids: Ids, metrics: Metrics | None
    ) -> Runner:
        kit = Kit(
            databases={API: db, **{c.id: c.db for c in cells.all}},
            clock=self._clock,
            world=world,
            settings=self._settings,
            bus=self._bus,
            alive=self.agents.alive,
            visible=ServerVisible(db, self._clock),
            measure=step_times(metrics) if metrics is not None else None,
        )
        return Runner(kit, ids=ids, name=self._settings.default.host)

    async def start(self) -> None:
        """Serve the conductors' topic and work."""
        methods: dict[str, Any] = {
            **self.runner.methods(),
            **self.agents.methods(),
            "network_changed": self.networks.network_changed,
            "audit": self.audit,
            "cache_images": self.images.cache_images,
        }
        self._serving = await self._bus.serve(CONDUCTOR, methods)
        self._run("sagas", self.runner.run())
        self._every("aggregates", self.mirror.reconcile, MIRROR_EVERY)
        interval = self._settings.default.sync_power_state_interval
        if interval >= 0:
            self._every("guests", self.guests.reconcile, float(interval or 600))
        healing = self._settings.default.heal_instance_info_cache_interval
        if healing > 0:
            work = functools.partial(self.networks.heal, self._cell)
            self._every("cards", work, float(healing), after=SETTLED)
        self._every("leftovers", self.leftovers.reconcile, LEFTOVERS_EVERY, after=SETTLED)
        self._every("explanations", self._forget_explanations, PRUNE_EVERY, after=SETTLED)
        self._every("journals", self.journals.reconcile, JOURNALS_EVERY, after=SETTLED)
        for row in self.overdue:
            self._every(row.name, row.look, row.every)
        if self._settings.default.instance_usage_audit:
            self._every("usage audits", self.usage.reconcile, USAGE_EVERY)
        if self.sender is not None:
            self._run("notifications", self.sender.run())
            polls = self._settings.default.volume_usage_poll_interval
            if polls:
                self._every("volume usage", self.volume_usages.reconcile, float(polls))
        self._run("returned hosts", self.guests.welcome())

    async def _forget_explanations(self) -> None:
        """Old ones go, a thousand at a time."""
        days = dt.timedelta(days=self._settings.kilonova.explanation_days)
        while await self._db.run(explanations.prune, before=self._clock.now() - days):
            pass

    async def audit(self) -> AuditReport:
        """Bus method: what does not match in this cloud."""
        return await settled(self.sources)

    async def stop(self) -> None:
        """Take no new work, give sagas in hand a moment, let go of the rest."""
        if self._serving is not None:
            await self._serving.close()
            self._serving = None
        await self.images.close()
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._tasks.clear()

    def _every(
        self,
        name: str,
        work: Callable[[], Awaitable[object]],
        seconds: float,
        *,
        after: float = 0.0,
    ) -> None:
        self._run(name, forever(name, work, every=seconds, after=after))

    def _run(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.create_task(work, name=name))


def _guests(
    db: Database,
    cells: Cells,
    cell: Cell,
    bus: Bus,
    agents: Agents,
    placement: PlacementService,
    clock: Clock,
    ids: Ids,
    down_after: float,
) -> Guests:
    """Looks at hosts, and cleans those up that are back after their servers were evacuated."""
    evacuations = Evacuations(
        db=db, cell=cell, placement=placement, clock=clock, unknown=unknown_guest
    )
    return Guests(
        db=db,
        cells=cells,
        cell=cell,
        bus=bus,
        agents=agents,
        clock=clock,
        ids=ids,
        down_after=down_after,
        evacuations=evacuations,
    )


def _sources(
    settings: Settings, db: Database, cells: Cells, bus: Bus, neighbours: Neighbours, clock: Clock
) -> Sources:
    """Where the audit looks."""
    return Sources(
        db=db,
        cells=cells,
        clock=clock,
        bus=bus,
        placement=neighbours.placement,
        ports=neighbours.networks.compute_ports,
        volumes=neighbours.volumes.all_attachments,
        down_after=float(settings.default.service_down_time),
    )


def _cleaner(
    db: Database, cells: Cells, sources: Sources, neighbours: Neighbours
) -> LeftoverCleaner:
    return LeftoverCleaner(
        db=db,
        cells=cells,
        sources=sources,
        placement=neighbours.placement,
        networks=neighbours.networks,
        volumes=neighbours.volumes,
    )


def _usage(settings: Settings, cell: Cell, clock: Clock) -> UsageAudits:
    return UsageAudits(cell=cell, clock=clock, period=settings.default.instance_usage_audit_period)


def _world(
    agents: Agents,
    *,
    db: Database,
    cells: Cells,
    bus: Bus,
    neighbours: Neighbours,
    hosts: StoredHosts,
    clock: Clock,
) -> World:
    """What the steps of sagas may use."""

    async def select(request: RequestSpec) -> Selection:
        # Asking changes nothing, and a broker or scheduler that is away only costs time.
        pauses = backoff(0.1, most=2.0)
        end = clock.monotonic() + SELECT_PATIENCE
        while True:
            try:
                return await bus.call(
                    "scheduler",
                    "select_destinations",
                    request,
                    reply=Selection,
                    seconds=SELECT_SECONDS,
                )
            except (Unavailable, NoReply) as fault:
                if clock.monotonic() >= end:
                    raise
                log.warning("no scheduler has answered yet: %s", fault.message)
            await clock.sleep(next(pauses))

    return World(
        db=db,
        cells=cells,
        images=neighbours.images,
        networks=neighbours.networks,
        volumes=neighbours.volumes,
        shares=neighbours.shares,
        placement=neighbours.placement,
        select=select,
        group=lambda group_id, but: hosts.group(group_id, but=but),
        token=neighbours.source.token,
        alive=agents.alive,
    )
