"""Disks as the guest sees them: bus, name, kind, and whether it boots from them."""

from __future__ import annotations

import string
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from kilonova.base.errors import BadRequest
from kilonova.domain.guest import Disk, GuestSpec
from kilonova.virt.devices import properties as props
from kilonova.virt.devices.machine import Machine

PREFIX = {"virtio": "vd", "scsi": "sd", "sata": "sd", "usb": "sd", "ide": "hd"}
MOST = {"ide": 4, "sata": 6}
CONFIG_DRIVE = Disk(id="config", role="config", source="blank", device="", format="raw", bus="")


class DiskDevice(msgspec.Struct, frozen=True):
    """A disk with everything decided. ``cdrom``; ``boot_order`` counts from 1, None is never."""

    disk: Disk
    bus: str
    device: str
    cdrom: bool = False
    read_only: bool = False
    boot_order: int | None = None

    @property
    def id(self) -> str:
        """A name for the hypervisor, unique in the guest."""
        return f"disk-{self.device}"


def disks(guest: GuestSpec, machine: Machine) -> tuple[DiskDevice, ...]:
    """The guest's disks, those with a boot index first in boot order; a config drive if wanted.

    A disk without a bus gets the image's ``hw_disk_bus``, one without a name the next free one.
    """
    properties = props.of(guest)
    common = props.choice(properties, "hw_disk_bus", PREFIX, "virtio")
    wanted = list(guest.disks)
    if guest.config_drive and not any(disk.role == "config" for disk in wanted):
        wanted.append(CONFIG_DRIVE)
    order = _boot_order(wanted)
    taken = {_bare(disk.device) for disk in wanted if disk.device}
    if len(taken) < sum(1 for disk in wanted if disk.device):
        raise BadRequest("Two disks of the server have the same device name.")
    made = []
    for disk in wanted:
        bus, cdrom = _bus(disk, common, properties, machine)
        device = _bare(disk.device) or next(name for name in names(bus) if name not in taken)
        taken.add(device)
        made.append(
            DiskDevice(
                disk,
                bus,
                device,
                cdrom=cdrom,
                read_only=disk.read_only or cdrom or disk.role == "config",
                boot_order=order.get(disk.id),
            )
        )
    _check_room(made)
    return tuple(made)


def names(bus: str) -> Iterator[str]:
    """vda … vdz, vdaa …: the names of a bus in order."""
    for first in ("", *string.ascii_lowercase):
        for last in string.ascii_lowercase:
            yield f"{PREFIX[bus]}{first}{last}"


def _bare(device: str) -> str:
    return device.removeprefix("/dev/")


def _bus(
    disk: Disk, common: str, properties: Mapping[str, str], machine: Machine
) -> tuple[str, bool]:
    """The bus, and whether the disk is a CD-ROM on it."""
    cdrom = disk.device_type == "cdrom"
    bus = disk.bus or common
    if disk.role == "config" and not disk.bus:
        # Cloud kernels lack an AHCI driver, and a virtio disk needs no probing of old buses.
        bus = props.choice(properties, "hw_cdrom_bus", PREFIX, bus)
        cdrom = "hw_cdrom_bus" in properties
    elif cdrom and not disk.bus:
        bus = props.choice(properties, "hw_cdrom_bus", PREFIX, "scsi" if machine.q35 else "ide")
    if bus not in PREFIX:
        raise BadRequest(
            f"The disk bus {bus} is not possible on this hypervisor; it offers "
            f"{', '.join(sorted(PREFIX))}."
        )
    if bus == "ide" and machine.q35:
        raise BadRequest(
            f"The machine type {machine.type} has no IDE bus; use the machine type pc, or the bus "
            "sata, scsi or virtio."
        )
    # There is no virtio CD-ROM: a read-only disk holds the same bytes.
    return bus, cdrom and bus != "virtio"


def _boot_order(wanted: Iterable[Disk]) -> dict[str, int]:
    chosen = [d for d in wanted if d.boot_index is not None and d.boot_index >= 0]
    if not chosen:
        chosen = [d for d in wanted if d.role == "root"][:1]
    chosen.sort(key=lambda disk: disk.boot_index or 0)
    return {disk.id: place for place, disk in enumerate(chosen, start=1)}


def _check_room(made: Iterable[DiskDevice]) -> None:
    for bus, most in MOST.items():
        if sum(1 for disk in made if disk.bus == bus) > most:
            raise BadRequest(f"The {bus} bus takes {most} disks; use scsi or virtio for more.")
