"""``createImage``, ``createBackup``: the image is there before the answer, its data comes later."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from kilonova.api import quota_rules, volume_images
from kilonova.api.actions.checks import check
from kilonova.api.actions.power import PATH
from kilonova.api.find import Found, find, is_admin, missing, require_cell, target
from kilonova.api.schemas import METADATA, NAME, UUID, closed
from kilonova.api.work import record, start
from kilonova.base.errors import BadRequest, Fault, Forbidden, TooLarge
from kilonova.context import Context, Services
from kilonova.db.cells import Cell
from kilonova.db.database import Tx
from kilonova.domain import imaging, quotas
from kilonova.domain.imaging import NewImage
from kilonova.domain.sagas import CREATE_BACKUP, CREATE_IMAGE, BackupSaga, ImageSaga, SagaKind
from kilonova.domain.server import Private, Server
from kilonova.domain.states import Task
from kilonova.store import servers
from kilonova.web.call import Reply
from kilonova.web.routes import Routes
from kilonova.web.schema import Schema, since

A = TypeVar("A", bound=msgspec.Struct)

ROUTES: Routes[Services] = Routes(tag="server actions")
IMAGE_RULE = "os_compute_api:servers:create_image"
VOLUMES_RULE = f"{IMAGE_RULE}:allow_volume_backed"
BACKUP_RULE = "os_compute_api:os-create-backup"

IMAGE = Schema(
    closed({"createImage": closed({"name": NAME, "metadata": METADATA}, "name")}, "createImage")
)
BACKUP = Schema(
    closed(
        {
            "createBackup": closed(
                {
                    "name": NAME,
                    "backup_type": {"type": "string"},
                    "rotation": {
                        "type": ["integer", "string"],
                        "pattern": "^[0-9]*$",
                        "minimum": 0,
                        "minLength": 1,
                    },
                    "metadata": METADATA,
                },
                "name",
                "backup_type",
                "rotation",
            )
        },
        "createBackup",
    )
)
MADE = Schema(since(45, closed({"image_id": UUID}, "image_id")))


@ROUTES.post(
    PATH, action="createImage", body=IMAGE, status=202, responses=MADE, summary="Make an image"
)
async def create_image(call: Context, server_id: str) -> Reply:
    """An image of the server's disk; of one on volumes, snapshots of these."""
    given = call.body["createImage"]
    found = await find(call, server_id, IMAGE_RULE)
    await _fit(call, given)
    if found.server.local_image is None:
        call.enforce(VOLUMES_RULE, target(found.server))
    check(call, found, "createImage")
    cell, private = await _private(call, found, "createImage")
    wanted = _wanted(call, found.server, private, given)
    if found.server.local_image is None:
        await volume_images.make(call, cell, found.server, private, wanted)
        return await _reply(call, wanted.id)
    args = ImageSaga(server_id, wanted.id)
    task = Task.IMAGE_SNAPSHOT_PENDING
    await _begin(call, cell, wanted, "createImage", task, CREATE_IMAGE, args)
    return await _reply(call, wanted.id)


@ROUTES.post(
    PATH, action="createBackup", body=BACKUP, status=202, responses=MADE, summary="Back up"
)
async def create_backup(call: Context, server_id: str) -> Reply:
    """An image among the newest ``rotation`` of its kind; none is left to be named when 0."""
    given = call.body["createBackup"]
    found = await find(call, server_id, BACKUP_RULE)
    await _fit(call, given)
    check(call, found, "createBackup")
    if found.server.local_image is None:
        raise BadRequest("Backup is not supported for volume-backed instances.")
    cell, private = await _private(call, found, "createBackup")
    rotation, kind = int(given["rotation"]), given["backup_type"]
    wanted = _wanted(call, found.server, private, given, backup_type=kind)
    args = BackupSaga(server_id, wanted.id, kind, rotation)
    task = Task.IMAGE_BACKUP
    await _begin(call, cell, wanted, "createBackup", task, CREATE_BACKUP, args)
    return await _reply(call, wanted.id) if rotation else Reply(status=202)


async def _fit(call: Context, given: dict[str, Any]) -> None:
    """Forbidden for more metadata than the quota allows, up to 2.38."""
    if call.version >= 39:
        return
    caller = call.caller
    rules = await quota_rules.load(call, caller.project_id or "")

    def limits(tx: Tx) -> dict[str, int]:
        return quota_rules.limits(tx, rules, caller.project_id or "", caller.user_id)

    known = await call.app.db.read(limits)
    items = len(given.get("metadata", ()))
    quotas.check(known, "metadata_items", items, unified=rules.unified)


async def _private(call: Context, found: Found, action: str) -> tuple[Cell, Private]:
    cell = require_cell(found, action)
    private = await cell.db.read(servers.private, found.server.id)
    if private is None:
        raise missing(found.server.id)
    return cell, private


def _wanted(
    call: Context, server: Server, private: Private, given: dict[str, Any], *, backup_type: str = ""
) -> NewImage:
    more = dict(given.get("metadata", {}))
    if backup_type:
        more[imaging.BACKUP_TYPE] = backup_type
    return imaging.new_image(
        server,
        private,
        image_id=call.ids.uuid(),
        name=given["name"].strip(),
        user_id=call.caller.user_id,
        project_id=call.caller.project_id or "",
        kind=imaging.BACKUP if backup_type else imaging.SNAPSHOT,
        more=more,
        not_inherited=call.app.settings.default.non_inheritable_image_properties,
    )


async def _begin(
    call: Context,
    cell: Cell,
    wanted: NewImage,
    action: str,
    task: Task,
    kind: SagaKind[A],
    args: A,
) -> None:
    """Make the queued image and start the work that fills it; neither without the other."""
    images = call.app.images
    try:
        await images.create(wanted, token=call.caller.token)
    except TooLarge as fault:
        raise Forbidden(f"Quota exceeded, too many images: {fault.message}") from None
    server_id = wanted.properties[imaging.OF_SERVER]

    def work(tx: Tx) -> None:
        now, override = call.clock.now(), is_admin(call)
        servers.begin(tx, server_id, action, task=task, now=now, override_lock=override)
        record(tx, call, kind.action, server_id)
        start(tx, call, kind, args, server_id)

    try:
        await cell.db.run(work)
    except Fault:
        await images.delete(wanted.id, token=call.caller.token)
        raise
    await call.app.wake()


async def _reply(call: Context, image_id: str) -> Reply:
    if call.version >= 45:
        return Reply({"image_id": image_id}, status=202)
    return Reply(status=202, headers={"Location": await call.app.images.url_of(image_id)})
