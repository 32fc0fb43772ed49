"""A guest that comes from another host: made so alike that QEMU takes its memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from kilonova.base.errors import NotFound
from kilonova.domain.guest import GuestSpec
from kilonova.domain.live import LiveShape
from kilonova.virt import disks as files
from kilonova.virt import qcow2
from kilonova.virt.devices import Devices, DiskDevice
from kilonova.virt.disks import DiskFile, Maker
from kilonova.virt.qemu.command import node_name


def devices(planned: Devices, shape: LiveShape) -> Devices:
    """The planned devices on exactly the machine that the guest runs on."""
    if not shape.machine:
        return planned
    machine = msgspec.structs.replace(planned.machine, type=shape.machine)
    return msgspec.structs.replace(planned, machine=machine)


async def disks(
    maker: Maker, directory: Path, guest: GuestSpec, planned: Devices, shape: LiveShape
) -> dict[str, DiskFile]:
    """Device → file: volumes connected, the others empty but for their image."""
    made = {}
    for disk in planned.disks:
        made[disk.device] = await _disk(maker, directory, guest, disk, shape)
    return made


async def _disk(
    maker: Maker, directory: Path, guest: GuestSpec, disk: DiskDevice, shape: LiveShape
) -> DiskFile:
    about = shape.disks.get(disk.device)
    if disk.disk.source == "volume" or about is None:
        return await maker.make(directory, guest, disk)
    target = directory / files.name(disk)
    target.unlink(missing_ok=True)
    if about.base and disk.disk.image is not None:
        try:
            base = await maker.base(disk.disk.image)
        except NotFound:
            # The image is gone from the image service; all of the disk has to come.
            pass
        else:
            qcow2.overlay(target, base.path, base.format, about.size)
            return DiskFile(str(target), "qcow2", base.path, base.format)
    with target.open("wb") as out:
        out.truncate(about.size)
    return DiskFile(str(target), "raw")


def export_node(disk: DiskDevice) -> str:
    """The node that takes a disk's data; below the one that the guest may only read."""
    return f"live-{disk.device}" if disk.read_only else node_name(disk.disk, disk.device)


def fit(argv: list[str], planned: Devices, shape: LiveShape) -> list[str]:
    """The command line with each device at its place in the running guest, waiting for memory."""
    names = {nic.id: shape.cards.get(nic.nic.port_id, nic.id) for nic in planned.nics}
    written = {export_node(disk) for disk in planned.disks if disk.read_only}
    made = []
    for flag, word in zip(["", *argv], argv, strict=False):
        if flag == "-device":
            made.append(_placed(word, names, shape))
        elif flag == "-blockdev":
            made.append(_writable(word, planned, written, shape))
        else:
            made.append(word)
    if shape.cpu:
        made[made.index("-cpu") + 1] = shape.cpu
    return [*made, "-incoming", "defer"]


def _placed(word: str, names: dict[str, str], shape: LiveShape) -> str:
    driver, *rest = word.replace(",,", "\0").split(",")
    options = dict(item.partition("=")[::2] for item in rest)
    name = options.get("id", "")
    place = shape.places.get(names.get(name, name))
    if place is not None:
        bus, address = place
        options["bus"] = bus
        options["scsi-id" if driver.startswith("scsi-") else "addr"] = address
    parts = [driver, *(f"{key}={value}" for key, value in options.items())]
    return ",".join(parts).replace("\0", ",,")


def _writable(word: str, planned: Devices, written: set[str], shape: LiveShape) -> str:
    """What the guest may only read is written once, below the node it reads."""
    node: dict[str, Any] = msgspec.json.decode(word)
    for disk in planned.disks:
        own = node["node-name"] == node_name(disk.disk, disk.device)
        if own and disk.device in shape.disks and export_node(disk) in written:
            node["file"] |= {"node-name": export_node(disk), "read-only": False}
    return msgspec.json.encode(node).decode()
