"""One attempt to place a request, with or without something changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import msgspec

from kilonova.domain.request import RequestSpec, Selection
from kilonova.interfaces.placement import AllocationRequest, Candidates
from kilonova.scheduler.demand import Demand
from kilonova.scheduler.state import HostState

T = TypeVar("T")
ASKING, PLACEMENT, CELLS, CHOOSING = "asking", "placement", "cells", "choosing"


class Relax(msgspec.Struct, frozen=True):
    """What is taken to be different: the demand of Placement, the hosts, filters left out."""

    demand: Callable[[Demand], Demand] | None = None
    host: Callable[[HostState], HostState] | None = None
    without: frozenset[str] = frozenset()

    def also(self, other: Relax) -> Relax:
        """Both together."""
        return Relax(
            _both(self.demand, other.demand),
            _both(self.host, other.host),
            self.without | other.without,
        )


def _both(
    first: Callable[[T], T] | None, second: Callable[[T], T] | None
) -> Callable[[T], T] | None:
    if first is None or second is None:
        return first or second
    return lambda value: second(first(value))


NOTHING = Relax()


class Attempt(msgspec.Struct, frozen=True):
    """How an attempt went: ``stage`` is where it ended.

    ``query``: what Placement was asked (None: it was not). ``hosts``: all that were to choose from.
    """

    request: RequestSpec
    selection: Selection
    stage: str
    wanted: Demand | None = None
    query: Sequence[tuple[str, str]] | None = None
    found: Candidates | None = None
    hosts: Sequence[HostState] = ()
    ways: Mapping[str, Sequence[AllocationRequest]] = {}

    @property
    def placed(self) -> bool:
        """Whether every server found a host."""
        return bool(self.selection.servers)

    def free(self, resource: str) -> dict[str, int]:
        """Host → the largest portion of a class one of its providers could give now."""
        if self.found is None:
            return {}
        names = {state.provider: state.host for state in self.hosts}
        room: dict[str, int] = {}
        for summary in self.found.summaries.values():
            host, usage = names.get(summary.root), summary.resources.get(resource)
            if host is not None and usage is not None:
                room[host] = max(room.get(host, 0), usage.capacity - usage.used)
        return room
