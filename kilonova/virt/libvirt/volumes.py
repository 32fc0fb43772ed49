"""Volumes of a running domain: plugged in, grown, moved to another volume."""

from __future__ import annotations

import asyncio
from typing import Any

import libvirt

from kilonova.base.errors import BadRequest, NotFound, Unavailable
from kilonova.domain.guest import Disk
from kilonova.virt.devices import DiskDevice
from kilonova.virt.disks import COPY_SECONDS, DiskFile
from kilonova.virt.libvirt import device_xml, domains, plugging, xml
from kilonova.virt.libvirt.host import Link

MIB = 1 << 20
POLL_SECONDS = 0.2
DONE, BEGUN, UNDER_WAY = "done", "begun", "under way"
PLUGGABLE = ("virtio", "scsi")
COPY = libvirt.VIR_DOMAIN_BLOCK_COPY_REUSE_EXT | libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB


def plug(connection: Any, server_id: str, device: DiskDevice, made: xml.Element) -> None:
    """Plug a volume in; one that is there is left. BadRequest for buses that take none."""
    if device.bus not in PLUGGABLE:
        raise BadRequest(
            f"A disk on the bus {device.bus} cannot be plugged into a running guest; use "
            f"{' or '.join(PLUGGABLE)}, or stop the server before."
        )
    if device.bus == "scsi":
        described = domains.description(connection, server_id)
        if described.find("devices/controller[@type='scsi']") is None:
            controller = xml.element("controller", type_="scsi", index=0, model="virtio-scsi")
            plugging.plug(connection, server_id, controller)
    plugging.plug(connection, server_id, made)


def resize(connection: Any, server_id: str, disk: Disk) -> None:
    """Let the guest see the new size."""
    domain = connection.lookupByUUIDString(server_id)
    flags = libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES
    domain.blockResize(disk.device, disk.size_mb * MIB, flags)


async def swap(
    link: Link, server_id: str, device: str, file: DiskFile, target: xml.Element
) -> None:
    """Copy what is behind ``device`` to another file, and go on with that.

    Taken up where a former try was broken off. Unavailable when the copy fails.
    """
    tries = 0
    async with asyncio.timeout(COPY_SECONDS):
        while True:
            state = await link.call(lambda c: _step(c, server_id, device, file, target))
            if state == DONE:
                return
            tries += state == BEGUN
            if tries > 1:
                raise Unavailable("The copy to the other volume failed.")
            await asyncio.sleep(POLL_SECONDS)


def _step(connection: Any, server_id: str, device: str, file: DiskFile, target: xml.Element) -> str:
    """Do what comes next of a copy."""
    described = domains.description(connection, server_id)
    found = described.find(f"devices/disk/target[@dev='{device}']/..")
    if found is None:
        raise NotFound(f"The guest has no disk {device}.")
    source, copy_job = found.find("source"), found.find("mirror")
    if source is not None and device_xml.place(file) in source.attrib.values():
        return DONE
    domain = connection.lookupByUUIDString(server_id)
    if copy_job is None:
        domain.blockCopy(device, xml.text(target), {}, COPY)
        return BEGUN
    if copy_job.get("ready") == "yes":
        domain.blockJobAbort(device, libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT)
    return UNDER_WAY
