"""What a QEMU guest has done: counters of its monitor, its threads and its taps."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from kilonova.domain.diagnostics import STATES, CpuUse, Diagnostics, DiskUse, NicUse
from kilonova.domain.guest import GuestSpec, PowerState
from kilonova.virt.devices.nics import tap_name

TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def diagnostics(
    guest: GuestSpec,
    *,
    power: PowerState,
    kind: str,
    pid: int | None,
    cpus: list[dict[str, Any]],
    blocks: list[dict[str, Any]],
) -> Diagnostics:
    """Put together what ``query-cpus-fast`` and ``query-blockstats`` told, /proc and /sys."""
    uptime = _uptime(pid) if pid is not None else None
    return Diagnostics(
        state=STATES.get(power, "pending"),
        driver="libvirt",
        hypervisor=kind,
        hypervisor_os=platform.system().lower(),
        uptime=uptime,
        config_drive=guest.config_drive,
        maximum_memory=guest.flavor.memory_mb,
        used_memory=_resident(pid) if pid is not None else 0,
        cpus=tuple(_cpu(pid, row, uptime) for row in cpus),
        nics=tuple(_nic(nic.mac, tap_name(nic)) for nic in guest.nics),
        disks=tuple(_disk(row) for row in blocks if row.get("node-name", "").startswith("node-")),
    )


def _cpu(pid: int | None, row: dict[str, Any], uptime: int | None) -> CpuUse:
    fields = _stat(Path(f"/proc/{pid}/task/{row['thread-id']}/stat"))
    if fields is None:
        return CpuUse(int(row["cpu-index"]))
    used = (int(fields[11]) + int(fields[12])) * TICK_NS
    share = min(100, used // (uptime * 10_000_000)) if uptime else None
    return CpuUse(int(row["cpu-index"]), used, share)


def _disk(row: dict[str, Any]) -> DiskUse:
    stats = row["stats"]
    failed = sum(
        int(stats.get(name, 0)) for name in ("failed_rd_operations", "failed_wr_operations")
    )
    return DiskUse(
        name=str(row["node-name"]).removeprefix("node-"),
        read_bytes=int(stats["rd_bytes"]),
        read_requests=int(stats["rd_operations"]),
        write_bytes=int(stats["wr_bytes"]),
        write_requests=int(stats["wr_operations"]),
        errors_count=failed,
    )


def _nic(mac: str, tap: str) -> NicUse:
    """What the host's end received the guest has sent, and the other way round."""
    counters = Path("/sys/class/net") / tap / "statistics"
    if not counters.is_dir():
        return NicUse(mac)

    def read(name: str) -> int:
        return int((counters / name).read_text())

    return NicUse(
        mac_address=mac,
        name=tap,
        rx_octets=read("tx_bytes"),
        rx_errors=read("tx_errors"),
        rx_drop=read("tx_dropped"),
        rx_packets=read("tx_packets"),
        tx_octets=read("rx_bytes"),
        tx_errors=read("rx_errors"),
        tx_drop=read("rx_dropped"),
        tx_packets=read("rx_packets"),
    )


def _stat(file: Path) -> list[str] | None:
    """Fields of proc(5) stat from the third on."""
    try:
        return file.read_text().rpartition(")")[2].split()
    except OSError:
        return None


def _uptime(pid: int) -> int | None:
    fields = _stat(Path(f"/proc/{pid}/stat"))
    if fields is None:
        return None
    since_boot = float(Path("/proc/uptime").read_text().split()[0])
    return max(0, int(since_boot - int(fields[19]) * TICK_NS / 1e9))


def _resident(pid: int) -> int:
    """MiB of memory the process holds."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") >> 20
