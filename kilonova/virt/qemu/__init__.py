"""Guests as plain QEMU processes, steered over QMP; as root or as an ordinary user."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kilonova.virt.qemu.driver import QemuDriver

__all__ = ["QemuDriver"]


def __getattr__(name: str) -> Any:
    # Tools that only look for processes do without the driver and all it needs.
    if name != "QemuDriver":
        raise AttributeError(name)
    from kilonova.virt.qemu.driver import QemuDriver  # noqa: PLC0415

    return QemuDriver
