"""``POST /volumes/{id}/action``: one function for each action."""

from __future__ import annotations

from typing import Any

from kilonova.base.errors import BadRequest, NotFound
from kilonova.db.database import Tx
from kilonova.embedded.volume import views
from kilonova.embedded.volume.api.metadata import texts
from kilonova.embedded.volume.api.volumes import begin_delete
from kilonova.embedded.volume.app import Volumes, expect_status, find_type, show, visible
from kilonova.embedded.volume.attaching import connection, export, reserve, settle
from kilonova.embedded.volume.guarding import guard
from kilonova.embedded.volume.records import (
    ATTACH_STATUSES,
    STATUSES,
    Attachment,
    Volume,
    VolumeType,
    Work,
)
from kilonova.embedded.volume.schemas import (
    ANY,
    BOOLEAN,
    METADATA,
    UUID_OR_NULL,
    body,
    closed,
    truth,
)
from kilonova.embedded.volume.store import quotas, rows
from kilonova.imagefile import EXPECTED
from kilonova.web.call import Call, Reply
from kilonova.web.routes import Routes
from kilonova.web.schema import since

routes: Routes[Volumes] = Routes(prefix="/volumes/{volume_id}/action", tag="volume actions")

_NOTHING = {"type": ["object", "null", "string"]}


async def _move(
    call: Call[Volumes], volume_id: str, before: tuple[str, ...], after: str, what: str
) -> None:
    await show(call, Volume, volume_id, "volume:attach")

    def work(tx: Tx) -> None:
        item = visible(tx, Volume, volume_id, call.caller, lock=True)
        expect_status(item, before, what)
        rows.change(tx, Volume, volume_id, status=after, updated_at=call.app.clock.now())

    await call.app.db.run(work)


async def _back(call: Call[Volumes], volume_id: str, left: str) -> None:
    """From the status ``left`` back to what the attachments mean; any other status stays."""
    await show(call, Volume, volume_id, "volume:attach")

    def work(tx: Tx) -> None:
        item = visible(tx, Volume, volume_id, call.caller, lock=True)
        if item.status == left:
            settle(tx, volume_id, call.app.clock.now())

    await call.app.db.run(work)


@routes.post("", action="os-reserve", body=body("os-reserve", _NOTHING), status=202)
async def reserve_(call: Call[Volumes], volume_id: str) -> None:
    """Keep the volume from others before it is attached."""
    await _move(call, volume_id, ("available",), "attaching", "reserve")


@routes.post("", action="os-unreserve", body=body("os-unreserve", _NOTHING), status=202)
async def unreserve(call: Call[Volumes], volume_id: str) -> None:
    """The opposite."""
    await _back(call, volume_id, "attaching")


@routes.post("", action="os-begin_detaching", body=body("os-begin_detaching", _NOTHING), status=202)
async def begin_detaching(call: Call[Volumes], volume_id: str) -> None:
    """Say that the volume is about to be detached."""
    await _move(call, volume_id, ("in-use",), "detaching", "detach")


@routes.post("", action="os-roll_detaching", body=body("os-roll_detaching", _NOTHING), status=202)
async def roll_detaching(call: Call[Volumes], volume_id: str) -> None:
    """It was not detached after all."""
    await _back(call, volume_id, "detaching")


@routes.post(
    "",
    action="os-attach",
    body=body(
        "os-attach",
        closed(
            {
                "instance_uuid": UUID_OR_NULL,
                "mountpoint": {"type": "string", "minLength": 1, "maxLength": 255},
                "host_name": {"type": ["string", "null"], "maxLength": 255},
                "mode": {"type": "string", "enum": ["rw", "ro"]},
            },
            "mountpoint",
        ),
    ),
    status=202,
)
async def attach(call: Call[Volumes], volume_id: str) -> None:
    """Record that a server or host has the volume."""
    await show(call, Volume, volume_id, "volume:attach")
    given = call.body["os-attach"]
    if not given.get("instance_uuid") and not given.get("host_name"):
        raise BadRequest("A server or a host must be named.")
    now = call.app.clock.now()
    made = Attachment(
        id=call.ids.uuid(),
        volume_id=volume_id,
        server_id=given.get("instance_uuid"),
        status="attached",
        mode=given.get("mode", "rw"),
        mountpoint=given["mountpoint"],
        connector={"host": given["host_name"]} if given.get("host_name") else {},
        attached_at=now,
        created_at=now,
    )

    def work(tx: Tx) -> None:
        item = visible(tx, Volume, volume_id, call.caller, lock=True)
        if rows.find(tx, Attachment, made.id) is not None:
            return
        if item.status == "attaching" and not rows.where(tx, Attachment, volume_id=volume_id):
            rows.create(tx, made)
            settle(tx, volume_id, now)
        else:
            reserve(tx, item, made, now)

    await call.app.db.run(work)


