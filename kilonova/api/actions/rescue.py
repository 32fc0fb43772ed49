"""``rescue``, ``unrescue``, ``changePassword``: getting into a server that is locked or broken."""

from __future__ import annotations

import base64
from typing import Any

from kilonova.api.actions.checks import check
from kilonova.api.actions.power import PATH, run
from kilonova.api.actions.rebuild import refuse_vtpm
from kilonova.api.find import find, is_admin, require_cell
from kilonova.api.inspect import PASSWORD as KEPT
from kilonova.api.schemas import UUID, closed
from kilonova.api.work import record, start
from kilonova.base.aio import backoff
from kilonova.base.errors import (
    BadRequest,
    Conflict,
    Fault,
    Forbidden,
    NotFound,
    NotSupported,
    Timeout,
)
from kilonova.context import Context, Services
from kilonova.db.cells import Cell
from kilonova.db.database import Tx
from kilonova.domain import rescue as rescuing
from kilonova.domain.disks import on_volume
from kilonova.domain.guest import ImageRef
from kilonova.domain.operations import SET_PASSWORD as OPERATION
from kilonova.domain.resources import Action
from kilonova.domain.sagas import (
    RESCUE,
    SET_PASSWORD,
    UNRESCUE,
    RescueArgs,
    SagaKind,
    ServerArgs,
)
from kilonova.domain.server import Private, Server
from kilonova.domain.states import Task
from kilonova.interfaces.volume import Volume
from kilonova.store import actions, nodes, pending, servers
from kilonova.store.pending import Pending
from kilonova.web.routes import Routes
from kilonova.web.schema import Schema, shape

ROUTES: Routes[Services] = Routes(tag="server actions")
ON_VOLUMES = 87
"""The microversion from which a server on a volume can be rescued."""
RESCUES_VOLUMES = "COMPUTE_RESCUE_BFV"
IN_USE = "in-use"
FINISH_SECONDS = 60.0

RESCUE_BODY = Schema(
    closed(
        {
            "rescue": closed(
                {"adminPass": {"type": "string"}, "rescue_image_ref": UUID},
                type=["object", "null"],
            )
        },
        "rescue",
    )
)
UNRESCUE_BODY = Schema(closed({"unrescue": {}}, "unrescue"))
PASSWORD_BODY = Schema(
    closed(
        {"changePassword": closed({"adminPass": {"type": "string"}}, "adminPass")},
        "changePassword",
    )
)


@ROUTES.post(
    PATH,
    action="rescue",
    body=RESCUE_BODY,
    responses=Schema(shape({"adminPass?": str})),
    summary="Rescue",
)
async def rescue(call: Context, server_id: str) -> dict[str, Any]:
    """Boot from another image, with the server's disk beside it."""
    given = call.body["rescue"] or {}
    found = await find(call, server_id, "os_compute_api:os-rescue")
    check(call, found, "rescue")
    cell = require_cell(found, "rescue")
    private = await cell.db.read(servers.private, server_id) or Private()
    refuse_vtpm("rescue", found.server, private)
    named = given.get("rescue_image_ref")
    image = await _image(call, found.server, private, named)
    rescuing.check(image.properties)
    await _check_volumes(call, cell, found.server, private, image)
    password = given.get("adminPass") or call.ids.token(9)
    args = RescueArgs(server_id, image, named)
    await cell.db.run(_begin, call, "rescue", Task.RESCUING, RESCUE, args, password)
    await call.app.wake()
    return {"adminPass": password} if call.app.settings.api.enable_instance_password else {}


@ROUTES.post(PATH, action="unrescue", body=UNRESCUE_BODY, status=202, summary="Unrescue")
async def unrescue(call: Context, server_id: str) -> None:
    """Boot from the server's own disk again."""
    await run(
        call,
        server_id,
        "os_compute_api:os-unrescue",
        "unrescue",
        Task.UNRESCUING,
        UNRESCUE,
        ServerArgs(server_id),
    )


@ROUTES.post(
    PATH,
    action="changePassword",
    body=PASSWORD_BODY,
    status=202,
    also=(501,),
    summary="Change the administrator's password",
)
async def change_password(call: Context, server_id: str) -> None:
    """By the agent inside the guest; answers when it has."""
    password = call.body["changePassword"]["adminPass"]
    found = await find(call, server_id, "os_compute_api:os-admin-password")
    check(call, found, "changePassword")
    cell = require_cell(found, "changePassword")
    task, args = Task.UPDATING_PASSWORD, ServerArgs(server_id)
    await cell.db.run(_begin, call, "changePassword", task, SET_PASSWORD, args, password)
    await call.app.wake()
    await _ended(call, cell, server_id)
    await cell.db.run(_keep, call, server_id, password)


