"""NumInstancesFilter, IoOpsFilter and their aggregate forms: hosts that are full or busy."""

from __future__ import annotations

from kilonova.domain.request import RequestSpec
from kilonova.scheduler.filters.base import Env, host_filter
from kilonova.scheduler.state import HostState


def least(host: HostState, key: str, default: int) -> int:
    """The smallest number the host's aggregates give for a key, else ``default``."""
    values = host.aggregate_values(key)
    numbers = [int(value) for value in values if value.strip().isdigit()]
    return min(numbers, default=default)


def _servers(host: HostState, most: int) -> str | None:
    return f"it has {host.num_instances} servers of {most}" if host.num_instances >= most else None


def _busy(host: HostState, most: int) -> str | None:
    return f"{host.io_ops} of its servers are busy, {most} may be" if host.io_ops >= most else None


@host_filter("NumInstancesFilter")
def servers(host: HostState, _request: RequestSpec, env: Env) -> str | None:
    """Fewer than ``max_instances_per_host`` servers."""
    return _servers(host, env.options.max_instances_per_host)


@host_filter("AggregateNumInstancesFilter")
def servers_by_aggregate(host: HostState, _request: RequestSpec, env: Env) -> str | None:
    """The same with the smallest ``max_instances_per_host`` of the host's aggregates."""
    key = "max_instances_per_host"
    return _servers(host, least(host, key, env.options.max_instances_per_host))


@host_filter("IoOpsFilter")
def busy(host: HostState, _request: RequestSpec, env: Env) -> str | None:
    """Fewer than ``max_io_ops_per_host`` servers being built, resized, snapshotted …"""
    return _busy(host, env.options.max_io_ops_per_host)


@host_filter("AggregateIoOpsFilter")
def busy_by_aggregate(host: HostState, _request: RequestSpec, env: Env) -> str | None:
    """The same with the smallest ``max_io_ops_per_host`` of the host's aggregates."""
    return _busy(host, least(host, "max_io_ops_per_host", env.options.max_io_ops_per_host))
