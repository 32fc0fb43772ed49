"""What a weigher is, the table of all of them, and how their numbers become one."""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
from collections.abc import Callable, Sequence

import msgspec

from kilonova.base import plugins
from kilonova.base.registry import Registry
from kilonova.domain.request import RequestSpec
from kilonova.scheduler.filters.base import Concerns, Env
from kilonova.scheduler.state import HostState

Weigh = Callable[[HostState, RequestSpec, Env], float]
Column = Callable[[Sequence[HostState], RequestSpec], Sequence[float]]


class Weigher(msgspec.Struct, frozen=True):
    """A number for a host, more is better, times the option ``multiplier`` (``sign`` turns it).

    ``least`` and ``most`` bound the range the numbers are brought to 0…1 from; None takes it from
    the hosts at hand. ``concerns``: whether it can tell hosts apart for such a request; where it
    cannot, no host is weighed. ``column``, where it is there, says in one call what ``weigh`` would
    say of each host.
    """

    name: str
    weigh: Weigh | None
    multiplier: str
    sign: float = 1.0
    least: float | None = None
    most: float | None = None
    concerns: Concerns | None = None
    column: Column | None = None

    def numbers(
        self, hosts: Sequence[HostState], request: RequestSpec, env: Env
    ) -> Sequence[float]:
        """What it says of every host, in their order."""
        if self.column is not None:
            return self.column(hosts, request)
        weigh = self.weigh
        assert weigh is not None, self.name
        return [weigh(host, request, env) for host in hosts]


WEIGHERS: Registry[Weigher] = Registry("weigher")
GROUP = "kilonova.weighers"
_ALL = "all_weighers"


def weigher(
    name: str,
    multiplier: str,
    *,
    sign: float = 1.0,
    least: float | None = None,
    most: float | None = None,
    concerns: Concerns | None = None,
) -> Callable[[Weigh], Weigh]:
    """Register the decorated function."""

    def register(weigh: Weigh) -> Weigh:
        WEIGHERS.add(name, Weigher(name, weigh, multiplier, sign, least, most, concerns))
        return weigh

    return register


def column_weigher(
    name: str, multiplier: str, *, sign: float = 1.0, least: float | None = None
) -> Callable[[Column], Column]:
    """Register the decorated function, which gives the numbers of all hosts at once."""

    def register(column: Column) -> Column:
        WEIGHERS.add(name, Weigher(name, None, multiplier, sign, least, column=column))
        return column

    return register


def load(names: Sequence[str]) -> list[Weigher]:
    """The weighers of ``weight_classes``: all of ours for ``…all_weighers``, others by name.

    LookupError for a name nobody has. Entry points of ``kilonova.weighers`` add further ones.
    """
    package = importlib.import_module(__package__ or "")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    for point in plugins.points(GROUP):
        if point.name not in WEIGHERS:
            WEIGHERS.add(point.name, point.load())
    plain = [name.rpartition(".")[2] for name in names]
    if _ALL in plain:
        return [item for _, item in WEIGHERS.items()]
    return [WEIGHERS.get(name) for name in plain]


def multiplier_of(host: HostState, item: Weigher, env: Env) -> float:
    """The multiplier: the smallest the host's aggregates set under the option's name, else the
    option. ``weight_multiplier`` is the one of ``[metrics]``."""
    values = []
    for text in host.aggregate_values(item.multiplier):
        with contextlib.suppress(ValueError):
            values.append(float(text))
    return item.sign * min(values, default=_default(item, env))


def _default(item: Weigher, env: Env) -> float:
    if item.multiplier == "metrics_weight_multiplier":
        return env.metrics.weight_multiplier
    value: float = getattr(env.options, item.multiplier)
    return value


def weigh_all(
    hosts: Sequence[HostState], request: RequestSpec, weighers: Sequence[Weigher], env: Env
) -> list[float]:
    """The weight of every host, in their order."""
    totals = [0.0] * len(hosts)
    # Hosts in the same aggregates share one tuple: metadata is looked through once for all.
    groups = {id(host.aggregates): host.aggregates for host in hosts}
    said = {key for group in groups.values() for aggregate in group for key in aggregate.metadata}
    for item in weighers:
        if item.concerns is not None and not item.concerns(request, env):
            continue
        default = item.sign * _default(item, env)
        own = item.multiplier in said
        if not own and not default:
            continue
        multipliers = _multipliers(hosts, item, env) if own else None
        if multipliers is not None and not any(multipliers):
            continue
        raw = item.numbers(hosts, request, env)
        low = min(raw) if item.least is None else item.least
        span = (max(raw) if item.most is None else item.most) - low
        if not span:
            continue
        if multipliers is None:
            parts = zip(totals, raw, strict=True)
            totals = [total + (value - low) / span * default for total, value in parts]
        else:
            triples = zip(totals, raw, multipliers, strict=True)
            totals = [total + (value - low) / span * by for total, value, by in triples]
    return totals


def _multipliers(hosts: Sequence[HostState], item: Weigher, env: Env) -> list[float]:
    known: dict[int, float] = {}
    for host in hosts:
        group = id(host.aggregates)
        if group not in known:
            known[group] = multiplier_of(host, item, env)
    return [known[id(host.aggregates)] for host in hosts]
