"""The scheduler with everything it needs."""

from __future__ import annotations

from kilonova.base.clock import Clock
from kilonova.config.settings import Settings
from kilonova.db.cells import Cells
from kilonova.db.database import Database
from kilonova.interfaces.placement import PlacementService
from kilonova.scheduler.hosts import StoredHosts
from kilonova.scheduler.service import Scheduler


def make(
    settings: Settings,
    *,
    db: Database,
    cells: Cells,
    placement: PlacementService,
    clock: Clock,
) -> Scheduler:
    """A scheduler; call ``serve(bus)`` on it. LookupError for a filter or weigher nobody has."""
    hosts = StoredHosts(db, cells, clock, down_after=float(settings.default.service_down_time))
    return Scheduler(
        placement,
        hosts,
        clock,
        options=settings.scheduler,
        filter_options=settings.filter_scheduler,
        metrics=settings.metrics,
        default_zone=settings.default.default_availability_zone,
    )
