"""MetricsWeigher: what monitors of the hosts report."""

from __future__ import annotations

from collections.abc import Sequence

from kilonova.domain.request import RequestSpec
from kilonova.scheduler.filters.base import Env
from kilonova.scheduler.state import HostState
from kilonova.scheduler.weighers.base import weigher


def ratios(setting: Sequence[str]) -> dict[str, float]:
    """``name=ratio`` items as a table; ValueError names the one that is no number."""
    found = {}
    for item in setting:
        name, _, ratio = item.partition("=")
        try:
            found[name.strip()] = float(ratio)
        except ValueError:
            raise ValueError(f"{item!r} is not of the form name=ratio") from None
    return found


@weigher(
    "MetricsWeigher",
    "metrics_weight_multiplier",
    concerns=lambda _request, env: bool(env.metrics.weight_setting),
)
def metrics(host: HostState, _request: RequestSpec, env: Env) -> float:
    """The metrics of ``weight_setting`` times their ratios; a host without one of them weighs
    ``weight_of_unavailable`` (MetricsFilter leaves it out altogether)."""
    wanted = ratios(env.metrics.weight_setting)
    if not wanted.keys() <= host.metrics.keys():
        return env.metrics.weight_of_unavailable
    return sum(ratio * host.metrics[name] for name, ratio in wanted.items())
