"""IoOpsWeigher, NumInstancesWeigher, BuildFailureWeigher, HypervisorVersionWeigher."""

from __future__ import annotations

from kilonova.domain.request import RequestSpec
from kilonova.scheduler.filters.base import Env
from kilonova.scheduler.state import HostState
from kilonova.scheduler.weighers.base import weigher


@weigher("IoOpsWeigher", "io_ops_weight_multiplier", least=0.0)
def io_ops(host: HostState, _request: RequestSpec, _env: Env) -> float:
    """Busy servers (the default multiplier is negative: calm hosts first)."""
    return float(host.io_ops)


@weigher("NumInstancesWeigher", "num_instances_weight_multiplier", least=0.0)
def servers(host: HostState, _request: RequestSpec, _env: Env) -> float:
    """Servers there."""
    return float(host.num_instances)


@weigher("BuildFailureWeigher", "build_failure_weight_multiplier", sign=-1.0)
def failures(host: HostState, _request: RequestSpec, _env: Env) -> float:
    """Builds that failed since the last that worked; counted against the host."""
    return float(host.failed_builds)


@weigher("HypervisorVersionWeigher", "hypervisor_version_weight_multiplier")
def version(host: HostState, _request: RequestSpec, _env: Env) -> float:
    """Newer hypervisors first."""
    return float(host.hypervisor_version)
