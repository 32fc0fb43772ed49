"""Steps that write an image over a server's root volume, without letting go of the volume."""

from __future__ import annotations

import msgspec

from kilonova.base.errors import Conflict
from kilonova.domain.guest import Disk
from kilonova.store import block_devices
from kilonova.workflows.engine.steps import remote
from kilonova.workflows.engine.waits import Wanted
from kilonova.workflows.steps.records import find_place
from kilonova.workflows.world import Env

REIMAGED = "volume-reimaged"


@remote()
async def hold_volume(env: Env, server_id: str, disk: Disk) -> Disk:
    """The disk with a second reservation, with which the first attachment may end."""
    if disk.volume_id is None:
        raise Conflict(f"The disk {disk.device} has no volume.")
    for present in await env.world.volumes.attachments(server_id):
        if present.volume_id == disk.volume_id and present.id != disk.attachment_id:
            attachment = present.id
            break
    else:
        attachment = await env.world.volumes.reserve(disk.volume_id, server_id, another=True)
    return msgspec.structs.replace(disk, attachment_id=attachment, connection=None)


@remote()
async def drop_hold(env: Env, server_id: str, disk: Disk) -> None:
    """End the second reservation; where the server's disk has it by now, the server has it."""
    place = await find_place(env, server_id)
    kept: set[object] = {disk.attachment_id}
    if place.cell_id is not None:
        rows = await env.world.cells.get(place.cell_id).db.read(block_devices.of_server, server_id)
        kept |= {row.attachment_id for row in rows if row.id == disk.id}
    for present in await env.world.volumes.attachments(server_id):
        if present.volume_id != disk.volume_id:
            continue
        if present.id not in kept:
            await env.world.volumes.release(present.id)
        elif present.status == "attaching":
            await env.world.volumes.complete(present.id)


@remote()
async def end_former(env: Env, disk: Disk) -> None:
    """End the attachment the disk had."""
    if disk.attachment_id:
        await env.world.volumes.release(disk.attachment_id)


@remote()
async def write_image(env: Env, disk: Disk, image_id: str) -> None:
    """Have the volume service begin."""
    await env.world.volumes.reimage(disk.volume_id or "", image_id)


def reimaged(server_id: str, disk: Disk) -> Wanted:
    """The signal that the volume has the image's data."""
    name = f"{REIMAGED}:{disk.volume_id}"
    return Wanted(server_id, (name,), bad=(f"{name}:failed",))
