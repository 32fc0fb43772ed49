"""Whether guests run under KVM or are emulated, and the CPU model that follows."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from kilonova.base.errors import Unavailable
from kilonova.config.settings import Settings

KVM = Path("/dev/kvm")
CPUINFO = Path("/proc/cpuinfo")


class Accel(msgspec.Struct, frozen=True):
    """``kind``: kvm or tcg. ``tb_cache`` MiB of translated code, None: by the guest's memory."""

    kind: str
    cpu: str
    tb_cache: int | None = None

    @property
    def virt_type(self) -> str:
        """The name users know: kvm or qemu."""
        return "kvm" if self.kind == "kvm" else "qemu"

    def argument(self, memory_mb: int) -> str:
        """The value of ``-accel``. QEMU's own default cache is 1 GiB, far too much for many."""
        if self.kind == "kvm":
            return "kvm"
        return f"tcg,tb-size={self.cache_mb(memory_mb)}"

    def cache_mb(self, memory_mb: int) -> int:
        """MiB of translated code an emulated guest of that size may keep."""
        by_size = 32 if memory_mb <= 256 else 128 if memory_mb <= 1024 else 256
        return self.tb_cache or by_size


def choose(settings: Settings) -> Accel:
    """What ``[libvirt] virt_type`` says, or for ``auto`` what truly works here.

    Raises Unavailable when kvm is demanded and /dev/kvm cannot be opened.
    """
    wish = settings.libvirt.virt_type
    if wish == "kvm" and not can_open():
        raise Unavailable(
            "[libvirt] virt_type is kvm but /dev/kvm cannot be opened; load the kvm module and "
            "give this user access, or set virt_type = qemu."
        )
    if wish == "kvm" or (wish == "auto" and can_open() and has_extensions()):
        return Accel("kvm", settings.qemu.cpu_model or "host")
    return Accel("tcg", settings.qemu.cpu_model or "qemu64", settings.libvirt.tb_cache_size)


def can_open() -> bool:
    """Whether this process may use /dev/kvm."""
    try:
        os.close(os.open(KVM, os.O_RDWR | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def has_extensions() -> bool:
    """Whether the CPU shows svm or vmx.

    A /dev/kvm without them (para-virtual KVM) opens, but runs no ordinary kernel.
    """
    return bool({"svm", "vmx"} & cpu_flags())


def cpu_flags() -> set[str]:
    """The flags of the first CPU."""
    for line in CPUINFO.read_text().splitlines():
        if line.startswith("flags"):
            return set(line.partition(":")[2].split())
    return set()
