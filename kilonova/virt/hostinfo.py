"""What the host has: processors, memory, disk space, and what guests of QEMU can have on it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import os_traits

from kilonova.config.settings import Settings
from kilonova.domain.fit.shapes import HostShape
from kilonova.domain.guest import GuestSpec, HostReport
from kilonova.imagefile import EXPECTED
from kilonova.virt.accel import Accel, cpu_flags
from kilonova.virt.devices import hostshape
from kilonova.virt.devices.disks import PREFIX
from kilonova.virt.devices.machine import VIDEO_MODELS
from kilonova.virt.devices.nics import MODELS

SYSFS = Path("/sys")


def shape(settings: Settings) -> HostShape:
    """The host's cells, CPUs and devices as far as guests may have them; for a thread."""
    return hostshape.read(
        SYSFS,
        usable=frozenset(os.sched_getaffinity(0)),
        shared=settings.compute.cpu_shared_set,
        dedicated=settings.compute.cpu_dedicated_set,
        specs=hostshape.specifications(settings.pci.device_spec),
    )


def report(
    *,
    node: str,
    state_dir: Path,
    version: int,
    accel: Accel,
    guests: Iterable[GuestSpec],
    vnc: bool,
    shape: HostShape,
    connector: dict[str, Any],
) -> HostReport:
    """Capacity and abilities. memory MiB, disk GiB; used by the guests that are on the host."""
    disk = shutil.disk_usage(state_dir)
    flavors = [guest.flavor for guest in guests]
    virt_type = accel.virt_type
    own = sum(len(cell.pcpus) for cell in shape.cells)
    # Without NUMA nodes in sysfs all that is known of the CPUs is their number.
    floating = sum(len(cell.cpus) for cell in shape.cells) or len(os.sched_getaffinity(0)) - own
    return HostReport(
        node=node,
        hypervisor_type="QEMU",
        hypervisor_version=version,
        vcpus=floating,
        memory_mb=memory_mb(),
        disk_gb=disk.total >> 30,
        used_vcpus=sum(f.vcpus for f in flavors),
        used_memory_mb=sum(f.memory_mb for f in flavors),
        used_disk_gb=(disk.total - disk.free) >> 30,
        free_disk_gb=disk.free >> 30,
        cpu_info=cpu_info(),
        supported=(("x86_64", virt_type, "hvm"), ("i686", virt_type, "hvm")),
        traits=traits(accel, vnc=vnc, threaded=hostshape.threaded(shape)),
        uptime=uptime(),
        pcpus=own,
        shape=shape,
        connector=connector,
    )


def memory_mb() -> int:
    """The machine's memory in MiB."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) >> 10
    return 0


def uptime() -> str:
    """Load and time since boot, in the words of the program uptime."""
    seconds = int(float(Path("/proc/uptime").read_text().split()[0]))
    days, rest = divmod(seconds, 86400)
    load = ", ".join(f"{one:.2f}" for one in os.getloadavg())
    return f"up {days} days, {rest // 3600:2d}:{rest % 3600 // 60:02d}, load average: {load}"


def cpu_info() -> dict[str, Any]:
    """Vendor, model, features and topology of the processors."""
    first: dict[str, str] = {}
    sockets = set()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = (part.strip() for part in line.partition(":"))
        first.setdefault(name, value)
        if name == "physical id":
            sockets.add(value)
    count = max(1, len(sockets))
    return {
        "arch": os.uname().machine,
        "model": first.get("model name", ""),
        "vendor": first.get("vendor_id", ""),
        "features": sorted(cpu_flags()),
        "topology": {
            "cells": 1,
            "sockets": count,
            "cores": max(1, (os.cpu_count() or 1) // count),
            "threads": 1,
        },
    }


def traits(accel: Accel, *, vnc: bool, threaded: bool = False) -> tuple[str, ...]:
    """The standard traits of what guests can have here; under KVM the processor's as well."""
    wanted = {"COMPUTE_NODE", "COMPUTE_ARCH_X86_64", "COMPUTE_CONFIG_DRIVE_REGENERATION"}
    wanted.add("COMPUTE_RESCUE_BFV")
    wanted |= {f"COMPUTE_IMAGE_TYPE_{kind.upper()}" for kind in EXPECTED}
    wanted |= {f"COMPUTE_STORAGE_BUS_{bus.upper()}" for bus in PREFIX}
    wanted |= {f"COMPUTE_NET_VIF_MODEL_{model.upper()}" for model in MODELS}
    wanted |= {f"COMPUTE_GRAPHICS_MODEL_{model.upper()}" for model in VIDEO_MODELS}
    if threaded:
        wanted.add("HW_CPU_HYPERTHREADING")
    if vnc:
        wanted.add("COMPUTE_GRAPHICS_VNC")
    if accel.kind == "kvm":
        wanted |= {f"HW_CPU_X86_{flag.upper()}" for flag in cpu_flags()}
    return tuple(sorted(wanted & set(os_traits.get_traits())))
