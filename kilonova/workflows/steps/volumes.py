"""Steps around volumes: make, connect, complete, release, and the disks' rows."""

from __future__ import annotations

import logging
from typing import Any

import msgspec

from kilonova.base.errors import BadGateway, BadRequest, Conflict, NotFound, Timeout, Unavailable
from kilonova.db.database import Tx
from kilonova.domain.guest import Disk
from kilonova.domain.sagas import SWAP_VOLUME
from kilonova.interfaces.volume import AVAILABLE, NewVolume
from kilonova.store import block_devices, nodes, servers
from kilonova.workflows import telling
from kilonova.workflows.engine import journal
from kilonova.workflows.engine.steps import remote, transaction
from kilonova.workflows.steps.records import end_action, fault, find_place
from kilonova.workflows.world import Env

GIB = 1024
MAKE_SECONDS = 7200.0
DELETE_TRIES = 60

log = logging.getLogger(__name__)


# -- making ------------------------------------------------------------------------------------


@remote(seconds=MAKE_SECONDS)
async def make_volume(env: Env, _server_id: str, disk: Disk) -> Disk:
    """Make the volume of a disk that has none yet, and wait until it is ready."""
    if disk.volume_id is not None:
        return disk
    wanted = NewVolume(
        id=env.ids.uuid(),
        project_id=env.asked.project_id,
        user_id=env.asked.user_id,
        source=disk.origin or "blank",
        source_id=disk.origin_id or None,
        size=disk.size_mb // GIB or None,
        volume_type=disk.volume_type or None,
    )
    volume = await env.world.volumes.create(wanted)
    default = env.settings.default
    left = default.block_device_allocate_retries
    while volume.status != AVAILABLE:
        if left <= 0 or volume.status.startswith("error"):
            raise Unavailable(
                f"Volume {volume.id} did not finish being created. Its status is {volume.status}."
            )
        left -= 1
        await env.clock.sleep(default.block_device_allocate_retries_interval)
        volume = await env.world.volumes.show(volume.id)
    return msgspec.structs.replace(
        disk, volume_id=volume.id, serial=volume.id, size_mb=volume.size * GIB
    )


@remote(seconds=MAKE_SECONDS)
async def unmake_volume(env: Env, _server_id: str, disk: Disk) -> None:
    """Delete the volume that was made; one that was given stays."""
    if disk.volume_id is not None:
        return
    volume_id = env.ids.uuid()
    for _ in range(DELETE_TRIES):
        try:
            await env.world.volumes.delete(volume_id)
        except (BadRequest, Conflict):
            # It cannot be deleted while it is still being made.
            await env.clock.sleep(env.settings.default.block_device_allocate_retries_interval)
        else:
            return
    await env.world.volumes.delete(volume_id)


# -- using -------------------------------------------------------------------------------------


async def connector(env: Env, host: str, disk: Disk) -> dict[str, Any]:
    """What the volume service is told of the host that will use a volume.

    The host's initiators and the like are in its agent's last report.
    """
    found = (await env.world.cells.gather(nodes.reports, host)).rows()
    own = {"ip": found[0].host_ip, **found[0].connector} if found else {}
    return {
        "ip": env.settings.default.my_ip,
        "multipath": False,
        "do_local_attach": False,
        "os_type": "linux",
        "platform": "x86_64",
        **own,
        "host": host,
        "mountpoint": f"/dev/{disk.device}",
    }


@remote()
async def connect_volume(env: Env, server_id: str, host: str, disk: Disk) -> Disk:
    """Have a connection of the server's host to the volume; the reservation is made if needed."""
    volumes = env.world.volumes
    if disk.volume_id is None:
        raise NotFound(f"The disk {disk.device} has no volume.")
    attachment = await volumes.reserve(disk.volume_id, server_id)
    connection = await volumes.connect(attachment, await connector(env, host, disk))
    return msgspec.structs.replace(
        disk,
        attachment_id=attachment,
        connection=connection,
        serial=disk.volume_id,
        read_only=connection.get("data", {}).get("access_mode") == "ro",
    )


