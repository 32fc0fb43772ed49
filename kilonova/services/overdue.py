"""Reconcilers of servers that stay in a state for a while only: what ends it when time is over."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from kilonova.base.clock import Clock
from kilonova.base.ids import Ids
from kilonova.config.settings import Settings
from kilonova.db.cells import Cell
from kilonova.workflows.reconcilers.confirm import Confirmer
from kilonova.workflows.reconcilers.reclaim import Reclaimer
from kilonova.workflows.reconcilers.rescued import RescueEnder
from kilonova.workflows.reconcilers.shelved import Offloader

EVERY = 60.0


class Overdue(msgspec.Struct, frozen=True):
    """Look for such servers, each so many seconds."""

    name: str
    look: Callable[[], Awaitable[object]]
    every: float = EVERY


def reconcilers(settings: Settings, cell: Cell, clock: Clock, ids: Ids) -> list[Overdue]:
    """Those that the options ask for; a time of 0 seconds (shelved servers: -1) is no end."""
    own = settings.default
    found = []
    if own.reclaim_instance_interval > 0:
        reclaimer = Reclaimer(
            cell=cell, clock=clock, ids=ids, seconds=own.reclaim_instance_interval
        )
        found.append(Overdue("soft-deleted servers", reclaimer.reconcile))
    if own.rescue_timeout > 0:
        ender = RescueEnder(cell=cell, clock=clock, ids=ids, seconds=float(own.rescue_timeout))
        found.append(Overdue("rescued servers", ender.reconcile))
    if own.resize_confirm_window > 0:
        confirmer = Confirmer(
            cell=cell, clock=clock, ids=ids, seconds=float(own.resize_confirm_window)
        )
        found.append(Overdue("unconfirmed resizes", confirmer.reconcile))
    if own.shelved_offload_time > 0 and own.shelved_poll_interval >= 0:
        offloader = Offloader(
            cell=cell, clock=clock, ids=ids, seconds=float(own.shelved_offload_time)
        )
        every = float(own.shelved_poll_interval or EVERY)
        found.append(Overdue("shelved servers", offloader.reconcile, every))
    return found
