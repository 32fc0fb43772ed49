"""What a hypervisor tells of a running guest: counters of its CPUs, memory, cards and disks."""

from __future__ import annotations

import msgspec

from kilonova.domain.guest import PowerState

STATES = {
    PowerState.RUNNING: "running",
    PowerState.PAUSED: "paused",
    PowerState.SHUTDOWN: "shutdown",
    PowerState.CRASHED: "crashed",
    PowerState.SUSPENDED: "suspended",
}
"""How the API's diagnostics name power states; any other is ``pending``."""


class CpuUse(msgspec.Struct, frozen=True):
    """One virtual CPU. ``time``: ns of CPU time; ``utilisation``: percent."""

    id: int
    time: int | None = None
    utilisation: int | None = None


class NicUse(msgspec.Struct, frozen=True):
    """One card, as the guest sees the directions."""

    mac_address: str
    name: str = ""
    rx_octets: int | None = None
    rx_errors: int | None = None
    rx_drop: int | None = None
    rx_packets: int | None = None
    rx_rate: int | None = None
    tx_octets: int | None = None
    tx_errors: int | None = None
    tx_drop: int | None = None
    tx_packets: int | None = None
    tx_rate: int | None = None


class DiskUse(msgspec.Struct, frozen=True):
    """One disk; ``name`` is the guest's (``vda``)."""

    name: str = ""
    read_bytes: int | None = None
    read_requests: int | None = None
    write_bytes: int | None = None
    write_requests: int | None = None
    errors_count: int | None = None


class Diagnostics(msgspec.Struct, frozen=True):
    """``state``: running, paused, shutdown, crashed or suspended. uptime: s; memory: MiB."""

    state: str
    driver: str
    hypervisor: str
    hypervisor_os: str | None = None
    uptime: int | None = None
    config_drive: bool = False
    maximum_memory: int = 0
    used_memory: int = 0
    cpus: tuple[CpuUse, ...] = ()
    nics: tuple[NicUse, ...] = ()
    disks: tuple[DiskUse, ...] = ()
