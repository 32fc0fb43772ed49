"""The whole guest from its spec."""

from __future__ import annotations

import msgspec

from kilonova.domain.guest import GuestSpec
from kilonova.virt.devices.disks import DiskDevice, disks
from kilonova.virt.devices.machine import Machine, machine
from kilonova.virt.devices.nics import NicDevice, nics


class Devices(msgspec.Struct, frozen=True):
    """Everything a guest is made of."""

    machine: Machine
    disks: tuple[DiskDevice, ...]
    nics: tuple[NicDevice, ...]


def plan(guest: GuestSpec, *, default_machine: str = "pc") -> Devices:
    """Decide the guest's devices; BadRequest says what of its image cannot be."""
    made = machine(guest, default_type=default_machine)
    return Devices(made, disks(guest, made), nics(guest))
