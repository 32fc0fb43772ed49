"""Attachments (3.27): who uses a volume, from the reservation to the end."""

from __future__ import annotations

from typing import Any

import msgspec

from kilonova.base.errors import BadRequest, Conflict, NotFound
from kilonova.db.database import Tx
from kilonova.embedded.volume import query, views
from kilonova.embedded.volume.app import Volumes, show, visible
from kilonova.embedded.volume.attaching import export, flat, reserve, settle
from kilonova.embedded.volume.guarding import guard
from kilonova.embedded.volume.records import Attachment, Volume
from kilonova.embedded.volume.rules import is_admin
from kilonova.embedded.volume.schemas import CREATE_ATTACHMENT, UPDATE_ATTACHMENT
from kilonova.embedded.volume.store import rows
from kilonova.web import pages
from kilonova.web.call import Call
from kilonova.web.routes import Routes

routes: Routes[Volumes] = Routes(prefix="/attachments", tag="attachments")


def _find(tx: Tx, call: Call[Volumes], attachment_id: str) -> tuple[Attachment, Volume]:
    item = rows.find(tx, Attachment, attachment_id, lock=True)
    volume = rows.find(tx, Volume, item.volume_id, lock=True) if item else None
    allowed = volume is not None and (
        is_admin(call.caller) or volume.project_id == call.caller.project_id
    )
    if item is None or volume is None or not allowed:
        raise NotFound(f"Volume attachment could not be found with filter: id = {attachment_id}.")
    return item, volume


@routes.post("", body=CREATE_ATTACHMENT, since=27)
async def create(call: Call[Volumes]) -> dict[str, Any]:
    """Reserve a volume for a server; with a connector also say how it is reached.

    BadRequest when the volume is not free; a server that has it may ask for another attachment.
    """
    given = call.body["attachment"]
    await show(call, Volume, given["volume_uuid"], "volume:attach")
    now = call.app.clock.now()
    connector = given.get("connector") or {}
    made = Attachment(
        id=call.ids.uuid(),
        volume_id=given["volume_uuid"],
        server_id=given.get("instance_uuid"),
        status="attaching" if connector else "reserved",
        mode=given.get("mode") or connector.get("mode") or "rw",
        mountpoint=connector.get("mountpoint"),
        connector=connector,
        attached_at=None,
        created_at=now,
    )

    def work(tx: Tx) -> Volume:
        volume = visible(tx, Volume, made.volume_id, call.caller, lock=True)
        if rows.find(tx, Attachment, made.id) is None:
            reserve(tx, volume, made, now)
        return volume

    volume = await call.app.db.run(work)
    if connector:
        await export(call.app, volume.id)
    return {"attachment": views.attachment(made, info=flat(call, volume, made))}


@routes.put("/{attachment_id}", body=UPDATE_ATTACHMENT, since=27)
async def update(call: Call[Volumes], attachment_id: str) -> dict[str, Any]:
    """Say from where the volume is used; how it is reached."""
    connector = call.body["attachment"]["connector"]
    now = call.app.clock.now()

    def work(tx: Tx) -> tuple[Attachment, Volume]:
        item, volume = _find(tx, call, attachment_id)
        call.enforce("volume:attach", {"project_id": volume.project_id})
        if not connector:
            raise BadRequest("The connector must not be empty.")
        changed = msgspec.structs.replace(
            item,
            connector=connector,
            mode=connector.get("mode") or item.mode,
            mountpoint=connector.get("mountpoint") or item.mountpoint,
            status="attached" if item.status == "attached" else "attaching",
        )
        rows.change(tx, Attachment, item.id, **msgspec.structs.asdict(changed))
        settle(tx, volume.id, now)
        return changed, volume

    item, volume = await call.app.db.run(work)
    await export(call.app, volume.id)
    return {"attachment": views.attachment(item, info=flat(call, volume, item))}