@routes.post(
    "",
    action="os-detach",
    body=body(
        "os-detach",
        {"type": ["object", "null"], "properties": {"attachment_id": UUID_OR_NULL}},
    ),
    status=202,
)
async def detach(call: Call[Volumes], volume_id: str) -> None:
    """Record that nobody, or not this attachment's server, has the volume any more."""
    await show(call, Volume, volume_id, "volume:attach")
    wanted = (call.body["os-detach"] or {}).get("attachment_id")
    await guard(call, volume_id, wanted)

    def work(tx: Tx) -> None:
        visible(tx, Volume, volume_id, call.caller, lock=True)
        found = rows.where(tx, Attachment, volume_id=volume_id)
        if wanted is not None and wanted not in {item.id for item in found}:
            raise BadRequest(f"Attachment {wanted} is none of volume {volume_id}.")
        if wanted is None and len(found) > 1:
            raise BadRequest("Detach volume failed: More than one attachment; name one.")
        for item in found:
            if wanted in (None, item.id):
                rows.delete(tx, Attachment, item.id)
        settle(tx, volume_id, call.app.clock.now())

    await call.app.db.run(work)
    await export(call.app, volume_id)


@routes.post(
    "",
    action="os-extend",
    body=body(
        "os-extend",
        closed(
            {"new_size": {"type": ["integer", "string"], "pattern": "^[0-9]+$", "minimum": 1}},
            "new_size",
        ),
    ),
    status=202,
)
async def extend(call: Call[Volumes], volume_id: str) -> None:
    """Make a volume greater; one in use from 3.42 on, and its servers are told."""
    await show(call, Volume, volume_id, "volume:extend")
    size = int(call.body["os-extend"]["new_size"])

    def work(tx: Tx) -> None:
        item = visible(tx, Volume, volume_id, call.caller, lock=True)
        allowed = ("available", "in-use") if call.version >= 42 else ("available",)
        expect_status(item, allowed, "extend")
        if size <= item.size:
            raise BadRequest(
                f"Invalid input received: New size for extend must be greater than current size. "
                f"(current: {item.size}, extended: {size})."
            )
        quotas.fit(tx, call.app.settings, item.project_id, gigabytes=size - item.size, size=size)
        servers = {
            a.server_id for a in rows.where(tx, Attachment, volume_id=volume_id) if a.server_id
        }
        job = Work("extend", size=size, after=item.status, server_ids=tuple(sorted(servers)))
        rows.change(tx, Volume, volume_id, status="extending", job=job)

    await call.app.db.run(work)
    call.app.worker.begin(volume_id)


@routes.post("", action="os-reset_status", body=body("os-reset_status", _NOTHING), status=202)
async def reset_status(call: Call[Volumes], volume_id: str) -> None:
    """Write a status as an administrator says it is."""
    await show(call, Volume, volume_id, "volume:reset_status")
    given = call.body["os-reset_status"] or {}
    status, attach = given.get("status"), given.get("attach_status")
    if not status and not attach and "migration_status" not in given:
        raise BadRequest("Must specify 'status', 'attach_status' or 'migration_status'.")
    if (status and status not in STATUSES) or (attach and attach not in ATTACH_STATUSES):
        raise BadRequest(f"There is no status {status or attach}.")

    def work(tx: Tx) -> None:
        if attach == "detached":
            for item in rows.where(tx, Attachment, volume_id=volume_id):
                rows.delete(tx, Attachment, item.id)
        if status:
            rows.change(tx, Volume, volume_id, status=status, job=None)

    await call.app.db.run(work)
    await export(call.app, volume_id)


