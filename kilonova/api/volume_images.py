"""Images of servers on volumes: properties that name snapshots of the volumes, and no data.

All of it is done while the caller waits, with the caller's own token: the snapshots are its own.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from kilonova.api.agents import ask
from kilonova.api.find import is_admin
from kilonova.api.work import record
from kilonova.base.errors import BadRequest, Fault, Forbidden, TooLarge
from kilonova.context import Context
from kilonova.db.cells import Cell
from kilonova.db.database import Tx
from kilonova.domain import imaging
from kilonova.domain.describe import guest_spec, image_properties
from kilonova.domain.guest import Disk
from kilonova.domain.imaging import NewImage
from kilonova.domain.operations import QUIESCE, UNQUIESCE, GuestArgs
from kilonova.domain.sagas import CREATE_IMAGE
from kilonova.domain.server import Private, Server
from kilonova.domain.states import VmState
from kilonova.store import actions, servers

MUST_QUIESCE = "os_require_quiesce"
EVENT = "api_snapshot_instance"
FORMATS = {"disk_format": "qcow2", "container_format": "bare"}
TRUE = frozenset({"1", "t", "true", "on", "y", "yes"})

log = logging.getLogger(__name__)


async def make(
    call: Context, cell: Cell, server: Server, private: Private, wanted: NewImage
) -> None:
    """Make the image ``wanted`` of a server on volumes; on failure neither it nor a snapshot stays.

    BadRequest when the guest must be quiesced and cannot be; what the volume service says.
    """
    images, token = call.app.images, call.caller.token
    taken: list[str] = []
    try:
        devices = await _quietly(call, cell, server, private, wanted, taken)
        properties = {
            **wanted.properties,
            imaging.DEVICES: msgspec.json.encode(devices).decode(),
            imaging.DEVICES_V2: "True",
        }
        image = msgspec.structs.replace(wanted, properties=properties)
        try:
            await images.create(image, token=token)
        except TooLarge as fault:
            raise Forbidden(f"Quota exceeded, too many images: {fault.message}") from None
        await images.describe(image.id, FORMATS, token=token)
        await images.upload(image.id, _nothing(), token=token)
        await cell.db.run(_note, call, server)
    except Fault:
        await _take_back(call, wanted.id, taken)
        raise


async def _quietly(
    call: Context,
    cell: Cell,
    server: Server,
    private: Private,
    wanted: NewImage,
    taken: list[str],
) -> list[dict[str, Any]]:
    """The mappings of all disks, taken while the guest stands still where that is possible."""
    guest = GuestArgs(guest_spec(server, private))
    frozen = False
    if server.vm_state == VmState.ACTIVE and server.host is not None:
        try:
            await ask(call, cell, server.host, QUIESCE, server.id, guest)
            frozen = True
        except Fault as fault:
            word = image_properties(server, private).get(MUST_QUIESCE, "")
            if word.lower() in TRUE:
                raise BadRequest(
                    f"Quiescing is not supported in instance {server.id}: {fault.message}"
                ) from None
            log.info("server %s is not quiesced: %s", server.id, fault.message)
    try:
        return [
            await _mapping(call, disk, wanted.name, taken)
            for disk in private.disks
            if disk.role != "config"
        ]
    finally:
        if frozen and server.host is not None:
            await _let_go_on(call, cell, server.host, server.id, guest)


async def _let_go_on(
    call: Context, cell: Cell, host: str, server_id: str, guest: GuestArgs
) -> None:
    try:
        await ask(call, cell, host, UNQUIESCE, server_id, guest)
    except Fault as fault:
        # The agent lets it go on by itself after a while.
        log.warning("server %s was not told to go on: %s", server_id, fault.message)


async def _mapping(call: Context, disk: Disk, name: str, taken: list[str]) -> dict[str, Any]:
    made: dict[str, Any] = {
        "source_type": "blank",
        "destination_type": "local",
        "device_name": f"/dev/{disk.device}",
        "device_type": disk.device_type,
        "disk_bus": disk.bus,
        "boot_index": -1 if disk.boot_index is None else disk.boot_index,
        "delete_on_termination": disk.ends_with_server,
        "guest_format": "swap" if disk.role == "swap" else disk.file_system or None,
        "snapshot_id": None,
        "volume_id": None,
        "image_id": None,
        "no_device": None,
        "volume_size": disk.size_mb if disk.role == "swap" else disk.size_mb // 1024,
        "volume_type": disk.volume_type or None,
        "tag": disk.tag,
    }
    if disk.source != "volume" or disk.volume_id is None:
        return made
    volumes, token = call.app.volumes, call.caller.token
    volume = await volumes.show(disk.volume_id, token=token)
    snapshot = await volumes.make_snapshot(
        volume.id, name=f"snapshot for {name}", description=volume.description or "", token=token
    )
    taken.append(snapshot.id)
    return {
        **made,
        "source_type": "snapshot",
        "destination_type": "volume",
        "snapshot_id": snapshot.id,
        "guest_format": None,
        "volume_size": volume.size,
    }


def _note(tx: Tx, call: Context, server: Server) -> None:
    """The action, begun and ended; Conflict when the state does not allow it any more."""
    now, asked = call.clock.now(), call.request_id
    servers.begin(tx, server.id, "createImage", task=None, now=now, override_lock=is_admin(call))
    record(tx, call, CREATE_IMAGE.action, server.id)
    actions.start_event(tx, server.id, asked, EVENT, now=now, host=server.host)
    actions.finish_event(tx, server.id, asked, EVENT, now=now)
    actions.finish(tx, server.id, asked, now=now)


async def _take_back(call: Context, image_id: str, taken: list[str]) -> None:
    token = call.caller.token
    for work in (
        call.app.images.delete(image_id, token=token),
        *(call.app.volumes.delete_snapshot(snapshot, token=token) for snapshot in taken),
    ):
        try:
            await work
        except Fault as fault:
            log.warning("something is left of image %s: %s", image_id, fault.message)


async def _nothing() -> AsyncIterator[bytes]:
    nothing: tuple[bytes, ...] = ()
    for piece in nothing:
        yield piece
