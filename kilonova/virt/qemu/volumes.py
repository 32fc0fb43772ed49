"""Volumes of a running guest over QMP: plug in, unplug, grow, move to another volume."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from kilonova.base.errors import BadRequest, Conflict, NotFound, Unavailable
from kilonova.config.hypervisor import Libvirt
from kilonova.config.settings import Settings
from kilonova.domain.guest import Disk, GuestSpec
from kilonova.virt.devices import DiskDevice, plan
from kilonova.virt.disks import COPY_SECONDS, DiskFile
from kilonova.virt.qemu import chains, slots
from kilonova.virt.qemu.command import block_node, front_device, node_name
from kilonova.virt.qemu.running import Running

MIB = 1 << 20
LOOK_SECONDS = 0.5
RESIZE_TRIES = 20
PLUGGABLE = ("virtio", "scsi")


def device_of(spec: GuestSpec, disk: Disk, settings: Settings) -> DiskDevice:
    """The disk as the guest will see it; NotFound when its description has no such disk."""
    for device in plan(spec, default_machine=settings.qemu.machine_type).disks:
        if device.disk.id == disk.id:
            return device
    raise NotFound(f"The guest {spec.name} has no disk {disk.device}.")


async def plug(qemu: Running, device: DiskDevice, file: DiskFile) -> None:
    """Plug a volume in; one that is there is left. Unavailable when QEMU refuses."""
    if device.bus not in PLUGGABLE:
        raise BadRequest(
            f"A disk on the bus {device.bus} cannot be plugged into a running guest; use "
            f"{' or '.join(PLUGGABLE)}, or stop the server before."
        )
    present = await _devices(qemu)
    if device.id in present:
        return
    if device.bus == "scsi" and "scsi0" not in present:
        await slots.plug(qemu, {"driver": "virtio-scsi-pci", "id": "scsi0"})
    await _add_node(qemu, device, file)
    front = front_device(device, 0)
    front.pop("scsi-id", None)  # QEMU finds a free one
    try:
        if device.bus == "virtio":
            await slots.plug(qemu, front)
        else:
            await qemu.execute("device_add", front)
    except Unavailable:
        with contextlib.suppress(Unavailable):
            await _drop_node(qemu, device.disk, file)
        raise


async def _add_node(qemu: Running, device: DiskDevice, file: DiskFile) -> None:
    """The node of a volume and the objects it names; what is there is left."""
    if node_name(device.disk, device.device) in await _nodes(qemu):
        return
    for each in file.objects:
        # A former try may have left it, with a key that is the same or not.
        with contextlib.suppress(Unavailable):
            await qemu.execute("object-del", {"id": each["id"]})
        await qemu.execute("object-add", each)
    await qemu.execute("blockdev-add", block_node(device, file))


async def _drop_node(qemu: Running, disk: Disk, file: DiskFile | None) -> None:
    node = node_name(disk, disk.device)
    if set(await chains.nodes(qemu, disk)) - {node}:
        await chains.drop(qemu, disk)
    if node in await _nodes(qemu):
        await qemu.execute("blockdev-del", {"node-name": node})
    for each in file.objects if file is not None else ():
        with contextlib.suppress(Unavailable):
            await qemu.execute("object-del", {"id": each["id"]})


async def unplug(qemu: Running, disk: Disk, limits: Libvirt, file: DiskFile | None = None) -> None:
    """Ask the guest to let go of a volume, again and again; Conflict when it never does."""
    device = f"disk-{disk.device}"
    for _ in range(limits.device_detach_attempts):
        if device not in await _devices(qemu):
            break
        with contextlib.suppress(Unavailable):
            # Refused while the last request is still being thought about.
            await qemu.execute("device_del", {"id": device})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limits.device_detach_timeout):
                await _gone(qemu, device)
    if device in await _devices(qemu):
        raise Conflict(f"The guest did not let go of the disk {disk.device}; is it in use there?")
    await _drop_node(qemu, disk, file)


async def _gone(qemu: Running, device: str) -> None:
    while device in await _devices(qemu):
        await qemu.unplugged.wait(LOOK_SECONDS)


async def resize(qemu: Running, disk: Disk) -> None:
    """Let the guest see the new size."""
    node = await chains.top(qemu, disk)
    if node not in await _nodes(qemu):
        return
    wanted = {"node-name": node, "size": disk.size_mb * MIB}
    for attempt in range(RESIZE_TRIES):
        try:
            await qemu.execute("block_resize", wanted)
        except Unavailable:
            if attempt == RESIZE_TRIES - 1:
                raise
            # QEMU asks an NBD server for the size when it connects, and connects when it reads.
            look = {"command-line": f'qemu-io {node} "read 0 512"'}
            await qemu.execute("human-monitor-command", look)
            await asyncio.sleep(LOOK_SECONDS)
        else:
            return


async def swap(
    qemu: Running, old: Disk, device: DiskDevice, file: DiskFile, old_file: DiskFile | None = None
) -> None:
    """Mirror a volume to another one, and let the guest go on with that."""
    before = await chains.top(qemu, old)
    after = node_name(device.disk, device.device)
    if before in await chains.nodes(qemu, old):
        await _add_node(qemu, device, file)
        job = f"swap-{device.device}"
        if not await _job(qemu, job):
            wanted = {"job-id": job, "device": before, "target": after, "sync": "full"}
            await qemu.execute("blockdev-mirror", wanted)
        async with asyncio.timeout(COPY_SECONDS):
            await _finish(qemu, job)
        await _drop_node(qemu, old, old_file)
    await resize(qemu, device.disk)


async def _finish(qemu: Running, job: str) -> None:
    asked = False
    while (state := await _job(qemu, job)) is not None:
        if state.get("ready") and not asked:
            await qemu.execute("block-job-complete", {"device": job})
            asked = True
        await asyncio.sleep(0.1)
    if not asked:
        raise Unavailable("The copy to the other volume failed.")


async def _job(qemu: Running, name: str) -> dict[str, Any] | None:
    for job in await qemu.execute("query-block-jobs"):
        if job["device"] == name:
            found: dict[str, Any] = job
            return found
    return None


async def _devices(qemu: Running) -> set[str]:
    found = await qemu.execute("qom-list", {"path": slots.PERIPHERALS})
    return {item["name"] for item in found}


async def _nodes(qemu: Running) -> set[str]:
    found = await qemu.execute("query-named-block-nodes", {"flat": True})
    return {item["node-name"] for item in found}