@routes.post("", action="os-force_delete", body=body("os-force_delete", ANY), status=202)
async def force_delete(call: Call[Volumes], volume_id: str) -> None:
    """Delete a volume in any status."""
    await show(call, Volume, volume_id, "volume:force_delete")
    await begin_delete(call, volume_id, force=True)


@routes.post("", action="os-force_detach", body=body("os-force_detach", _NOTHING), status=202)
async def force_detach(call: Call[Volumes], volume_id: str) -> None:
    """Forget an attachment whatever its server says."""
    await show(call, Volume, volume_id, "volume:reset_status")
    wanted = (call.body["os-force_detach"] or {}).get("attachment_id")
    await guard(call, volume_id, wanted)

    def work(tx: Tx) -> None:
        for item in rows.where(tx, Attachment, volume_id=volume_id):
            if wanted in (None, item.id):
                rows.delete(tx, Attachment, item.id)
        settle(tx, volume_id, call.app.clock.now())

    await call.app.db.run(work)
    await export(call.app, volume_id)


@routes.post(
    "",
    action="os-set_bootable",
    body=body("os-set_bootable", closed({"bootable": BOOLEAN}, "bootable")),
)
async def set_bootable(call: Call[Volumes], volume_id: str) -> None:
    """Say whether servers can start from it."""
    await show(call, Volume, volume_id, "volume:update")
    value = truth(call.body["os-set_bootable"]["bootable"])
    await call.app.db.run(rows.change, Volume, volume_id, bootable=value)


@routes.post(
    "",
    action="os-update_readonly_flag",
    body=body("os-update_readonly_flag", closed({"readonly": BOOLEAN}, "readonly")),
    status=202,
)
async def set_readonly(call: Call[Volumes], volume_id: str) -> None:
    """Say whether servers may write to it."""
    await show(call, Volume, volume_id, "volume:update")
    value = truth(call.body["os-update_readonly_flag"]["readonly"])

    def work(tx: Tx) -> None:
        item = visible(tx, Volume, volume_id, call.caller, lock=True)
        expect_status(item, ("available",), "change its read-only flag")
        rows.change(tx, Volume, volume_id, readonly=value)

    await call.app.db.run(work)


@routes.post(
    "",
    action="os-retype",
    body=body(
        "os-retype",
        closed(
            {
                "new_type": {"type": "string", "minLength": 1, "maxLength": 255},
                "migration_policy": {"type": ["string", "null"]},
            },
            "new_type",
        ),
    ),
    status=202,
)
async def retype(call: Call[Volumes], volume_id: str) -> None:
    """Give it another type; there is one back end, so the data stays where it is."""
    await show(call, Volume, volume_id, "volume:retype")

    def work(tx: Tx) -> None:
        item = visible(tx, Volume, volume_id, call.caller, lock=True)
        expect_status(item, ("available", "in-use"), "retype")
        try:
            kind = find_type(tx, call.body["os-retype"]["new_type"], call.caller)
        except NotFound as error:
            raise BadRequest(error.message) from None
        if kind.id == item.type_id:
            raise BadRequest(f"Invalid input received: Volume is already of type {kind.name}.")
        if item.status == "in-use" and kind.multiattach != item.multiattach:
            raise BadRequest("A volume in use cannot change whether it takes several attachments.")
        rows.change(tx, Volume, volume_id, type_id=kind.id, multiattach=kind.multiattach)

    await call.app.db.run(work)


_UPLOAD = body(
    "os-volume_upload_image",
    closed(
        {
            "image_name": {"type": "string", "minLength": 1, "maxLength": 255},
            "force": BOOLEAN,
            "disk_format": {"type": "string", "enum": sorted({*EXPECTED} - {"iso", "ami"})},
            "container_format": {"type": "string", "enum": ["bare"]},
            "visibility": since(1, {"enum": ["public", "private", "shared", "community"]}),
            "protected": since(1, BOOLEAN),
        },
        "image_name",
    ),
)