@routes.post("/{attachment_id}/action", action="os-complete", since=44, status=204)
async def complete(call: Call[Volumes], attachment_id: str) -> None:
    """The server has the volume; also one without a host, which tells its connector later."""
    now = call.app.clock.now()

    def work(tx: Tx) -> None:
        item, volume = _find(tx, call, attachment_id)
        call.enforce("volume:attach", {"project_id": volume.project_id})
        if item.status == "attached":
            return
        rows.change(tx, Attachment, item.id, status="attached", attached_at=now)
        settle(tx, volume.id, now)

    await call.app.db.run(work)


@routes.delete("/{attachment_id}", since=27)
async def delete(call: Call[Volumes], attachment_id: str) -> dict[str, Any]:
    """End the use of a volume; the attachments that are left."""
    now = call.app.clock.now()
    item, volume = await call.app.db.read(_find, call, attachment_id)
    call.enforce("volume:attach", {"project_id": volume.project_id})
    await guard(call, volume.id, attachment_id)
    await export(call.app, volume.id, without=item.id)

    def work(tx: Tx) -> list[Attachment]:
        item, volume = _find(tx, call, attachment_id)
        if volume.status in ("extending", "uploading", "downloading"):
            raise Conflict(f"Volume {volume.id} is {volume.status}; try again when that ended.")
        rows.delete(tx, Attachment, item.id)
        settle(tx, volume.id, now)
        return rows.where(tx, Attachment, volume_id=volume.id)

    left = await call.app.db.run(work)
    # Somebody who came in between may have found it still.
    await export(call.app, volume.id)
    return {"attachments": [views.attachment(item, detail=False) for item in left]}


@routes.get("/{attachment_id}", since=27)
async def get(call: Call[Volumes], attachment_id: str) -> dict[str, Any]:
    """One attachment."""
    item, volume = await call.app.db.read(_find, call, attachment_id)
    return {"attachment": views.attachment(item, info=flat(call, volume, item))}


async def _list(call: Call[Volumes], *, detail: bool) -> dict[str, Any]:
    wanted, part = query.wanted(call, filters=(), sort_keys=("id", "created_at"))
    given = {
        "volume_id": call.query.get("volume_id"),
        "server_id": call.query.get("instance_id") or call.query.get("instance_uuid"),
        "status": call.query.get("status"),
        "id": call.query.get("id"),
    }
    everybody = is_admin(call.caller) and call.query.flag("all_tenants")
    equal: tuple[tuple[str, Any], ...] = tuple(
        (name, value) for name, value in given.items() if value
    )

    def work(tx: Tx) -> tuple[list[Attachment], dict[str, Volume]]:
        own = equal
        if not everybody:
            mine = rows.where(tx, Volume, project_id=call.caller.project_id)
            if "volume_id" not in dict(own):
                own = (*own, ("volume_id", [item.id for item in mine]))
            elif dict(own)["volume_id"] not in {item.id for item in mine}:
                return [], {}
        found = rows.page(tx, Attachment, msgspec.structs.replace(wanted, equal=own))
        ids = sorted({item.volume_id for item in found})
        return found, {item.id: item for item in rows.where(tx, Volume, id=ids)}

    found, volumes = await call.app.db.read(work)
    shown, more = query.cut(found, part.limit)
    body: dict[str, Any] = {
        "attachments": [
            views.attachment(item, info=flat(call, volumes[item.volume_id], item), detail=detail)
            for item in shown
        ]
    }
    if more and shown:
        body["attachments_links"] = [pages.next_link(call, shown[-1].id)]
    return body


@routes.get("", policy="volume:get", since=27)
async def index(call: Call[Volumes]) -> dict[str, Any]:
    """Attachments."""
    return await _list(call, detail=False)


@routes.get("/detail", policy="volume:get", since=27)
async def detail(call: Call[Volumes]) -> dict[str, Any]:
    """Attachments with details."""
    return await _list(call, detail=True)
