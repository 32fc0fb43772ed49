"""Snapshots of volumes."""

from __future__ import annotations

from typing import Any

from kilonova.base.errors import BadRequest
from kilonova.db.database import Tx
from kilonova.embedded.volume import query, views
from kilonova.embedded.volume.api import metadata
from kilonova.embedded.volume.api.metadata import texts
from kilonova.embedded.volume.app import Volumes, expect_status, show, visible
from kilonova.embedded.volume.records import STATUSES, Snapshot, Volume, Work
from kilonova.embedded.volume.schemas import (
    CREATE_SNAPSHOT,
    UPDATE_SNAPSHOT,
    body,
    truth,
)
from kilonova.embedded.volume.store import quotas, rows
from kilonova.web import pages
from kilonova.web.call import Call, Reply
from kilonova.web.routes import Routes

routes: Routes[Volumes] = Routes(prefix="/snapshots", tag="snapshots")

FILTERS = frozenset({"id", "name", "status", "volume_id", "user_id", "size"})
SORT_KEYS = ("id", "status", "name", "display_name", "created_at", "volume_id", "size")


async def _list(call: Call[Volumes], *, detail: bool) -> dict[str, Any]:
    wanted, part = query.wanted(call, filters=FILTERS, sort_keys=SORT_KEYS)
    found = await call.app.db.read(rows.page, Snapshot, wanted)
    shown, more = query.cut(found, part.limit)
    answer: dict[str, Any] = {
        "snapshots": [views.snapshot(call, item, detail=detail) for item in shown]
    }
    if more and shown:
        answer["snapshots_links"] = [pages.next_link(call, shown[-1].id)]
    if call.version >= 45 and call.query.flag("with_count"):
        answer["count"] = await call.app.db.read(rows.count, Snapshot, wanted)
    return answer


@routes.get("", policy="volume:get")
async def index(call: Call[Volumes]) -> dict[str, Any]:
    """Snapshots."""
    return await _list(call, detail=False)


@routes.get("/detail", policy="volume:get")
async def detail(call: Call[Volumes]) -> dict[str, Any]:
    """Snapshots with details."""
    return await _list(call, detail=True)


@routes.post("", status=202, body=CREATE_SNAPSHOT)
async def create(call: Call[Volumes]) -> Reply:
    """Copy a volume as it is now; one in use with ``force``, from 3.66 on without."""
    given = call.body["snapshot"]
    volume_id = given["volume_id"]
    await show(call, Volume, volume_id, "volume:snapshot")
    force = truth(given.get("force"))
    if call.version >= 66 and "force" in given and not force:
        raise BadRequest("Invalid value for force: from 3.66 on it can only be true.")
    key, now = call.ids.uuid(), call.app.clock.now()

    def work(tx: Tx) -> Snapshot:
        present = rows.find(tx, Snapshot, key)
        if present is not None:
            return present
        volume = visible(tx, Volume, volume_id, call.caller, lock=True)
        free = force or call.version >= 66
        expect_status(volume, ("available", "in-use") if free else ("available",), "snapshot")
        made = Snapshot(
            id=key,
            project_id=volume.project_id,
            user_id=call.caller.user_id,
            volume_id=volume_id,
            type_id=volume.type_id,
            name=given.get("name", given.get("display_name")),
            description=given.get("description"),
            size=volume.size,
            status="creating",
            metadata=texts(given.get("metadata")),
            job=Work("copy", volume_id),
            created_at=now,
            updated_at=None,
        )
        settings = call.app.settings
        quotas.fit(tx, settings, volume.project_id, snapshots=1, gigabytes=volume.size)
        rows.create(tx, made)
        return made

    made = await call.app.db.run(work)
    call.app.worker.begin(made.id)
    return Reply({"snapshot": views.snapshot(call, made, detail=False)}, status=202)


@routes.get("/{snapshot_id}")
async def get(call: Call[Volumes], snapshot_id: str) -> dict[str, Any]:
    """One snapshot."""
    return {"snapshot": views.snapshot(call, await show(call, Snapshot, snapshot_id))}


@routes.put("/{snapshot_id}", body=UPDATE_SNAPSHOT)
async def update(call: Call[Volumes], snapshot_id: str) -> dict[str, Any]:
    """Change name and description."""
    await show(call, Snapshot, snapshot_id, "volume:snapshot")
    given = call.body["snapshot"]
    changes: dict[str, Any] = {"updated_at": call.app.clock.now()}
    if "name" in given or "display_name" in given:
        changes["name"] = given.get("name", given.get("display_name"))
    if "description" in given:
        changes["description"] = given["description"]
    await call.app.db.run(rows.change, Snapshot, snapshot_id, **changes)
    return await get(call, snapshot_id)


@routes.delete("/{snapshot_id}", status=202)
async def delete(call: Call[Volumes], snapshot_id: str) -> None:
    """Remove a snapshot."""
    await show(call, Snapshot, snapshot_id, "volume:snapshot")

    def work(tx: Tx) -> bool:
        item = visible(tx, Snapshot, snapshot_id, call.caller, lock=True)
        if item.status == "deleting":
            return False
        expect_status(item, ("available", "error", "error_deleting"), "delete")
        for volume in rows.pending(tx, Volume):
            if volume.job is not None and volume.job.source == snapshot_id:
                raise BadRequest(f"Invalid snapshot: Snapshot {snapshot_id} is being copied.")
        rows.change(tx, Snapshot, snapshot_id, status="deleting", job=Work("delete"))
        return True

    if await call.app.db.run(work):
        call.app.worker.begin(snapshot_id)


@routes.post(
    "/{snapshot_id}/action",
    action="os-reset_status",
    body=body("os-reset_status", {"type": "object"}),
    status=202,
)
async def reset_status(call: Call[Volumes], snapshot_id: str) -> None:
    """Write a status as an administrator says it is."""
    await show(call, Snapshot, snapshot_id, "volume:snapshot_reset")
    status = call.body["os-reset_status"].get("status")
    if status not in STATUSES:
        raise BadRequest(f"There is no status {status}.")
    await call.app.db.run(rows.change, Snapshot, snapshot_id, status=status, job=None)


@routes.post(
    "/{snapshot_id}/action",
    action="os-update_snapshot_status",
    body=body("os-update_snapshot_status", {"type": ["object", "null"]}),
    status=202,
)
async def update_status(call: Call[Volumes], snapshot_id: str) -> None:
    """What the compute service says of a snapshot it made of a volume in use."""
    await show(call, Snapshot, snapshot_id, "volume:snapshot_reset")
    status = (call.body["os-update_snapshot_status"] or {}).get("status")
    if status not in ("creating", "deleting", "error", "error_deleting", "available"):
        raise BadRequest(f"There is no status {status}.")
    await call.app.db.run(rows.change, Snapshot, snapshot_id, status=status)


metadata.add(routes, Snapshot, "volume:snapshot")
