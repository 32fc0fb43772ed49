"""``/servers/{server_id}/os-volume_attachments``: the volumes of a server."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from kilonova.api.find import Found, find, is_admin, require_cell
from kilonova.api.schemas import BOOLEAN, DEVICE_TAG, UUID, Tree, closed, truth
from kilonova.api.servers.volumes import check_usable, check_zone
from kilonova.api.work import begin_unseen, record, start, when_free
from kilonova.base.errors import BadRequest, Fault, Forbidden, NotFound
from kilonova.context import Context, Services
from kilonova.db.cells import Cell
from kilonova.db.database import Tx
from kilonova.domain import states
from kilonova.domain.disks import next_device
from kilonova.domain.guest import Disk
from kilonova.domain.sagas import (
    ATTACH_VOLUME,
    DETACH_VOLUME,
    SWAP_VOLUME,
    DiskSaga,
    SagaKind,
    SwapSaga,
)
from kilonova.domain.server import Server
from kilonova.domain.states import VmState
from kilonova.interfaces.volume import Volume
from kilonova.store import block_devices, servers
from kilonova.web.call import Query, Reply
from kilonova.web.routes import Routes
from kilonova.web.schema import Schema, answers, pick, since, until
from kilonova.web.view import OMIT, Field, View

A = TypeVar("A", bound=msgspec.Struct)

ROUTES: Routes[Services] = Routes(
    prefix="/servers/{server_id}/os-volume_attachments", tag="volume attachments"
)
RULE = "os_compute_api:os-volumes-attachments:"
GIB = 1024

_DEVICE: Tree = {
    "type": ["string", "null"],
    "pattern": "(^/dev/x{0,1}[a-z]{0,1}d{0,1})([a-z]+)[0-9]*$",
}
CREATE = Schema(
    closed(
        {
            "volumeAttachment": closed(
                {
                    "volumeId": UUID,
                    "device": _DEVICE,
                    "tag": since(49, DEVICE_TAG),
                    "delete_on_termination": since(79, BOOLEAN),
                },
                "volumeId",
            )
        },
        "volumeAttachment",
    )
)
_SWAPPED: Tree = {"volumeId": UUID}
_CHANGED: Tree = {
    **_SWAPPED,
    "device": _DEVICE,
    "tag": DEVICE_TAG,
    "delete_on_termination": BOOLEAN,
    "serverId": UUID,
    "id": UUID,
}
UPDATE = Schema(
    closed(
        {
            "volumeAttachment": pick(
                until(84, closed(_SWAPPED, "volumeId")), since(85, closed(_CHANGED, "volumeId"))
            )
        },
        "volumeAttachment",
    )
)
LIST = Schema(
    {
        "type": "object",
        "properties": {
            name: {"type": "array", "items": {"type": "string", "pattern": "^[0-9]*$"}}
            for name in ("limit", "offset")
        },
        "additionalProperties": pick(until(74, True), since(75, False)),
    }
)

VIEW = View(
    "volumeAttachment",
    [
        Field("id", "volume_id", until=88),
        Field("serverId", lambda disk: OMIT),
        Field("volumeId", "volume_id"),
        Field("device", lambda disk: f"/dev/{disk.device}"),
        Field("tag", "tag", since=70),
        Field("delete_on_termination", "ends_with_server", since=79),
        Field("attachment_id", lambda disk: disk.attachment_id or None, since=89),
        Field("bdm_uuid", "id", since=89),
    ],
)
_MADE = View(
    "volumeAttachment",
    [Field("id", "volume_id"), *(f for f in VIEW.fields if f.name != "id" and f.since < 89)],
)


def _show(call: Context, server_id: str, disk: Disk, view: View = VIEW) -> dict[str, Any]:
    shown = view.render(disk, call.version)
    shown["serverId"] = server_id
    return shown


async def _disks(found: Found) -> list[Disk]:
    if found.cell is None:
        assert found.request is not None
        return [d for d in found.request.private.disks if d.volume_id]
    present = await found.cell.db.read(block_devices.of_server, found.server.id)
    return [disk for disk in present if disk.volume_id]


def _of(disks: list[Disk], server_id: str, volume_id: str) -> Disk:
    for disk in disks:
        if disk.volume_id == volume_id:
            return disk
    raise NotFound(f"Instance {server_id} is not attached with volume {volume_id}")


@ROUTES.get(
    "", query=LIST, responses=answers(volumeAttachments=[VIEW]), summary="List volume attachments"
)
async def index(call: Context, server_id: str) -> dict[str, Any]:
    """All volumes of a server."""
    found = await find(call, server_id, RULE + "index")
    disks = await _disks(found)
    part = _part(call.query, call.app.settings.api.max_limit, disks)
    return {"volumeAttachments": [_show(call, server_id, disk) for disk in part]}


def _part(query: Query, most: int, disks: list[Disk]) -> list[Disk]:
    offset = int(query.get("offset") or 0)
    limit = query.get("limit")
    return disks[offset : offset + min(int(limit) if limit else most, most)]


@ROUTES.get(
    "/{volume_id}", responses=answers(volumeAttachment=VIEW), summary="Show a volume attachment"
)
async def show(call: Context, server_id: str, volume_id: str) -> dict[str, Any]:
    """One volume of a server."""
    found = await find(call, server_id, RULE + "show")
    disk = _of(await _disks(found), server_id, volume_id)
    return {"volumeAttachment": _show(call, server_id, disk)}


# -- attach --------------------------------------------------------------------------------------


@ROUTES.post(
    "",
    body=CREATE,
    also=(202,),
    responses=Schema(until(100, answers(volumeAttachment=_MADE))),
    summary="Attach a volume",
)
async def create(call: Context, server_id: str) -> Reply | dict[str, Any]:
    """Reserve the volume, choose its device name, and let the conductor plug it in.

    200 with the attachment; from 2.101 on 202 without a body.
    """
    found = await find(call, server_id, RULE + "create")
    given = call.body["volumeAttachment"]
    volume_id, device = given["volumeId"], given.get("device")
    cell = require_cell(found, "attach_volume")
    server = found.server
    states.check("attach_volume", server, override_lock=is_admin(call))
    offloaded = server.vm_state in (VmState.SHELVED, VmState.SHELVED_OFFLOADED)
    if offloaded and call.version < 20:
        raise states.wrong_state("attach_volume", server_id, "vm_state", server.vm_state)
    if offloaded and given.get("tag"):
        raise BadRequest("Attaching tagged volumes to a shelved-offloaded server is not supported.")
    volume = await _volume(call, volume_id, server)
    await _check_others(call, cell, server_id, volume, offloaded=offloaded)
    attachment = await _reserve(call, volume_id, server_id)
    wanted = Disk(
        id=call.ids.uuid(),
        role="volume",
        source="volume",
        device="",
        bus=_bus(server),
        size_mb=volume.size * GIB,
        format="raw",
        serial=volume_id,
        volume_id=volume_id,
        tag=given.get("tag"),
        delete_on_termination=truth(given.get("delete_on_termination", False)),
        attachment_id=attachment,
    )

    def begin(tx: Tx) -> Disk:
        present = block_devices.of_server(tx, server_id)
        disk = msgspec.structs.replace(
            wanted, device=next_device(present, None if offloaded else device, wanted.bus)
        )
        begin_unseen(tx, call, server_id, "attach_volume")
        servers.set_disks(tx, server_id, [*present, disk], now=call.clock.now())
        record(tx, call, ATTACH_VOLUME.action, server_id)
        start(tx, call, ATTACH_VOLUME, DiskSaga(server_id, disk.id), server_id)
        return disk

    try:
        disk = await when_free(call, cell, begin)
    except Fault:
        await call.app.volumes.release(attachment)
        raise
    await call.app.wake()
    if call.version >= 101:
        return Reply(None, status=202)
    return {"volumeAttachment": _show(call, server_id, disk, _MADE)}


def _bus(server: Server) -> str:
    return server.image.properties.get("hw_disk_bus", "virtio") if server.image else "virtio"


async def _volume(call: Context, volume_id: str, server: Server) -> Volume:
    volume = await call.app.volumes.show(volume_id, token=call.caller.token)
    if volume.multiattach and call.version < 60:
        raise BadRequest(
            f"Multiattach volumes need at least microversion 2.60; {volume_id} is one."
        )
    check_usable(volume)
    check_zone(call, volume, server.availability_zone)
    return volume


async def _check_others(
    call: Context, cell: Cell, server_id: str, volume: Volume, *, offloaded: bool
) -> None:
    present = await cell.db.read(block_devices.of_server, server_id)
    if any(disk.volume_id == volume.id for disk in present):
        raise BadRequest(
            f"Invalid volume: volume {volume.id} already attached to instance {server_id}."
        )
    if volume.multiattach and offloaded:
        raise BadRequest(
            f"Volume {volume.id} has 'multiattach' set, which is not supported for a "
            "shelved-offloaded instance."
        )
    most = call.app.settings.compute.max_disk_devices_to_attach
    if 0 <= most <= len(present):
        raise Forbidden(f"The maximum allowed number of disk devices ({most}) to attach exceeded.")


async def _reserve(call: Context, volume_id: str, server_id: str) -> str:
    try:
        return await call.app.volumes.reserve(volume_id, server_id)
    except BadRequest as fault:
        raise BadRequest(f"Invalid volume: {fault.message}") from None


# -- detach --------------------------------------------------------------------------------------


@ROUTES.delete("/{volume_id}", status=202, summary="Detach a volume")
async def delete(call: Context, server_id: str, volume_id: str) -> None:
    """Unplug the volume; BadRequest for the one the server starts from."""
    found = await find(call, server_id, RULE + "delete")
    disk = _of(await _disks(found), server_id, volume_id)
    if disk.role == "root":
        raise BadRequest("Cannot detach a root device volume")
    cell = require_cell(found, "detach_volume")
    states.check("attach_volume", found.server, override_lock=is_admin(call), word="detach_volume")
    await _begin_detaching(call, disk)
    try:
        await _accept(
            call, cell, server_id, disk, DETACH_VOLUME, DiskSaga(server_id, disk.id),
            word="detach_volume",
        )  # fmt: skip
    except Fault:
        await call.app.volumes.roll_detaching(volume_id)
        raise
    await call.app.wake()


async def _begin_detaching(call: Context, disk: Disk) -> None:
    try:
        await call.app.volumes.begin_detaching(disk.volume_id or "")
    except BadRequest as fault:
        raise BadRequest(f"Invalid volume: {fault.message}") from None


async def _accept(
    call: Context,
    cell: Cell,
    server_id: str,
    disk: Disk,
    kind: SagaKind[A],
    args: A,
    *,
    word: str,
) -> None:
    def begin(tx: Tx) -> Disk:
        begin_unseen(tx, call, server_id, "attach_volume")
        if disk.id not in {present.id for present in block_devices.of_server(tx, server_id)}:
            raise NotFound(f"Instance {server_id} is not attached with volume {disk.volume_id}")
        record(tx, call, kind.action, server_id)
        start(tx, call, kind, args, server_id)
        return disk

    await when_free(call, cell, begin)


# -- change --------------------------------------------------------------------------------------


@ROUTES.put("/{volume_id}", body=UPDATE, status=202, summary="Update a volume attachment")
async def update(call: Context, server_id: str, volume_id: str) -> None:
    """Another volume in place of this one, or (2.85) what becomes of it with the server."""
    found = await find(call, server_id)
    given = call.body["volumeAttachment"]
    new_id = given["volumeId"]
    target = {"project_id": found.server.project_id, "user_id": found.server.user_id}
    if new_id != volume_id:
        call.enforce(RULE + "swap", target)
        await _swap(call, found, volume_id, new_id)
        return
    if call.version < 85:
        call.enforce(RULE + "swap", target)
        raise BadRequest("The new volume is the one that is attached already.")
    call.enforce(RULE + "update", target)
    disk = _of(await _disks(found), server_id, volume_id)
    _check_unchanged(given, server_id, disk)
    if "delete_on_termination" not in given:
        return
    cell = require_cell(found, "update_volume_attachment")
    keep = truth(given["delete_on_termination"])

    def work(tx: Tx) -> None:
        present = block_devices.of_server(tx, server_id)
        changed = [
            msgspec.structs.replace(other, delete_on_termination=keep)
            if other.id == disk.id
            else other
            for other in present
        ]
        servers.set_disks(tx, server_id, changed, now=call.clock.now())

    await cell.db.run(work)


def _check_unchanged(given: dict[str, Any], server_id: str, disk: Disk) -> None:
    fixed = {
        "device": f"/dev/{disk.device}",
        "tag": disk.tag,
        "serverId": server_id,
        "id": disk.volume_id,
    }
    for name, value in fixed.items():
        if name in given and given[name] not in (None, value):
            raise BadRequest(f"The value of {name} cannot be changed.")


async def _swap(call: Context, found: Found, volume_id: str, new_id: str) -> None:
    server = found.server
    cell = require_cell(found, "swap_volume")
    states.check("attach_volume", server, override_lock=is_admin(call), word="swap_volume")
    if server.vm_state not in (VmState.ACTIVE, VmState.PAUSED, VmState.RESIZED):
        raise states.wrong_state("swap_volume", server.id, "vm_state", server.vm_state)
    disk = _of(await _disks(found), server.id, volume_id)
    try:
        new = await call.app.volumes.show(new_id, token=call.caller.token)
        old = await call.app.volumes.show(volume_id)
    except NotFound as error:
        raise BadRequest(error.message) from None
    check_usable(new)
    if new.size < old.size:
        raise BadRequest(
            "Invalid volume: New volume must be the same size or larger than the current one."
        )
    if old.multiattach and len(old.attachments) > 1:
        raise BadRequest(f"Volume {volume_id} is attached more than once and cannot be swapped.")
    await _begin_detaching(call, disk)
    attachment = ""
    try:
        attachment = await _reserve(call, new_id, server.id)
        args = SwapSaga(server.id, disk.id, new_id, attachment)
        await _accept(call, cell, server.id, disk, SWAP_VOLUME, args, word="swap_volume")
    except Fault:
        if attachment:
            await call.app.volumes.release(attachment)
        await call.app.volumes.roll_detaching(volume_id)
        raise
    await call.app.wake()
