"""MetricsFilter: every metric the weigher wants must be reported."""

from __future__ import annotations

from kilonova.domain.request import RequestSpec
from kilonova.scheduler.filters.base import Env, host_filter
from kilonova.scheduler.state import HostState


@host_filter("MetricsFilter")
def check(host: HostState, _request: RequestSpec, env: Env) -> str | None:
    """A host without one of ``[metrics] weight_setting`` is left out."""
    wanted = {part.partition("=")[0].strip() for part in env.metrics.weight_setting}
    missing = sorted(wanted - host.metrics.keys())
    return f"it does not report {', '.join(missing)}" if missing else None
