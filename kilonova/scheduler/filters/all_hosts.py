"""AllHostsFilter: every host will do."""

from __future__ import annotations

from kilonova.domain.request import RequestSpec
from kilonova.scheduler.filters.base import Env, host_filter
from kilonova.scheduler.state import HostState


@host_filter("AllHostsFilter")
def check(_host: HostState, _request: RequestSpec, _env: Env) -> str | None:
    """Nothing is looked at."""
    return None
