"""The scheduler with everything it needs."""

from __future__ import annotations

from kilonova.base.clock import Clock
from kilonova.config.settings import Settings
from kilonova.db.cells import Cells
from kilonova.db.database import Database
from kilonova.interfaces.placement import PlacementService
from kilonova.scheduler.service import Scheduler
from kilonova.scheduler.state import HostStates
from kilonova.scheduler.warm import WarmHosts


def host_states(settings: Settings, *, db: Database, cells: Cells, clock: Clock) -> WarmHosts:
    """The hosts in memory; run their ``follow`` beside the scheduler."""
    return WarmHosts(
        db,
        cells,
        clock,
        down_after=float(settings.default.service_down_time),
        images=bool(settings.filter_scheduler.image_props_weight_multiplier),
    )


def make(
    settings: Settings, *, hosts: HostStates, placement: PlacementService, clock: Clock
) -> Scheduler:
    """A scheduler; call ``serve(bus)`` on it. LookupError for a filter or weigher nobody has."""
    return Scheduler(
        placement,
        hosts,
        clock,
        options=settings.scheduler,
        filter_options=settings.filter_scheduler,
        metrics=settings.metrics,
        default_zone=settings.default.default_availability_zone,
    )
