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
from kilonova.scheduler.filters.base import Env
from kilonova.scheduler.state import HostState

Weigh = Callable[[HostState, RequestSpec, Env], float]


class Weigher(msgspec.Struct, frozen=True):
    """A number for a host, more is better, times the option ``multiplier`` (``sign`` turns it).

    ``least`` and ``most`` bound the range the numbers are brought to 0…1 from; None takes it from
    the hosts at hand.
    """

    name: str
    weigh: Weigh
    multiplier: str
    sign: float = 1.0
    least: float | None = None
    most: float | None = None


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
) -> Callable[[Weigh], Weigh]:
    """Register the decorated function."""

    def register(weigh: Weigh) -> Weigh:
        WEIGHERS.add(name, Weigher(name, weigh, multiplier, sign, least, most))
        return weigh

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
    groups = {id(host.aggregates): host.aggregates for host in hosts}.values()
    said = {key for group in groups for aggregate in group for key in aggregate.metadata}
    for item in weighers:
        default = item.sign * _default(item, env)
        own = item.multiplier in said
        if not own and not default:
            continue
        multipliers = [multiplier_of(host, item, env) for host in hosts] if own else None
        if multipliers is not None and not any(multipliers):
            continue
        weigh = item.weigh
        parts = _normal([weigh(host, request, env) for host in hosts], item.least, item.most)
        if parts is None:
            continue
        if multipliers is None:
            totals = [total + part * default for total, part in zip(totals, parts, strict=True)]
        else:
            triples = zip(totals, parts, multipliers, strict=True)
            totals = [total + part * multiplier for total, part, multiplier in triples]
    return totals


def _normal(raw: Sequence[float], least: float | None, most: float | None) -> list[float] | None:
    """The numbers as parts of their range; None when all are the same."""
    low = min(raw) if least is None else least
    high = max(raw) if most is None else most
    span = high - low
    return [(value - low) / span for value in raw] if span else None
