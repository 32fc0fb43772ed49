"""Volumes: making, listing, showing, changing and removing them; their metadata."""

from __future__ import annotations

from typing import Any

import msgspec

from kilonova.base.errors import BadRequest, TooLarge
from kilonova.db.database import Tx
from kilonova.embedded.volume import query, views
from kilonova.embedded.volume.api import metadata
from kilonova.embedded.volume.api.metadata import texts
from kilonova.embedded.volume.app import Volumes, expect_status, find_type, show, visible
from kilonova.embedded.volume.making import Source, choose_source, new_volume
from kilonova.embedded.volume.records import Attachment, Snapshot, Volume, VolumeType, Work
from kilonova.embedded.volume.schemas import (
    CREATE_VOLUME,
    UPDATE_VOLUME,
)
from kilonova.embedded.volume.store import quotas, rows
from kilonova.web import pages
from kilonova.web.call import Call, Reply
from kilonova.web.routes import Routes

routes: Routes[Volumes] = Routes(prefix="/volumes", tag="volumes")

FILTERS = frozenset(
    {"id", "name", "status", "bootable", "availability_zone", "user_id", "size", "snapshot_id",
     "source_volid", "multiattach", "description", "type_id"}
)  # fmt: skip
SORT_KEYS = (
    "id", "status", "size", "availability_zone", "display_name", "name", "bootable", "created_at",
    "project_id", "user_id", "updated_at",
)  # fmt: skip
DELETABLE = ("available", "error", "error_restoring", "error_extending", "error_managing")


def around(tx: Tx, found: list[Volume]) -> views.Around:
    """Types and attachments of volumes, a statement each."""
    attachments: dict[str, list[Attachment]] = {}
    ids = [item.id for item in found]
    for start in range(0, len(ids), 500):
        for item in rows.where(tx, Attachment, volume_id=ids[start : start + 500]):
            attachments.setdefault(item.volume_id, []).append(item)
    types = {item.id: item for item in rows.where(tx, VolumeType)} if found else {}
    return views.Around(types, attachments)


async def _list(call: Call[Volumes], *, detail: bool) -> dict[str, Any]:
    wanted, part = query.wanted(call, filters=FILTERS, sort_keys=SORT_KEYS)
    total = call.version >= 45 and call.query.flag("with_count")

    def work(tx: Tx) -> tuple[list[Volume], views.Around, int]:
        found = rows.page(tx, Volume, wanted)
        number = rows.count(tx, Volume, wanted) if total else 0
        return found, around(tx, found if detail else []), number

    found, beside, number = await call.app.db.read(work)
    shown, more = query.cut(found, part.limit)
    render = (
        [views.volume(call, item, beside) for item in shown]
        if detail
        else [views.brief(call, item) for item in shown]
    )
    body: dict[str, Any] = {"volumes": render}
    if more and shown:
        body["volumes_links"] = [pages.next_link(call, shown[-1].id)]
    if total:
        body["count"] = number
    return body


@routes.get("", policy="volume:get")
async def index(call: Call[Volumes]) -> dict[str, Any]:
    """Names of volumes."""
    return await _list(call, detail=False)


@routes.get("/detail", policy="volume:get")
async def detail(call: Call[Volumes]) -> dict[str, Any]:
    """Volumes with all their details."""
    return await _list(call, detail=True)


@routes.get("/summary", policy="volume:get", since=12)
async def summary(call: Call[Volumes]) -> dict[str, Any]:
    """How many volumes there are, and how great all of them are together (GiB)."""
    wanted, _ = query.wanted(call, filters=(), sort_keys=SORT_KEYS)
    found = await call.app.db.read(rows.page, Volume, msgspec.structs.replace(wanted, limit=10**6))
    body: dict[str, Any] = {
        "total_count": len(found),
        "total_size": sum(item.size for item in found),
    }
    if call.version >= 36:
        metadata: dict[str, set[str]] = {}
        for item in found:
            for name, value in item.metadata.items():
                metadata.setdefault(name, set()).add(value)
        body["metadata"] = {name: sorted(values) for name, values in metadata.items()}
    return {"volume-summary": body}


