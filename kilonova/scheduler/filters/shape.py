"""NUMATopologyFilter, PciPassthroughFilter: the host's cells, CPUs, pages and devices."""

from __future__ import annotations

from kilonova.domain.fit import pci
from kilonova.domain.fit.host import fit
from kilonova.domain.fit.shapes import NoFit
from kilonova.domain.request import RequestSpec
from kilonova.scheduler.filters.base import Env, host_filter
from kilonova.scheduler.state import HostState


@host_filter("NUMATopologyFilter")
def cells(host: HostState, request: RequestSpec, _env: Env) -> str | None:
    """Every NUMA node of the guest has one of the host's that holds its CPUs and pages, near the
    devices it wants."""
    if request.shape.topology is None:
        return None
    found = fit(host.free_shape, request.shape, host.limits)
    return found.reason if isinstance(found, NoFit) else None


@host_filter("PciPassthroughFilter")
def devices(host: HostState, request: RequestSpec, _env: Env) -> str | None:
    """Enough devices that match are free."""
    if not request.shape.devices:
        return None
    shape = host.free_shape
    found = pci.give(shape.devices, shape.taken, request.shape.devices, pci.Place())
    return found.reason if isinstance(found, NoFit) else None
