"""IoOpsWeigher, NumInstancesWeigher, BuildFailureWeigher, HypervisorVersionWeigher."""

from __future__ import annotations

from collections.abc import Sequence

from kilonova.domain.request import RequestSpec
from kilonova.scheduler.state import HostState
from kilonova.scheduler.weighers.base import column_weigher


@column_weigher("IoOpsWeigher", "io_ops_weight_multiplier", least=0.0)
def io_ops(hosts: Sequence[HostState], _request: RequestSpec) -> list[int]:
    """Busy servers (the default multiplier is negative: calm hosts first)."""
    return [host.io_ops for host in hosts]


@column_weigher("NumInstancesWeigher", "num_instances_weight_multiplier", least=0.0)
def servers(hosts: Sequence[HostState], _request: RequestSpec) -> list[int]:
    """Servers there."""
    return [host.num_instances for host in hosts]


@column_weigher("BuildFailureWeigher", "build_failure_weight_multiplier", sign=-1.0)
def failures(hosts: Sequence[HostState], _request: RequestSpec) -> list[int]:
    """Builds that failed since the last that worked; counted against the host."""
    return [host.failed_builds for host in hosts]


@column_weigher("HypervisorVersionWeigher", "hypervisor_version_weight_multiplier")
def version(hosts: Sequence[HostState], _request: RequestSpec) -> list[int]:
    """Newer hypervisors first."""
    return [host.hypervisor_version for host in hosts]
