"""ServerGroupAntiAffinityFilter and ServerGroupAffinityFilter: the hard group policies."""

from __future__ import annotations

from kilonova.domain.request import RequestSpec
from kilonova.scheduler.filters.base import Env, host_filter
from kilonova.scheduler.state import HostState


@host_filter("ServerGroupAntiAffinityFilter")
def apart(host: HostState, request: RequestSpec, _env: Env) -> str | None:
    """At most ``max_server_per_host`` members (one if not said) on a host."""
    group = request.group
    if group is None or group.policy != "anti-affinity":
        return None
    most = int(group.rules.get("max_server_per_host", 1))
    there = group.counts.get(host.host, 0)
    return f"it has {there} members of group {group.id}, {most} may be" if there >= most else None


@host_filter("ServerGroupAffinityFilter")
def together(host: HostState, request: RequestSpec, _env: Env) -> str | None:
    """Where the members are; anywhere for the first."""
    group = request.group
    if group is None or group.policy != "affinity":
        return None
    hosts = {name for name, count in group.counts.items() if count}
    if not hosts or host.host in hosts:
        return None
    return f"group {group.id} is on {', '.join(sorted(hosts))}"