@routes.post("", status=202, body=CREATE_VOLUME, policy="volume:create")
async def create(call: Call[Volumes]) -> Reply:
    """A new volume: empty, or with the data of an image, a snapshot or another volume."""
    given = call.body["volume"]
    project = given.get("project_id") or call.caller.project_id
    if project != call.caller.project_id:
        call.enforce("volume:for_project")
    if not project:
        raise BadRequest("A volume needs a project: the token has none.")
    source = await choose_source(call, given)
    key = given.get("id") or call.ids.uuid()
    if given.get("id"):
        call.enforce("volume:for_project")

    def work(tx: Tx) -> Volume:
        present = rows.find(tx, Volume, key)
        if present is not None:
            return present
        kind = find_type(tx, _type_name(given, source), call.caller)
        made = new_volume(call, given, source, kind, key=key, project_id=project)
        if not made.size <= call.app.settings.most_gib:
            raise TooLarge(f"A volume has at most {call.app.settings.most_gib} GiB.")
        settings = call.app.settings
        quotas.fit(tx, settings, project, volumes=1, gigabytes=made.size, size=made.size)
        rows.create(tx, made)
        return made

    made = await call.app.db.run(work)
    call.app.worker.begin(made.id)
    beside = await call.app.db.read(around, [made])
    return Reply({"volume": views.created(call, made, beside)}, status=202)


def _type_name(given: dict[str, Any], source: Source) -> str | None:
    name = given.get("volume_type")
    return str(name) if name else source.type_id


@routes.get("/{volume_id}")
async def get(call: Call[Volumes], volume_id: str) -> dict[str, Any]:
    """One volume."""
    item = await show(call, Volume, volume_id)
    return {"volume": views.volume(call, item, await call.app.db.read(around, [item]))}


@routes.put("/{volume_id}", body=UPDATE_VOLUME)
async def update(call: Call[Volumes], volume_id: str) -> dict[str, Any]:
    """Change name, description, metadata; answered as a new volume is, without what was added."""
    given = call.body["volume"]
    if not given:
        raise BadRequest("Nothing to change was given.")
    changes: dict[str, Any] = {}
    for names, field in (
        (("display_name", "name"), "name"),
        (("display_description", "description"), "description"),
    ):
        for name in names:
            if name in given:
                changes[field] = given[name]
    if given.get("metadata") is not None:
        changes["metadata"] = texts(given["metadata"])
    await show(call, Volume, volume_id, "volume:update")
    changes["updated_at"] = call.app.clock.now()
    await call.app.db.run(rows.change, Volume, volume_id, **changes)
    item = await show(call, Volume, volume_id)
    return {"volume": views.created(call, item, await call.app.db.read(around, [item]))}


@routes.delete("/{volume_id}", status=202)
async def delete(call: Call[Volumes], volume_id: str) -> None:
    """Remove a volume that nobody uses; with ``cascade`` its snapshots too."""
    force = call.version >= 23 and call.query.flag("force")
    await show(call, Volume, volume_id, "volume:force_delete" if force else "volume:delete")
    await begin_delete(call, volume_id, force=force, cascade=call.query.flag("cascade"))


async def begin_delete(
    call: Call[Volumes], volume_id: str, *, force: bool = False, cascade: bool = False
) -> None:
    """Write the work of deleting; BadRequest when the volume is in use."""
    now = call.app.clock.now()

    def work(tx: Tx) -> list[str]:
        item = visible(tx, Volume, volume_id, call.caller, lock=True)
        if item.status == "deleting":
            return []
        if not force:
            expect_status(item, DELETABLE, "delete")
        used = list(rows.where(tx, Attachment, volume_id=volume_id))
        if used:
            raise BadRequest(f"Invalid volume: Volume {volume_id} is still attached.")
        jobs = [item.job for item in rows.pending(tx, Volume)]
        jobs += [item.job for item in rows.pending(tx, Snapshot)]
        copied = any(job is not None and job.source == volume_id for job in jobs)
        if copied:
            raise BadRequest(f"Invalid volume: Volume {volume_id} is being copied.")
        begun = []
        snapshots = rows.where(tx, Snapshot, volume_id=volume_id)
        if snapshots and not cascade:
            raise BadRequest(f"Invalid volume: Volume {volume_id} still has snapshots.")
        for snapshot in snapshots:
            if snapshot.status not in ("available", "error", "deleting"):
                raise BadRequest(f"Invalid volume: Snapshot {snapshot.id} is {snapshot.status}.")
            rows.change(tx, Snapshot, snapshot.id, status="deleting", job=Work("delete"))
            begun.append(snapshot.id)
        rows.change(tx, Volume, volume_id, status="deleting", job=Work("delete"), updated_at=now)
        return [*begun, volume_id]

    for key in await call.app.db.run(work):
        call.app.worker.begin(key)


metadata.add(routes, Volume, "volume:update")