@remote()
async def disconnect_volume(env: Env, server_id: str, _host: str, disk: Disk) -> None:
    """End the server's use of a volume."""
    for present in await env.world.volumes.attachments(server_id):
        if present.volume_id == disk.volume_id:
            await env.world.volumes.release(present.id)


@remote()
async def complete_volume(env: Env, disk: Disk) -> None:
    """Tell the volume service that the server has it."""
    if disk.attachment_id:
        await env.world.volumes.complete(disk.attachment_id)


@transaction(db="cell")
def keep_volumes(tx: Tx, env: Env, server_id: str, ready: list[Disk]) -> None:
    """Write connected volumes into the server's disks."""
    known = {disk.id: disk for disk in ready}
    present = block_devices.of_server(tx, server_id)
    wanted = [known.get(disk.id, disk) for disk in present]
    servers.set_disks(tx, server_id, wanted, now=env.clock.now())


# -- one more, one less --------------------------------------------------------------------------


@transaction(db="own")
def keep_volume(tx: Tx, env: Env, server_id: str, disk: Disk) -> None:
    """Write a disk of the server as it is by now."""
    present = block_devices.of_server(tx, server_id)
    wanted = [disk if other.id == disk.id else other for other in present]
    servers.set_disks(tx, server_id, wanted, now=env.clock.now())
    former = next((other.volume_id for other in present if other.id == disk.id), None)
    if former is not None and former != disk.volume_id:
        # The last moment in which both volumes are known here.
        telling.ended(tx, env, server_id, **telling.volumes(env, former))


@transaction(db="own")
def finish_volume(tx: Tx, env: Env, server_id: str) -> None:
    """The work on a volume ended well: so did its action."""
    swapped = env.saga_name == SWAP_VOLUME.name
    end_action(tx, env, server_id, env.clock.now(), tell=not swapped)


@transaction(db="own")
def forget_volume(tx: Tx, env: Env, server_id: str, disk_id: str) -> None:
    """The disk is gone, its action over."""
    now = env.clock.now()
    present = block_devices.of_server(tx, server_id)
    gone = next((disk.volume_id for disk in present if disk.id == disk_id), None)
    left = [disk for disk in present if disk.id != disk_id]
    servers.set_disks(tx, server_id, left, now=now)
    end_action(tx, env, server_id, now, volume_id=gone)


@remote()
async def drop_dangling(env: Env, server_id: str) -> list[str]:
    """Forget the volumes that the volume service does not know the server to have, and end
    attachments that no disk stands for; the ids of the disks whose volumes are left.

    The root disk stays, and so does everything while the service does not answer.
    """
    place = await find_place(env, server_id)
    try:
        present = {use.id: use for use in await env.world.volumes.attachments(server_id)}
    except (Unavailable, BadGateway, Timeout) as fault:
        log.warning("the volumes of %s were not compared: %s", server_id, fault.message)
        return [disk.id for disk in place.volumes]
    left = []
    for disk in place.volumes:
        if not disk.attachment_id or disk.attachment_id in present or disk.role == "root":
            left.append(disk.id)
        else:
            log.warning("server %s has lost the volume %s", server_id, disk.volume_id)
            await _drop(env, server_id, disk.id)
    held = {disk.volume_id for disk in place.volumes}
    for use in present.values():
        # A reservation may be that of a request which is just coming in.
        if use.volume_id not in held and use.status == "attached":
            await env.world.volumes.release(use.id)
    return left


@remote()
async def give_up_attach(env: Env, server_id: str, disk_id: str) -> None:
    """The volume could not be attached: reservation and row are taken back."""
    disk = await _disk(env, server_id, disk_id)
    if disk is not None:
        await _release(env, server_id, disk)
        await _drop(env, server_id, disk_id)
    await _tell(env, server_id, disk.volume_id if disk is not None else None)


@remote()
async def give_up_detach(env: Env, server_id: str, disk_id: str) -> None:
    """The guest did not let go: the volume is in use as before."""
    disk = await _disk(env, server_id, disk_id)
    if disk is not None and disk.volume_id is not None:
        await env.world.volumes.roll_detaching(disk.volume_id)
    await _tell(env, server_id)