@routes.post("", action="os-volume_upload_image", body=_UPLOAD, status=202)
async def upload(call: Call[Volumes], volume_id: str) -> Reply:
    """Make an image of the volume's data; the data follows."""
    item = await show(call, Volume, volume_id, "volume:upload")
    given = call.body["os-volume_upload_image"]
    force = truth(given.get("force"))
    allowed = ("available", "in-use") if force else ("available",)
    expect_status(item, allowed, "upload")
    disk_format = given.get("disk_format", "raw")
    document: dict[str, Any] = {
        "name": given["image_name"],
        "disk_format": disk_format,
        "container_format": "bare",
        "min_disk": item.size,
    }
    for name in ("visibility", "protected"):
        if name in given:
            document[name] = given[name] if name == "visibility" else truth(given[name])
    for name, value in item.image_metadata.items():
        if name.startswith(("hw_", "os_")) and name not in document:
            document[name] = value
    image = await call.app.images.create(document, call.caller.token)

    def work(tx: Tx) -> None:
        present = visible(tx, Volume, volume_id, call.caller, lock=True)
        expect_status(present, allowed, "upload")
        job = Work("upload", image["id"], after=present.status, disk_format=disk_format)
        rows.change(tx, Volume, volume_id, status="uploading", job=job)

    await call.app.db.run(work)
    call.app.worker.begin(volume_id)
    kinds = {kind.id: kind for kind in await call.app.db.read(rows.where, VolumeType)}
    kind = kinds.get(item.type_id)
    shown: dict[str, Any] = {
        "id": volume_id,
        "updated_at": views.time(item.updated_at),
        "status": "uploading",
        "display_description": item.description,
        "size": item.size,
        "volume_type": None if kind is None else views.volume_type(call, kind),
        "image_id": image["id"],
        "container_format": "bare",
        "disk_format": disk_format,
        "image_name": given["image_name"],
    }
    if call.version >= 1:
        shown["visibility"] = given.get("visibility", "private")
        shown["protected"] = truth(given.get("protected"))
    return Reply({"os-volume_upload_image": shown}, status=202)


_CONNECTOR = closed({"connector": {"type": "object"}}, "connector")


@routes.post(
    "", action="os-initialize_connection", body=body("os-initialize_connection", _CONNECTOR)
)
async def initialize(call: Call[Volumes], volume_id: str) -> dict[str, Any]:
    """How a host reaches the volume."""
    item = await show(call, Volume, volume_id, "volume:attach")
    return {"connection_info": connection(call.app, item, "rw")}


@routes.post(
    "",
    action="os-terminate_connection",
    body=body("os-terminate_connection", {"type": "object"}),
    status=202,
)
async def terminate(call: Call[Volumes], volume_id: str) -> None:
    """A file needs no end of its use."""
    await show(call, Volume, volume_id, "volume:attach")
    await guard(call, volume_id)


@routes.post(
    "",
    action="os-set_image_metadata",
    body=body("os-set_image_metadata", closed({"metadata": METADATA}, "metadata")),
)
async def set_image_metadata(call: Call[Volumes], volume_id: str) -> dict[str, Any]:
    """Add to what servers started from it take for properties of their image."""
    await show(call, Volume, volume_id, "volume:update")
    given = texts(call.body["os-set_image_metadata"]["metadata"])

    def work(tx: Tx) -> dict[str, str]:
        item = visible(tx, Volume, volume_id, call.caller, lock=True)
        after = {**item.image_metadata, **given}
        rows.change(tx, Volume, volume_id, image_metadata=after)
        return after

    return {"metadata": await call.app.db.run(work)}


@routes.post(
    "",
    action="os-unset_image_metadata",
    body=body("os-unset_image_metadata", closed({"key": {"type": "string"}}, "key")),
)
async def unset_image_metadata(call: Call[Volumes], volume_id: str) -> None:
    """Remove one of them."""
    await show(call, Volume, volume_id, "volume:update")
    key = call.body["os-unset_image_metadata"]["key"]

    def work(tx: Tx) -> None:
        item = visible(tx, Volume, volume_id, call.caller, lock=True)
        if key not in item.image_metadata:
            raise NotFound(f"Metadata item was not found: {key}")
        left = {name: value for name, value in item.image_metadata.items() if name != key}
        rows.change(tx, Volume, volume_id, image_metadata=left)

    await call.app.db.run(work)


@routes.post("", action="os-show_image_metadata", body=body("os-show_image_metadata", ANY))
async def show_image_metadata(call: Call[Volumes], volume_id: str) -> dict[str, Any]:
    """All of them."""
    return {"metadata": (await show(call, Volume, volume_id)).image_metadata}