def _begin(
    tx: Tx,
    call: Context,
    action: str,
    task: Task,
    kind: SagaKind[Any],
    args: RescueArgs | ServerArgs,
    password: str,
) -> None:
    private = servers.private(tx, args.server_id)
    servers.begin(
        tx,
        args.server_id,
        action,
        task=task,
        now=call.clock.now(),
        override_lock=is_admin(call),
        system=pending.put(private.system if private is not None else {}, Pending(password)),
    )
    record(tx, call, kind.action, args.server_id)
    start(tx, call, kind, args, args.server_id)


# -- rescue ---------------------------------------------------------------------------------------


async def _image(call: Context, server: Server, private: Private, named: str | None) -> ImageRef:
    """The image to start from: the one named, the operator's, the one the server's image was made
    from, or the server's own; BadRequest."""
    chosen = named or call.app.settings.libvirt.rescue_image_id
    if chosen is not None:
        return await _look(call, chosen)
    if server.image is None or server.from_volume:
        root = next((disk for disk in private.disks if disk.role == "root"), None)
        volume_id = root.volume_id if root is not None else None
        volume = await call.app.volumes.show(volume_id) if volume_id else Volume("", 0, "")
        return await _look(call, volume.image_metadata.get("image_id") or "")
    base = server.image.properties.get("base_image_ref")
    if base and base != server.image.id:
        try:
            return await _look(call, base)
        except BadRequest:
            return server.image
    return server.image


async def _look(call: Context, image_id: str) -> ImageRef:
    unsupported = BadRequest(f"Requested rescue image '{image_id}' is not supported")
    if not image_id:
        raise unsupported
    try:
        image = await call.app.images.show(image_id, token=call.caller.token)
    except (NotFound, Forbidden, BadRequest):
        raise unsupported from None
    if image.status != "active" or image.properties.get("block_device_mapping"):
        raise unsupported
    return ImageRef(**{name: getattr(image, name) for name in ImageRef.__struct_fields__})


async def _check_volumes(
    call: Context, cell: Cell, server: Server, private: Private, image: ImageRef
) -> None:
    """Conflict unless the server's volumes are in use; BadRequest when it cannot be rescued with
    them."""
    for disk in private.disks:
        if disk.volume_id is not None:
            volume = await call.app.volumes.show(disk.volume_id)
            if volume.status != IN_USE:
                raise Conflict(
                    f"Invalid volume: volume '{volume.id}' status must be 'in-use'. Currently in "
                    f"'{volume.status}' status"
                )
    if not on_volume(private.disks):
        return
    why = ""
    if call.version < ON_VOLUMES:
        why = "Cannot rescue a volume-backed instance"
    elif not any(
        RESCUES_VOLUMES in report.traits
        for report in await cell.db.read(nodes.reports, server.host or "")
    ):
        why = "Host unable to rescue a volume-backed instance"
    elif not rescuing.stable(image.properties):
        why = "A volume-backed instance needs an image with hw_rescue_device or hw_rescue_bus"
    if why:
        raise BadRequest(f"Instance {server.id} cannot be rescued: {why}")


# -- passwords ------------------------------------------------------------------------------------


async def _ended(call: Context, cell: Cell, server_id: str) -> None:
    """Wait for the end of the work; the Fault it ended with, or Timeout."""
    pauses = backoff(0.02, most=0.5)
    end = call.clock.monotonic() + OPERATION.seconds + FINISH_SECONDS
    while call.clock.monotonic() < end:
        action = await cell.db.read(actions.show, server_id, call.request_id)
        if action is not None and action.finish is not None:
            if action.message is not None:
                raise _failed(server_id, action)
            return
        await call.clock.sleep(next(pauses))
    raise Timeout(f"The password of {server_id} is not set yet; look at its actions.")


def _failed(server_id: str, action: Action) -> Fault:
    """What the saga failed with, as the clients know it."""
    event = action.events[0] if action.events else None
    kind = (event.traceback or "").partition(" ")[0] if event is not None else ""
    text = (event.details or "") if event is not None else ""
    if kind == NotSupported.__name__:
        return NotSupported(text)
    reason = text if kind == Conflict.__name__ else "error setting admin password"
    return Conflict(f"Failed to set admin password on {server_id} because {reason}")


def _keep(tx: Tx, call: Context, server_id: str, password: str) -> None:
    """For the owner's RSA key, which alone can read it then; other keys have nothing kept."""
    private = servers.private(tx, server_id)
    if private is None or servers.get(tx, server_id) is None:
        return
    if not private.public_key:
        return
    from kilonova.api import crypto  # noqa: PLC0415 (slow to import, and seldom needed)

    sealed = crypto.encrypt(private.public_key, password.encode())
    if sealed is not None:
        servers.note(tx, server_id, KEPT, base64.b64encode(sealed).decode(), now=call.clock.now())
