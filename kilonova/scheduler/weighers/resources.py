"""RAMWeigher, CPUWeigher, DiskWeigher, PCIWeigher: what is free on the host."""

from __future__ import annotations

from kilonova.domain.request import RequestSpec
from kilonova.scheduler.filters.base import Env
from kilonova.scheduler.state import HostState
from kilonova.scheduler.weighers.base import weigher

_MOST_DEVICES = 100


@weigher("RAMWeigher", "ram_weight_multiplier", least=0.0)
def memory(host: HostState, _request: RequestSpec, _env: Env) -> float:
    """Free memory."""
    return float(host.free_ram_mb)


@weigher("CPUWeigher", "cpu_weight_multiplier", least=0.0)
def cpus(host: HostState, _request: RequestSpec, _env: Env) -> float:
    """vCPUs to give, overcommitting included."""
    return host.vcpus * host.cpu_allocation_ratio - host.vcpus_used


@weigher("DiskWeigher", "disk_weight_multiplier", least=0.0)
def disk(host: HostState, _request: RequestSpec, _env: Env) -> float:
    """Free disk."""
    return float(host.free_disk_mb)


@weigher("PCIWeigher", "pci_weight_multiplier", least=0.0)
def devices(host: HostState, request: RequestSpec, _env: Env) -> float:
    """The fewer devices beyond those wanted the better: hosts that have many are kept for
    servers that need many, and hosts that have any for servers that need one."""
    left = max(0, host.pci_free - request.pci_devices)
    return 1.0 - min(left, _MOST_DEVICES - 1) / _MOST_DEVICES
