"""What a weigher is, the table of all of them, and how their numbers become one."""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points

import msgspec

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
    for point in entry_points(group=GROUP):
        if point.name not in WEIGHERS:
            WEIGHERS.add(point.name, point.load())
    plain = [name.rpartition(".")[2] for name in names]
    if _ALL in plain:
        return [item for _, item in WEIGHERS.items()]
    return [WEIGHERS.get(name) for name in plain]


def multiplier_of(host: HostState, item: Weigher, env: Env) -> float:
    """The multiplier: the smallest the host's aggregates set under the option's name, else the
    option. ``weight_multiplier`` is the one of ``[metrics]``."""
    if item.multiplier == "metrics_weight_multiplier":
        default = env.metrics.weight_multiplier
    else:
        default = getattr(env.options, item.multiplier)
    values = []
    for text in host.aggregate_values(item.multiplier):
        with contextlib.suppress(ValueError):
            values.append(float(text))
    return item.sign * min(values, default=default)


def weigh_all(
    hosts: Sequence[HostState], request: RequestSpec, weighers: Sequence[Weigher], env: Env
) -> list[float]:
    """The weight of every host, in their order."""
    totals = [0.0] * len(hosts)
    for item in weighers:
        multipliers = [multiplier_of(host, item, env) for host in hosts]
        if not any(multipliers):
            continue
        raw = [item.weigh(host, request, env) for host in hosts]
        for index, part in enumerate(_normal(raw, item.least, item.most)):
            totals[index] += part * multipliers[index]
    return totals


def _normal(raw: Sequence[float], least: float | None, most: float | None) -> list[float]:
    low = min(raw) if least is None else least
    high = max(raw) if most is None else most
    span = high - low
    if not span:
        return [0.0] * len(raw)
    return [(value - low) / span for value in raw]
