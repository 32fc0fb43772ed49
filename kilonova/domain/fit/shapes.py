"""What a host has and what a guest wants of it: cells, CPUs, pages, devices."""

from __future__ import annotations

import msgspec

SMALL, LARGE, ANY = -1, -2, -3
"""Page sizes left to the host: its smallest, any larger one, any."""


class Pages(msgspec.Struct, frozen=True):
    """Memory pages of one size in a cell. ``reserved`` are never given to guests."""

    size_kb: int
    total: int
    used: int = 0
    reserved: int = 0

    @property
    def free(self) -> int:
        """How many can be given."""
        return self.total - self.used - self.reserved


class HostCell(msgspec.Struct, frozen=True):
    """A NUMA node of a host. memory MiB.

    ``cpus`` float guests' shared vCPUs, ``pcpus`` are given whole; ``siblings`` are the threads of
    each core. ``shared_used``, ``pinned``, ``memory_used_mb`` and the pages' ``used`` are what
    guests have of it.
    """

    id: int
    memory_mb: int
    cpus: frozenset[int] = frozenset()
    pcpus: frozenset[int] = frozenset()
    siblings: tuple[frozenset[int], ...] = ()
    pages: tuple[Pages, ...] = ()
    socket: int | None = None
    shared_used: int = 0
    pinned: frozenset[int] = frozenset()
    memory_used_mb: int = 0

    @property
    def free_pcpus(self) -> frozenset[int]:
        """CPUs that can be given whole."""
        return self.pcpus - self.pinned


class GuestCell(msgspec.Struct, frozen=True):
    """A NUMA node of a guest. memory MiB, page KiB or SMALL, LARGE, ANY, None (no matter).

    ``cpus`` are its shared vCPUs, ``pcpus`` those with a CPU of their own. When it is placed,
    ``host_cell`` says where, ``pins`` are (vCPU, host CPU), ``reserved`` the CPUs of the emulator's
    threads, ``page_kb`` the real size.
    """

    id: int
    memory_mb: int
    cpus: frozenset[int] = frozenset()
    pcpus: frozenset[int] = frozenset()
    page_kb: int | None = None
    host_cell: int | None = None
    pins: tuple[tuple[int, int], ...] = ()
    reserved: frozenset[int] = frozenset()

    @property
    def host_cpus(self) -> frozenset[int]:
        """The host's CPUs that are its own, those of the emulator's threads included."""
        return self.reserved | {cpu for _, cpu in self.pins}


class GuestTopology(msgspec.Struct, frozen=True):
    """The cells of a guest and the rules for its CPUs.

    ``policy``: shared, dedicated, mixed; ``threads``: prefer, isolate, require or None;
    ``emulator``: share, isolate or None; ``realtime``: vCPUs scheduled in real time.
    """

    cells: tuple[GuestCell, ...]
    policy: str = "shared"
    threads: str | None = None
    emulator: str | None = None
    realtime: frozenset[int] = frozenset()


class Device(msgspec.Struct, frozen=True):
    """A PCI device of a host that guests may have.

    ``type``: type-PCI, type-PF, type-VF, vdpa. ``parent``: the address of a VF's PF. ``tags``: what
    the operator's specification says of it. ``provider``: its own resource provider, if any.
    """

    address: str
    vendor_id: str
    product_id: str
    type: str = "type-PCI"
    numa_node: int | None = None
    parent: str | None = None
    tags: dict[str, str] = {}
    provider: str = ""


class DeviceSpec(msgspec.Struct, frozen=True):
    """One kind of device that would do; empty fields do not matter.

    ``traits`` and ``resource_class`` are what it is claimed by in Placement.
    """

    vendor_id: str = ""
    product_id: str = ""
    device_type: str = ""
    tags: dict[str, str] = {}
    resource_class: str = ""
    traits: tuple[str, ...] = ()


class DeviceRequest(msgspec.Struct, frozen=True):
    """So many devices of one of the kinds. ``policy``: required, legacy, preferred or socket."""

    id: str
    count: int
    specs: tuple[DeviceSpec, ...]
    policy: str = "legacy"
    alias: str = ""


class HostShape(msgspec.Struct, frozen=True):
    """A host's cells and devices; ``taken`` are the addresses of devices that guests have."""

    cells: tuple[HostCell, ...] = ()
    devices: tuple[Device, ...] = ()
    taken: frozenset[str] = frozenset()


class Held(msgspec.Struct, frozen=True):
    """What one guest has of its host. ``devices``: request → addresses."""

    topology: GuestTopology | None = None
    devices: dict[str, tuple[str, ...]] = {}

    def __bool__(self) -> bool:
        return self.topology is not None or bool(self.devices)


class NoFit(msgspec.Struct, frozen=True):
    """Why a guest does not fit."""

    reason: str
