"""ComputeCapabilitiesFilter: the flavor's ``capabilities:`` extra specs against the host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kilonova.domain.request import RequestSpec
from kilonova.scheduler.filters.base import Env, host_filter
from kilonova.scheduler.operators import match
from kilonova.scheduler.state import HostState

# Keys without a scope that have a meaning of their own.
_OTHERS = frozenset({"group_policy", "hide_hypervisor_id"})


@host_filter(
    "ComputeCapabilitiesFilter", concerns=lambda request, _env: bool(request.flavor.extra_specs)
)
def check(host: HostState, request: RequestSpec, _env: Env) -> str | None:
    """Keys are attributes of the host, or paths like ``cpu_info:features`` into them."""
    for key, wanted in request.flavor.extra_specs.items():
        path = key.split(":")
        scoped = path[0] == "capabilities" and len(path) > 1
        if scoped:
            path = path[1:]
        elif len(path) > 1 or key in _OTHERS:
            continue
        found = _value(host, path)
        if found is None and not scoped:
            # Without the scope a key that no host knows may be meant for somebody else.
            continue
        if found is None or not match(found, wanted):
            return f"{':'.join(path)} is {found}, the flavor asks for {wanted}"
    return None


def _value(host: HostState, path: list[str]) -> Any:
    value: Any = getattr(host, _NAMES.get(path[0], path[0]), None)
    if value is None:
        value = host.stats.get(path[0])
    for part in path[1:]:
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


_NAMES = {
    "uuid": "provider",
    "hypervisor_hostname": "node",
    "local_gb": "disk_gb",
    "local_gb_used": "disk_gb_used",
    "total_usable_ram_mb": "memory_mb",
    "total_usable_disk_gb": "disk_gb",
    "vcpus_total": "vcpus",
    "num_io_ops": "io_ops",
}
