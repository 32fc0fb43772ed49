"""DifferentHostFilter, SameHostFilter, SimpleCIDRAffinityFilter: near or far by scheduler hint."""

from __future__ import annotations

import ipaddress

from kilonova.domain.request import RequestSpec
from kilonova.scheduler.filters.base import Env, host_filter
from kilonova.scheduler.state import HostState


@host_filter("DifferentHostFilter")
def different(host: HostState, request: RequestSpec, _env: Env) -> str | None:
    """Not where one of the servers of the hint ``different_host`` is."""
    there = host.servers.intersection(request.hint("different_host"))
    return f"server {min(there)} is there" if there else None


@host_filter("SameHostFilter")
def same(host: HostState, request: RequestSpec, _env: Env) -> str | None:
    """Where one of the servers of the hint ``same_host`` is."""
    wanted = request.hint("same_host")
    if not wanted or host.servers.intersection(wanted):
        return None
    return f"none of the servers {', '.join(wanted)} is there"


@host_filter("SimpleCIDRAffinityFilter")
def near(host: HostState, request: RequestSpec, _env: Env) -> str | None:
    """In the network of the hints ``build_near_host_ip`` and ``cidr`` (``/24`` if not said)."""
    address = "".join(request.hint("build_near_host_ip")[:1])
    if not address:
        return None
    size = "".join(request.hint("cidr")[:1]).lstrip("/") or "24"
    try:
        network = ipaddress.ip_network(f"{address}/{size}", strict=False)
        inside = ipaddress.ip_address(host.host_ip) in network
    except ValueError:
        return f"{address}/{size} is no network, or the host's address {host.host_ip} is not known"
    return None if inside else f"its address {host.host_ip} is not in {network}"
