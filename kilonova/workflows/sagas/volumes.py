"""Volumes of a server: attaching, detaching, growing, swapping."""

from __future__ import annotations

import msgspec

from kilonova.base.errors import NotFound
from kilonova.domain.disks import file_of, on_file
from kilonova.domain.guest import Disk, GuestSpec
from kilonova.domain.operations import (
    ATTACH_DISK,
    DETACH_DISK,
    MERGE_VOLUME,
    RESIZE_DISK,
    SNAPSHOT_VOLUME,
    SWAP_DISK,
    DiskArgs,
    MergeVolume,
    SnapshotVolume,
    SwapDisk,
)
from kilonova.workflows.engine.saga import Saga
from kilonova.workflows.engine.steps import Undo, saga
from kilonova.workflows.steps.records import Place, begin_event, locate
from kilonova.workflows.steps.volumes import (
    complete_volume,
    connect_swap,
    connect_volume,
    disconnect_volume,
    finish_volume,
    forget_volume,
    give_up_attach,
    give_up_detach,
    give_up_extend,
    give_up_merge,
    give_up_snapshot,
    give_up_swap,
    keep_volume,
    new_size,
    release_attachment,
    tell_snapshot,
)


@saga(
    "server.attach_volume",
    action="attach_volume",
    notify="instance.volume_attach",
    failed=give_up_attach,
)
async def attach_volume(s: Saga, server_id: str, disk_id: str) -> None:
    """Connect the host, plug the volume into the guest, tell the volume service."""
    place, disk = await _find(s, server_id, disk_id)
    await s.do(begin_event, server_id, place.host or "")
    if place.host is not None and place.guest is not None:
        host = place.host
        disk = await s.do(connect_volume, server_id, host, disk, undo=disconnect_volume)
        await s.do(keep_volume, server_id, disk)
        args = DiskArgs(_with(place.guest, disk), disk)
        back = DiskArgs(_without(place.guest, disk), disk)
        undo = Undo(DETACH_DISK, back, even_if_down=True)
        await s.on(host, ATTACH_DISK, args, undo=undo)
        await s.do(complete_volume, disk)
    elif place.host is None:
        # It is in use from now on; whichever host takes the server up will connect it.
        await s.do(complete_volume, disk)
    await s.do(finish_volume, server_id)


@saga(
    "server.detach_volume",
    action="detach_volume",
    notify="instance.volume_detach",
    failed=give_up_detach,
)
async def detach_volume(s: Saga, server_id: str, disk_id: str) -> None:
    """Unplug the volume from the guest, end the attachment."""
    place, disk = await _find(s, server_id, disk_id)
    await s.do(begin_event, server_id, place.host or "")
    if place.host is not None and place.guest is not None:
        args = DiskArgs(_without(place.guest, disk), disk)
        back = DiskArgs(_with(place.guest, disk), disk)
        undo = Undo(ATTACH_DISK, back, even_if_down=True)
        await s.on(place.host, DETACH_DISK, args, undo=undo)
    await s.pivot()
    await s.do(release_attachment, server_id, disk)
    await s.do(forget_volume, server_id, disk_id)


@saga("server.extend_volume", action="extend_volume", failed=give_up_extend)
async def extend_volume(s: Saga, server_id: str, disk_id: str) -> None:
    """Let the guest see that its volume has grown."""
    place, disk = await _find(s, server_id, disk_id)
    await s.do(begin_event, server_id, place.host or "")
    disk = await s.do(new_size, disk)
    await s.do(keep_volume, server_id, disk)
    if place.host is not None and place.guest is not None:
        await s.on(place.host, RESIZE_DISK, DiskArgs(_with(place.guest, disk), disk))
    await s.do(finish_volume, server_id)


@saga(
    "server.swap_volume",
    action="swap_volume",
    notify="instance.volume_swap",
    failed=give_up_swap,
)
async def swap_volume(
    s: Saga, server_id: str, disk_id: str, volume_id: str, attachment_id: str
) -> None:
    """Copy the data to another volume, go on with that, let the old one go."""
    place, old = await _find(s, server_id, disk_id)
    await s.do(begin_event, server_id, place.host or "")
    if place.host is None or place.guest is None:
        raise NotFound(f"Instance {server_id} is on no host.")
    new = await s.do(connect_swap, place.host, old, volume_id, attachment_id)
    back = SwapDisk(_with(place.guest, old), new, old)
    await s.on(
        place.host,
        SWAP_DISK,
        SwapDisk(_with(place.guest, new), old, new),
        undo=Undo(SWAP_DISK, back, even_if_down=True),
    )
    await s.pivot()
    await s.do(complete_volume, new)
    await s.do(keep_volume, server_id, new)
    await s.do(release_attachment, server_id, old)
    await s.do(finish_volume, server_id)


@saga("server.snapshot_volume", action="volume_snapshot_create", failed=give_up_snapshot)
async def snapshot_volume(
    s: Saga, server_id: str, disk_id: str, snapshot_id: str, file: str
) -> None:
    """Let the volume go on in a file that the volume service has made, and tell it so."""
    place, disk = await _find(s, server_id, disk_id)
    if place.host is None or place.guest is None:
        raise NotFound(f"Instance {server_id} is on no host.")
    back = MergeVolume(place.guest, disk, file, file_of(disk))
    disk = on_file(disk, file)
    args = SnapshotVolume(_with(place.guest, disk), disk, file)
    undo = Undo(MERGE_VOLUME, back, even_if_down=True)
    await s.on(place.host, SNAPSHOT_VOLUME, args, undo=undo)
    await s.pivot()
    await s.do(keep_volume, server_id, disk)
    await s.do(tell_snapshot, snapshot_id, "creating")


@saga("server.merge_volume", action="volume_snapshot_delete", failed=give_up_merge)
async def merge_volume(
    s: Saga, server_id: str, disk_id: str, snapshot_id: str, file: str | None, into: str | None
) -> None:
    """Take a file out of those a volume is made of; the volume service deletes it then."""
    place, disk = await _find(s, server_id, disk_id)
    if place.host is None or place.guest is None:
        raise NotFound(f"Instance {server_id} is on no host.")
    await s.on(place.host, MERGE_VOLUME, MergeVolume(place.guest, disk, file, into))
    await s.pivot()
    await s.do(tell_snapshot, snapshot_id, "deleting")


async def _find(s: Saga, server_id: str, disk_id: str) -> tuple[Place, Disk]:
    place = await s.do(locate, server_id)
    for disk in place.volumes:
        if disk.id == disk_id:
            return place, disk
    raise NotFound(f"Instance {server_id} has no such volume any more.")


def _without(guest: GuestSpec, disk: Disk) -> GuestSpec:
    left = tuple(other for other in guest.disks if other.id != disk.id)
    return msgspec.structs.replace(guest, disks=left)


def _with(guest: GuestSpec, disk: Disk) -> GuestSpec:
    return msgspec.structs.replace(guest, disks=(*_without(guest, disk).disks, disk))
