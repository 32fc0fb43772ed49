"""What the filters and weighers see of a host, and where it comes from."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Protocol

import msgspec

from kilonova.domain.fit.host import with_guests
from kilonova.domain.fit.numa import Limits
from kilonova.domain.fit.shapes import Held, HostShape
from kilonova.domain.guest import FlavorSpec
from kilonova.interfaces.placement import Summary, Usage


class Aggregate(msgspec.Struct, frozen=True):
    """A host aggregate. ``uuid`` is what Placement knows it by."""

    id: int
    uuid: str
    name: str
    metadata: dict[str, str] = {}

    @property
    def availability_zone(self) -> str | None:
        """The zone it makes its hosts part of."""
        return self.metadata.get("availability_zone")


class HostState(msgspec.Struct, frozen=True, gc=False):
    """A compute node with its service, aggregates and servers. memory MiB, disk GiB.

    ``shape``: its cells and devices, of which its guests have ``held``, within ``limits``.
    ``supported``: (architecture, hypervisor type, vm mode). ``up``: the service was heard of
    lately. ``io_ops``: servers being built, resized, rescued, snapshotted … there.
    """

    host: str
    node: str
    provider: str
    cell_id: str = ""
    up: bool = True
    disabled: bool = False
    disabled_reason: str = ""
    service_version: int = 0
    hypervisor_type: str = ""
    hypervisor_version: int = 0
    host_ip: str = ""
    vcpus: int = 0
    memory_mb: int = 0
    disk_gb: int = 0
    vcpus_used: int = 0
    memory_mb_used: int = 0
    disk_gb_used: int = 0
    cpu_allocation_ratio: float = 1.0
    io_ops: int = 0
    failed_builds: int = 0
    servers: frozenset[str] = frozenset()
    image_properties: tuple[dict[str, str], ...] = ()
    aggregates: tuple[Aggregate, ...] = ()
    supported: tuple[tuple[str, str, str], ...] = ()
    cpu_info: dict[str, Any] = {}
    stats: dict[str, str] = {}
    metrics: dict[str, float] = {}
    pci_free: int = 0
    shape: HostShape | None = None
    held: tuple[Held, ...] = ()
    limits: Limits = Limits()
    pending: int = 0

    @property
    def num_instances(self) -> int:
        """Servers there, with those just sent there."""
        return len(self.servers) + self.pending

    @property
    def free_shape(self) -> HostShape:
        """Its cells and devices as its guests leave them."""
        return with_guests(self.shape or HostShape(), self.held)

    @property
    def free_ram_mb(self) -> int:
        """Memory not in use, without overcommitting."""
        return self.memory_mb - self.memory_mb_used

    @property
    def free_disk_mb(self) -> int:
        """Disk not in use, without overcommitting."""
        return (self.disk_gb - self.disk_gb_used) * 1024

    def aggregate_values(self, key: str) -> set[str]:
        """The values of a metadata key in all aggregates of the host."""
        return {a.metadata[key] for a in self.aggregates if key in a.metadata}


class HostStates(Protocol):
    """Where host states come from: the store, gathered over the cells."""

    async def hosts(self, providers: Collection[str]) -> list[HostState]:
        """The hosts with these provider uuids in enabled cells; unknown ones are left out."""

    async def providers_of(self, host: str | None, node: str | None) -> list[str]:
        """The provider uuids of the compute nodes of a host: all nodes, or the one named."""

    async def aggregates(self) -> list[Aggregate]:
        """All host aggregates."""


_NONE = Usage(0, 0)
_COUNTED = frozenset({"VCPU", "PCPU", "MEMORY_MB", "DISK_GB"})


def with_usage(state: HostState, found: Mapping[str, Usage]) -> HostState:
    """The state with what Placement says is in use now in the host's tree (`in_trees`)."""
    shared, own = found.get("VCPU", _NONE), found.get("PCPU", _NONE)
    memory, disk = found.get("MEMORY_MB", _NONE), found.get("DISK_GB")
    cpus = shared.capacity + own.capacity
    return msgspec.structs.replace(
        state,
        cpu_allocation_ratio=cpus / state.vcpus if state.vcpus and cpus else 1.0,
        vcpus_used=shared.used + own.used,
        memory_mb_used=memory.used,
        disk_gb_used=state.disk_gb_used if disk is None else disk.used,
    )


def in_trees(summaries: Iterable[Summary]) -> dict[str, Mapping[str, Usage]]:
    """Root provider → class → usage of all providers of its tree, of what is counted for hosts."""
    found: dict[str, Mapping[str, Usage]] = {}
    for summary in summaries:
        root = summary.root
        if root in found:
            found[root] = _together(found[root], summary.resources)
        else:
            found[root] = summary.resources
    return found


def _together(some: Mapping[str, Usage], more: Mapping[str, Usage]) -> dict[str, Usage]:
    total = dict(some)
    for name in _COUNTED & more.keys():
        one, other = total.get(name, _NONE), more[name]
        total[name] = Usage(one.capacity + other.capacity, one.used + other.used)
    return total


def with_server(state: HostState, flavor: FlavorSpec, *, root: bool = True) -> HostState:
    """The state as it will be when one more server of that flavor is there."""
    return msgspec.structs.replace(
        state,
        vcpus_used=state.vcpus_used + flavor.vcpus,
        memory_mb_used=state.memory_mb_used + flavor.memory_mb,
        disk_gb_used=state.disk_gb_used + flavor.ephemeral_gb + (flavor.root_gb if root else 0),
        io_ops=state.io_ops + 1,
        pending=state.pending + 1,
    )
