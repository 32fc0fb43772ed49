"""What a filter is, and the table of all of them."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from kilonova.base import plugins
from kilonova.base.registry import Registry
from kilonova.config.filter_scheduler import FilterScheduler, Metrics
from kilonova.domain.request import RequestSpec
from kilonova.scheduler.state import HostState


class Env(msgspec.Struct, frozen=True):
    """What filters and weighers know besides host and request."""

    options: FilterScheduler = FilterScheduler()
    metrics: Metrics = Metrics()


Check = Callable[[HostState, RequestSpec, Env], str | None]
Concerns = Callable[[RequestSpec, Env], bool]


class HostFilter(msgspec.Struct, frozen=True):
    """A check of one host: None when it will do, otherwise why not.

    ``on_rebuild``: it also looks at a server that stays and gets a new image. ``concerns``: whether
    it has anything against any host for such a request; where it has not, no host is looked at.
    """

    name: str
    check: Check
    on_rebuild: bool = False
    concerns: Concerns | None = None


FILTERS: Registry[HostFilter] = Registry("scheduler filter")
GROUP = "kilonova.filters"


def host_filter(
    name: str, *, on_rebuild: bool = False, concerns: Concerns | None = None
) -> Callable[[Check], Check]:
    """Register the decorated check under the name operators enable it by."""

    def register(check: Check) -> Check:
        FILTERS.add(name, HostFilter(name, check, on_rebuild, concerns))
        return check

    return register


ALL = "all_filters"


def load(names: Sequence[str], available: Sequence[str] = (ALL,)) -> list[HostFilter]:
    """The enabled filters in their order; LookupError for a name that is not available.

    ``available``: ``…all_filters`` stands for ours (the modules beside this one) and for those of
    the entry points of ``kilonova.filters``; another path names one of ours by its last part, or
    imports what it says. An entry point and a path give a `HostFilter`, a function (host, request,
    env), or a class whose instances have ``host_passes(host, request)``.
    """
    known: dict[str, HostFilter] = {}
    for path in available:
        module, _, last = path.rpartition(".")
        if last == ALL:
            known |= _ours() | _foreign(names)
        elif last in (ours := _ours()) and (
            not module or module.startswith(("nova.", "kilonova."))
        ):
            known[last] = ours[last]
        else:
            known[last] = adapt(last, _imported(path))
    found = []
    for name in names:
        item = known.get(name.rpartition(".")[2])
        if item is None:
            raise LookupError(f"no scheduler filter {name!r} is available")
        found.append(item)
    return found


def _ours() -> dict[str, HostFilter]:
    package = importlib.import_module(__package__ or "")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return dict(FILTERS.items())


def _foreign(names: Sequence[str]) -> dict[str, HostFilter]:
    wanted = {name.rpartition(".")[2] for name in names}
    return {
        point.name: adapt(point.name, point.load())
        for point in plugins.points(GROUP)
        if point.name in wanted
    }


def _imported(path: str) -> Any:
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise LookupError(f"the scheduler filter {path!r} cannot be imported: {error}") from None


def adapt(name: str, thing: Any) -> HostFilter:
    """A filter of whatever form as one of ours."""
    if isinstance(thing, HostFilter):
        return thing
    if not isinstance(thing, type):
        return HostFilter(name, thing)
    judge = thing()

    def check(host: HostState, request: RequestSpec, _env: Env) -> str | None:
        return None if judge.host_passes(host, request) else "it does not pass"

    return HostFilter(name, check, bool(getattr(thing, "RUN_ON_REBUILD", False)))
