"""``/os-volumes`` and ``/os-snapshots`` (to 2.35): the volume service behind old addresses."""

from __future__ import annotations

from typing import Any

from kilonova.api.schemas import BOOLEAN, METADATA, Tree
from kilonova.base.errors import BadRequest
from kilonova.context import Context, Services
from kilonova.web.call import Query, Reply
from kilonova.web.routes import Routes
from kilonova.web.schema import Schema, answers
from kilonova.web.view import Field, View

ROUTES: Routes[Services] = Routes(tag="volume proxies")
LAST = 35
RULE = "os_compute_api:os-volumes:"

_TEXT: Tree = {"type": "string"}
_SIZE: Tree = {"type": ["integer", "string"], "pattern": "^[0-9]+$", "minimum": 1, "minLength": 1}


def _open(name: str, properties: Tree, *required: str) -> Schema:
    return Schema(
        {
            "type": "object",
            "properties": {
                name: {
                    "type": "object",
                    "properties": properties,
                    "required": list(required),
                    "additionalProperties": False,
                }
            },
            "required": [name],
            "additionalProperties": False,
        }
    )


CREATE_VOLUME = _open(
    "volume",
    {
        "volume_type": _TEXT,
        "metadata": METADATA,
        "snapshot_id": _TEXT,
        "size": _SIZE,
        "availability_zone": _TEXT,
        "display_name": _TEXT,
        "display_description": _TEXT,
    },
    "size",
)
CREATE_SNAPSHOT = _open(
    "snapshot",
    {
        "volume_id": _TEXT,
        "force": BOOLEAN,
        "display_name": _TEXT,
        "display_description": _TEXT,
    },
    "volume_id",
)


def _attachments(doc: dict[str, Any]) -> list[dict[str, Any]]:
    found = [
        {
            "id": doc["id"],
            "volumeId": doc["id"],
            "serverId": item["server_id"],
            "device": item.get("device"),
        }
        for item in doc.get("attachments") or ()
        if item.get("server_id")
    ]
    return found or [{}]


VOLUME = View(
    "volume",
    [
        Field("id", lambda doc: doc["id"]),
        Field("status", lambda doc: doc["status"]),
        Field("size", lambda doc: doc["size"]),
        Field("availabilityZone", lambda doc: doc.get("availability_zone")),
        Field("createdAt", lambda doc: doc.get("created_at")),
        Field("attachments", _attachments),
        Field("displayName", lambda doc: doc.get("name")),
        Field("displayDescription", lambda doc: doc.get("description")),
        Field("volumeType", lambda doc: doc.get("volume_type")),
        Field("snapshotId", lambda doc: doc.get("snapshot_id")),
        Field("metadata", lambda doc: doc.get("metadata") or {}),
    ],
)
SNAPSHOT = View(
    "snapshot",
    [
        Field("id", lambda doc: doc["id"]),
        Field("volumeId", lambda doc: doc["volume_id"]),
        Field("status", lambda doc: doc["status"]),
        Field("size", lambda doc: doc["size"]),
        Field("createdAt", lambda doc: doc.get("created_at")),
        Field("displayName", lambda doc: doc.get("name")),
        Field("displayDescription", lambda doc: doc.get("description")),
    ],
)


async def _ask(call: Context, method: str, path: str, body: Any = None) -> Any:
    return await call.app.volumes.proxy(method, path, token=call.caller.token, body=body)


def _page(query: Query, items: list[Any], most: int) -> list[Any]:
    try:
        offset, limit = int(query.get("offset") or 0), int(query.get("limit") or most)
    except ValueError:
        raise BadRequest("limit and offset must be numbers.") from None
    if offset < 0 or limit < 0:
        raise BadRequest("limit and offset must not be negative.")
    return items[offset : offset + min(limit, most)]


async def _list(call: Context, path: str, view: View) -> list[dict[str, Any]]:
    found = (await _ask(call, "GET", f"/{path}/detail"))[path]
    return view.render_all(_page(call.query, found, call.app.settings.api.max_limit))


@ROUTES.get(
    "/os-volumes",
    until=LAST,
    policy=RULE + "list",
    responses=answers(volumes=[VOLUME]),
    summary="List volumes",
)
async def volumes(call: Context) -> dict[str, Any]:
    """The caller's volumes."""
    return {"volumes": await _list(call, "volumes", VOLUME)}