@remote()
async def give_up_extend(env: Env, server_id: str, _disk_id: str) -> None:
    """The guest was not told of the new size; its next start shows it."""
    await _tell(env, server_id)


@remote()
async def give_up_swap(
    env: Env, server_id: str, disk_id: str, _volume_id: str, attachment_id: str
) -> None:
    """The server goes on with the old volume."""
    await env.world.volumes.release(attachment_id)
    await give_up_detach.fn(env, server_id, disk_id)


@remote()
async def connect_swap(env: Env, host: str, disk: Disk, volume_id: str, attachment_id: str) -> Disk:
    """The disk with the new volume, connected to the server's host."""
    connection = await env.world.volumes.connect(attachment_id, await connector(env, host, disk))
    volume = await env.world.volumes.show(volume_id)
    return msgspec.structs.replace(
        disk,
        volume_id=volume_id,
        serial=volume_id,
        attachment_id=attachment_id,
        connection=connection,
        size_mb=volume.size * GIB,
    )


@remote()
async def new_size(env: Env, disk: Disk) -> Disk:
    """The disk with the size its volume has now."""
    volume = await env.world.volumes.show(disk.volume_id or "")
    return msgspec.structs.replace(disk, size_mb=volume.size * GIB)


@remote()
async def tell_snapshot(env: Env, snapshot_id: str, status: str) -> None:
    """Tell the volume service how far a snapshot is that it asked for."""
    await env.world.volumes.tell_snapshot(snapshot_id, status)


@remote()
async def give_up_snapshot(
    env: Env, _server_id: str, _disk_id: str, snapshot_id: str, _file: str
) -> None:
    """The volume goes on in the file it has."""
    await env.world.volumes.tell_snapshot(snapshot_id, "error")


@remote()
async def give_up_merge(
    env: Env, _server_id: str, _disk_id: str, snapshot_id: str, _file: str | None, _into: str | None
) -> None:
    """The volume needs all its files as before."""
    await env.world.volumes.tell_snapshot(snapshot_id, "error_deleting")


@remote()
async def release_attachment(env: Env, server_id: str, disk: Disk) -> None:
    """End one attachment."""
    await _release(env, server_id, disk)


@remote(seconds=600)
async def release_volumes(env: Env, server_id: str, disks: list[Disk]) -> None:
    """The server is gone: end its attachments, delete the volumes that shall go with it."""
    volumes = env.world.volumes
    for present in await volumes.attachments(server_id):
        await volumes.release(present.id)
    for disk in disks:
        if disk.volume_id is None or not disk.ends_with_server:
            continue
        try:
            await volumes.delete(disk.volume_id)
        except (BadRequest, Conflict) as reason:
            log.warning("volume %s stays: %s", disk.volume_id, reason.message)


async def _release(env: Env, server_id: str, disk: Disk) -> None:
    for present in await env.world.volumes.attachments(server_id):
        if present.id == disk.attachment_id or (
            not disk.attachment_id and present.volume_id == disk.volume_id
        ):
            await env.world.volumes.release(present.id)


async def _disk(env: Env, server_id: str, disk_id: str) -> Disk | None:
    place = await find_place(env, server_id)
    return next((disk for disk in place.volumes if disk.id == disk_id), None)


async def _drop(env: Env, server_id: str, disk_id: str) -> None:
    place = await find_place(env, server_id)
    if place.cell_id is None:
        return

    def work(tx: Tx) -> None:
        journal.guard(tx, env.saga_id, env.epoch)
        present = block_devices.of_server(tx, server_id)
        left = [disk for disk in present if disk.id != disk_id]
        if len(left) != len(present):
            servers.set_disks(tx, server_id, left, now=env.clock.now())

    await env.world.cells.get(place.cell_id).db.run(work)


async def _tell(env: Env, server_id: str, volume_id: str | None = None) -> None:
    place = await find_place(env, server_id)
    if place.cell_id is None:
        return

    def work(tx: Tx) -> None:
        journal.guard(tx, env.saga_id, env.epoch)
        told = fault(env.error, env)
        end_action(tx, env, server_id, env.clock.now(), error=told.message, volume_id=volume_id)

    await env.world.cells.get(place.cell_id).db.run(work)
