"""RAMWeigher, CPUWeigher, DiskWeigher, PCIWeigher: what is free on the host."""

from __future__ import annotations

from collections.abc import Sequence

from kilonova.domain.request import RequestSpec
from kilonova.scheduler.state import HostState
from kilonova.scheduler.weighers.base import column_weigher

_MOST_DEVICES = 100


@column_weigher("RAMWeigher", "ram_weight_multiplier", least=0.0)
def memory(hosts: Sequence[HostState], _request: RequestSpec) -> list[int]:
    """Free memory."""
    return [host.memory_mb - host.memory_mb_used for host in hosts]


@column_weigher("CPUWeigher", "cpu_weight_multiplier", least=0.0)
def cpus(hosts: Sequence[HostState], _request: RequestSpec) -> list[float]:
    """vCPUs to give, overcommitting included."""
    return [host.vcpus * host.cpu_allocation_ratio - host.vcpus_used for host in hosts]


@column_weigher("DiskWeigher", "disk_weight_multiplier", least=0.0)
def disk(hosts: Sequence[HostState], _request: RequestSpec) -> list[int]:
    """Free disk."""
    return [(host.disk_gb - host.disk_gb_used) * 1024 for host in hosts]


@column_weigher("PCIWeigher", "pci_weight_multiplier", least=0.0)
def devices(hosts: Sequence[HostState], request: RequestSpec) -> list[float]:
    """The fewer devices beyond those wanted the better: hosts that have many are kept for
    servers that need many, and hosts that have any for servers that need one."""
    wanted = request.pci_devices
    most = _MOST_DEVICES - 1
    return [1.0 - min(max(host.pci_free - wanted, 0), most) / _MOST_DEVICES for host in hosts]
