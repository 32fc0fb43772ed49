"""What a guest is made of, decided from its spec alone; shared by the QEMU family of drivers."""

from kilonova.virt.devices.disks import DiskDevice
from kilonova.virt.devices.machine import Machine, Rng, Smbios
from kilonova.virt.devices.nics import NicDevice
from kilonova.virt.devices.plan import Devices, plan

__all__ = ["Devices", "DiskDevice", "Machine", "NicDevice", "Rng", "Smbios", "plan"]
