"""Guests through libvirt: domains of QEMU, with or without KVM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kilonova.virt.libvirt.driver import LibvirtDriver

__all__ = ["LibvirtDriver"]


def __getattr__(name: str) -> Any:
    # The binding is compiled, and only hosts that use this driver have it.
    if name != "LibvirtDriver":
        raise AttributeError(name)
    from kilonova.virt.libvirt.driver import LibvirtDriver  # noqa: PLC0415

    return LibvirtDriver
