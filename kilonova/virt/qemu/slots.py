"""PCI Express slots of q35 guests: root ports made at the start, one device in each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kilonova.base.errors import Unavailable
from kilonova.config.hypervisor import Libvirt
from kilonova.virt.devices import Devices
from kilonova.virt.qemu.running import Running

PERIPHERALS = "/machine/peripheral"
SPARE = 8
MOST = 28
EXPRESS = ("virtio", "e1000e", "vmxnet3")
"""Network cards that are PCI Express devices in such a slot."""

_FIRST = 0x10
_FUNCTIONS = 8
_NAME = "spare"


def taken(devices: Devices) -> list[str]:
    """Ids of the devices that sit in a slot from the start, in the order of the slots.

    What sits on the root complex itself can never be unplugged.
    """
    if not devices.machine.q35:
        return []
    disks = [disk.id for disk in devices.disks if disk.bus == "virtio"]
    return disks + [nic.id for nic in devices.nics if nic.model in EXPRESS]


def count(devices: Devices, limits: Libvirt, names: Iterable[str] | None = None) -> int:
    """How many slots the guest gets: ``num_pcie_ports``, or eight that are free (28 at most).

    Those of the start always have one. ``names``: of the devices of a guest whose memory comes
    from elsewhere, which had as many as these say.
    """
    if not devices.machine.q35:
        return 0
    if names is not None:
        return sum(1 for name in names if _is_port(name))
    needed = len(taken(devices))
    return max(needed, limits.num_pcie_ports or min(MOST, needed + SPARE))


def words(number: int) -> list[str]:
    """The options that make that many slots; 8 share a place of the root complex."""
    made = []
    for port in range(number):
        address = f"{_FIRST + port // _FUNCTIONS:#x}.{port % _FUNCTIONS:#x}"
        options = f"chassis={port + 1},bus=pcie.0,multifunction=on,addr={address}"
        made += ["-device", f"pcie-root-port,id={_NAME}{port},{options}"]
    return made


def place(number: int) -> dict[str, str]:
    """Where a device of this slot is.

    Without the address QEMU 7.2 puts a second device beside the first, where no guest looks.
    """
    return {"bus": f"{_NAME}{number}", "addr": "0x0"}


async def plug(qemu: Running, device: Mapping[str, Any]) -> None:
    """Plug a PCI device into a free slot; Unavailable when there is none or QEMU refuses."""
    names = [str(item["name"]) for item in await qemu.execute("qom-list", {"path": PERIPHERALS})]
    ports = sorted(int(name.removeprefix(_NAME)) for name in names if _is_port(name))
    refused: Unavailable | None = None
    for where in [place(port) for port in ports] or [{}]:
        try:
            await qemu.execute("device_add", {**device, **where})
            return
        except Unavailable as error:
            if "in use by" not in str(error.__cause__):
                refused = error
    raise refused or Unavailable("The guest has no free slot for another device.")


def _is_port(name: str) -> bool:
    return name.startswith(_NAME) and name.removeprefix(_NAME).isdecimal()
