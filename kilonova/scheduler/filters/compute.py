"""ComputeFilter: the service must be enabled and alive."""

from __future__ import annotations

from kilonova.domain.request import RequestSpec
from kilonova.scheduler.filters.base import Env, host_filter
from kilonova.scheduler.state import HostState


@host_filter("ComputeFilter")
def check(host: HostState, _request: RequestSpec, _env: Env) -> str | None:
    """A disabled or silent service takes no server."""
    if host.disabled:
        because = f" ({host.disabled_reason})" if host.disabled_reason else ""
        return f"its service is disabled{because}"
    return None if host.up else "its service is down"
