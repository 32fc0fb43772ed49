"""What a filter is, and the table of all of them."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points

import msgspec

from kilonova.base.registry import Registry
from kilonova.config.filter_scheduler import FilterScheduler, Metrics
from kilonova.domain.request import RequestSpec
from kilonova.scheduler.state import HostState


class Env(msgspec.Struct, frozen=True):
    """What filters and weighers know besides host and request."""

    options: FilterScheduler = FilterScheduler()
    metrics: Metrics = Metrics()


Check = Callable[[HostState, RequestSpec, Env], str | None]


class HostFilter(msgspec.Struct, frozen=True):
    """A check of one host: None when it will do, otherwise why not.

    ``on_rebuild``: it also looks at a server that stays and gets a new image.
    """

    name: str
    check: Check
    on_rebuild: bool = False


FILTERS: Registry[HostFilter] = Registry("scheduler filter")
GROUP = "kilonova.filters"


def host_filter(name: str, *, on_rebuild: bool = False) -> Callable[[Check], Check]:
    """Register the decorated check under the name operators enable it by."""

    def register(check: Check) -> Check:
        FILTERS.add(name, HostFilter(name, check, on_rebuild))
        return check

    return register


def load(names: Sequence[str]) -> list[HostFilter]:
    """The enabled filters in their order; LookupError for a name nobody has.

    Ours are the modules beside this one; others come by entry points of ``kilonova.filters`` that
    name a `HostFilter`.
    """
    package = importlib.import_module(__package__ or "")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    for point in entry_points(group=GROUP):
        if point.name in names and point.name not in FILTERS:
            FILTERS.add(point.name, point.load())
    return [FILTERS.get(name.rpartition(".")[2]) for name in names]