@ROUTES.get(
    "/os-volumes/detail",
    until=LAST,
    policy=RULE + "detail",
    responses=answers(volumes=[VOLUME]),
    summary="List volumes",
)
async def volumes_detail(call: Context) -> dict[str, Any]:
    """The same."""
    return {"volumes": await _list(call, "volumes", VOLUME)}


@ROUTES.post(
    "/os-volumes",
    until=LAST,
    body=CREATE_VOLUME,
    policy=RULE + "create",
    responses=answers(volume=VOLUME),
    summary="Create a volume",
)
async def create_volume(call: Context) -> Reply:
    """A new volume."""
    given = dict(call.body["volume"])
    wanted = {
        "size": int(given["size"]),
        "name": given.get("display_name"),
        "description": given.get("display_description"),
        "volume_type": given.get("volume_type"),
        "metadata": given.get("metadata") or {},
        "snapshot_id": given.get("snapshot_id"),
        "availability_zone": given.get("availability_zone"),
    }
    doc = (await _ask(call, "POST", "/volumes", {"volume": wanted}))["volume"]
    where = {"Location": call.link("os-volumes", doc["id"])}
    return Reply({"volume": VOLUME.render(doc)}, headers=where)


@ROUTES.get(
    "/os-volumes/{volume_id}",
    until=LAST,
    policy=RULE + "show",
    responses=answers(volume=VOLUME),
    summary="Show a volume",
)
async def volume(call: Context, volume_id: str) -> dict[str, Any]:
    """One volume."""
    doc = (await _ask(call, "GET", f"/volumes/{volume_id}"))["volume"]
    return {"volume": VOLUME.render(doc)}


@ROUTES.delete(
    "/os-volumes/{volume_id}",
    until=LAST,
    policy=RULE + "delete",
    status=202,
    summary="Delete a volume",
)
async def delete_volume(call: Context, volume_id: str) -> None:
    """Delete a volume."""
    await _ask(call, "DELETE", f"/volumes/{volume_id}")


@ROUTES.get(
    "/os-snapshots",
    until=LAST,
    policy=RULE + "snapshots:list",
    responses=answers(snapshots=[SNAPSHOT]),
    summary="List snapshots",
)
async def snapshots(call: Context) -> dict[str, Any]:
    """The caller's snapshots."""
    return {"snapshots": await _list(call, "snapshots", SNAPSHOT)}


@ROUTES.get(
    "/os-snapshots/detail",
    until=LAST,
    policy=RULE + "snapshots:detail",
    responses=answers(snapshots=[SNAPSHOT]),
    summary="List snapshots",
)
async def snapshots_detail(call: Context) -> dict[str, Any]:
    """The same."""
    return {"snapshots": await _list(call, "snapshots", SNAPSHOT)}


@ROUTES.post(
    "/os-snapshots",
    until=LAST,
    body=CREATE_SNAPSHOT,
    policy=RULE + "snapshots:create",
    responses=answers(snapshot=SNAPSHOT),
    summary="Create a snapshot",
)
async def create_snapshot(call: Context) -> dict[str, Any]:
    """A new snapshot of a volume."""
    given = call.body["snapshot"]
    wanted = {
        "volume_id": given["volume_id"],
        "name": given.get("display_name"),
        "description": given.get("display_description"),
        "force": given.get("force", False),
    }
    doc = (await _ask(call, "POST", "/snapshots", {"snapshot": wanted}))["snapshot"]
    return {"snapshot": SNAPSHOT.render(doc)}


@ROUTES.get(
    "/os-snapshots/{snapshot_id}",
    until=LAST,
    policy=RULE + "snapshots:show",
    responses=answers(snapshot=SNAPSHOT),
    summary="Show a snapshot",
)
async def snapshot(call: Context, snapshot_id: str) -> dict[str, Any]:
    """One snapshot."""
    doc = (await _ask(call, "GET", f"/snapshots/{snapshot_id}"))["snapshot"]
    return {"snapshot": SNAPSHOT.render(doc)}


@ROUTES.delete(
    "/os-snapshots/{snapshot_id}",
    until=LAST,
    policy=RULE + "snapshots:delete",
    status=202,
    summary="Delete a snapshot",
)
async def delete_snapshot(call: Context, snapshot_id: str) -> None:
    """Delete a snapshot."""
    await _ask(call, "DELETE", f"/snapshots/{snapshot_id}")
