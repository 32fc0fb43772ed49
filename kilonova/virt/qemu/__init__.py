"""Guests as plain QEMU processes, steered over QMP; as root or as an ordinary user."""

from kilonova.virt.qemu.driver import QemuDriver

__all__ = ["QemuDriver"]
