"""ServerGroupAntiAffinityFilter and ServerGroupAffinityFilter: the hard group policies."""

from __future__ import annotations

from kilonova.domain.group import AFFINITY, ANTI_AFFINITY, broken_rule
from kilonova.domain.request import RequestSpec
from kilonova.scheduler.filters.base import Env, host_filter
from kilonova.scheduler.state import HostState


@host_filter("ServerGroupAntiAffinityFilter")
def apart(host: HostState, request: RequestSpec, _env: Env) -> str | None:
    """At most ``max_server_per_host`` members (one if not said) on a host."""
    return _broken(ANTI_AFFINITY, host, request)


@host_filter("ServerGroupAffinityFilter")
def together(host: HostState, request: RequestSpec, _env: Env) -> str | None:
    """Where the members are; anywhere for the first."""
    return _broken(AFFINITY, host, request)


def _broken(policy: str, host: HostState, request: RequestSpec) -> str | None:
    group = request.group
    if group is None or group.policy != policy:
        return None
    return broken_rule(policy, group.rules, group.counts, host.host)
