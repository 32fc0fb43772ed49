"""``/images`` (to 2.35) and their metadata (to 2.38), passed to the image service.

Source: Nova API reference, "Images" (deprecated).
"""

from __future__ import annotations

import re
from typing import Any

from kilonova.api.schemas import LINK, METADATA, POSITIVE, QUERY_NONE, closed
from kilonova.base.errors import BadRequest, Forbidden, NotFound
from kilonova.context import Context, Services
from kilonova.db.database import Tx
from kilonova.interfaces.image import OWN_FIELDS
from kilonova.store import quotas
from kilonova.web import pages
from kilonova.web.routes import Routes
from kilonova.web.schema import Schema, answers, shape
from kilonova.web.view import OMIT, Field, View

ROUTES: Routes[Services] = Routes(prefix="/images", tag="images")
LAST, METADATA_LAST = 35, 38
KIND = "application/vnd.openstack.image"
STATUS = {
    "queued": ("SAVING", 25),
    "saving": ("SAVING", 50),
    "uploading": ("SAVING", 50),
    "importing": ("SAVING", 50),
    "active": ("ACTIVE", 100),
    "deleted": ("DELETED", 0),
    "pending_delete": ("DELETED", 0),
    "killed": ("ERROR", 0),
}
BY_STATUS = {"ACTIVE": "active", "SAVING": "saving", "DELETED": "deleted", "ERROR": "killed"}
PROPERTY = "property-"
LIST = Schema(
    {
        "type": "object",
        "properties": {"limit": POSITIVE, "page_size": POSITIVE, "offset": POSITIVE},
        "additionalProperties": True,
    }
)
ALL = Schema(closed({"metadata": METADATA}, "metadata"))
ONE = Schema(closed({"meta": {**METADATA, "minProperties": 1, "maxProperties": 1}}, "meta"))


def _status(doc: dict[str, Any]) -> tuple[str, int]:
    return STATUS.get(doc.get("status", ""), ("UNKNOWN", 0))


def _disk_config(doc: dict[str, Any]) -> Any:
    word = doc.get("auto_disk_config")
    if word is None:
        return OMIT
    return "AUTO" if str(word).lower() in ("true", "1", "yes", "on", "t", "y") else "MANUAL"


def properties(doc: dict[str, Any]) -> dict[str, Any]:
    """What its owner has written on an image."""
    return {key: value for key, value in doc.items() if key not in OWN_FIELDS}


IMAGE = View(
    "image",
    [
        Field("id", lambda d: d["id"]),
        Field("name", lambda d: d.get("name")),
        Field("minRam", lambda d: int(d.get("min_ram") or 0)),
        Field("minDisk", lambda d: int(d.get("min_disk") or 0)),
        Field("metadata", properties),
        Field("created", lambda d: d.get("created_at")),
        Field("updated", lambda d: d.get("updated_at")),
        Field("status", lambda d: _status(d)[0]),
        Field("progress", lambda d: _status(d)[1]),
        Field("OS-EXT-IMG-SIZE:size", lambda d: int(d.get("size") or 0)),
        Field("OS-DCF:diskConfig", _disk_config),
    ],
)


_LINK = {**LINK, "type?": str}
_BRIEF = {"id": str, "name": str | None, "links": [_LINK]}
_FULL = View(
    "image",
    [
        *IMAGE.fields,
        Field("links", schema=shape([_LINK])),
        Field("server", schema=shape({"id": str, "links": [LINK]})),
    ],
)
_ITEMS = answers(metadata={str: str | None})
_ITEM = answers(meta={str: str | None})


def _links(call: Context, image_id: str, url: str) -> list[dict[str, str]]:
    return [
        {"rel": "self", "href": call.link("images", image_id)},
        {"rel": "bookmark", "href": call.bookmark("images", image_id)},
        {"rel": "alternate", "type": KIND, "href": f"{url}/images/{image_id}"},
    ]


def _full(call: Context, doc: dict[str, Any], url: str) -> dict[str, Any]:
    shown = {**IMAGE.render(doc), "links": _links(call, doc["id"], url)}
    server = doc.get("instance_uuid")
    if server:
        shown["server"] = {
            "id": server,
            "links": [
                {"rel": "self", "href": call.link("servers", server)},
                {"rel": "bookmark", "href": call.bookmark("servers", server)},
            ],
        }
    return shown


async def _url(call: Context) -> str:
    prefix = call.app.settings.api.glance_link_prefix
    return (prefix or await call.app.image_documents.url()).rstrip("/")


@ROUTES.get("", until=LAST, query=LIST, responses=answers(images=[_BRIEF]), summary="List images")
async def index(call: Context) -> dict[str, Any]:
    """Ids and names."""
    docs, url = await _page(call), await _url(call)
    rows = [
        {"id": d["id"], "name": d.get("name"), "links": _links(call, d["id"], url)} for d in docs
    ]
    return _linked(call, rows, "images")


@ROUTES.get(
    "/detail",
    until=LAST,
    query=LIST,
    responses=answers(images=[_FULL]),
    summary="List images with all of them",
)
async def detail(call: Context) -> dict[str, Any]:
    """The same in full."""
    docs, url = await _page(call), await _url(call)
    return _linked(call, [_full(call, doc, url) for doc in docs], "images", "detail")


async def _page(call: Context) -> list[dict[str, Any]]:
    params = _filters(call)
    params["limit"] = _limit(call)
    marker = call.query.get("marker")
    if marker:
        params["marker"] = marker
    try:
        return await call.app.image_documents.find(token=call.caller.token, **params)
    except NotFound as error:
        raise BadRequest(error.message) from None


def _limit(call: Context) -> int:
    most = call.app.settings.api.max_limit
    for name in ("limit", "page_size"):
        given = call.query.number(name)
        if given is not None and given < 1:
            raise BadRequest(f"Invalid input for query parameters {name}: {given} is less than 1.")
        if given is not None:
            return min(given, most)
    return most


def _filters(call: Context) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in call.query.items():
        if name == "name":
            found["name"] = value
        elif name == "status":
            found["status"] = BY_STATUS.get(value.upper(), value.lower())
        elif name == "minRam":
            found["min_ram"] = value
        elif name == "minDisk":
            found["min_disk"] = value
        elif name == "changes-since":
            found["updated_at"] = f"gte:{value}"
        elif name == "type":
            found["image_type"] = value
        elif name == "server":
            found["instance_uuid"] = value.rstrip("/").rsplit("/", 1)[-1]
        elif name.startswith(PROPERTY) and re.fullmatch(r"[\w.:-]{1,255}", name):
            found[name.removeprefix(PROPERTY)] = value
    return found


def _linked(call: Context, rows: list[dict[str, Any]], *path: str) -> dict[str, Any]:
    body: dict[str, Any] = {"images": rows}
    if "limit" in call.query and rows and len(rows) == _limit(call):
        body["images_links"] = [pages.next_link(call, rows[-1]["id"], *path)]
    return body


@ROUTES.get(
    "/{image_id}",
    until=LAST,
    query=QUERY_NONE,
    responses=answers(image=_FULL),
    summary="Show an image",
)
async def show(call: Context, image_id: str) -> dict[str, Any]:
    """One image."""
    doc = await _get(call, image_id)
    return {"image": _full(call, doc, await _url(call))}


@ROUTES.delete("/{image_id}", until=LAST, status=204, summary="Delete an image")
async def delete(call: Context, image_id: str) -> None:
    """One that is not protected and is the caller's."""
    await call.app.image_documents.remove(image_id, token=call.caller.token)


async def _get(call: Context, image_id: str) -> dict[str, Any]:
    return await call.app.image_documents.get(image_id, token=call.caller.token)


# --- metadata -----------------------------------------------------------------------------------


@ROUTES.get(
    "/{image_id}/metadata",
    until=METADATA_LAST,
    query=QUERY_NONE,
    responses=_ITEMS,
    summary="List image metadata",
)
async def items(call: Context, image_id: str) -> dict[str, Any]:
    """All properties."""
    return {"metadata": _texts(await _get(call, image_id))}


@ROUTES.get(
    "/{image_id}/metadata/{key}",
    until=METADATA_LAST,
    query=QUERY_NONE,
    responses=_ITEM,
    summary="Show an image metadata item",
)
async def item(call: Context, image_id: str, key: str) -> dict[str, Any]:
    """One property."""
    found = _texts(await _get(call, image_id))
    return {"meta": {key: _one(found, key)}}


@ROUTES.post(
    "/{image_id}/metadata",
    until=METADATA_LAST,
    body=ALL,
    responses=_ITEMS,
    summary="Add image metadata items",
)
async def add_items(call: Context, image_id: str) -> dict[str, Any]:
    """Add or overwrite properties; all of them then."""
    before = _texts(await _get(call, image_id))
    after = {**before, **call.body["metadata"]}
    return {"metadata": await _change(call, image_id, before, after)}


@ROUTES.put(
    "/{image_id}/metadata",
    until=METADATA_LAST,
    body=ALL,
    responses=_ITEMS,
    summary="Replace image metadata",
)
async def replace_items(call: Context, image_id: str) -> dict[str, Any]:
    """Just these properties."""
    before = _texts(await _get(call, image_id))
    return {"metadata": await _change(call, image_id, before, call.body["metadata"])}


@ROUTES.put(
    "/{image_id}/metadata/{key}",
    until=METADATA_LAST,
    body=ONE,
    responses=_ITEM,
    summary="Set an image metadata item",
)
async def set_item(call: Context, image_id: str, key: str) -> dict[str, Any]:
    """One property."""
    given = call.body["meta"]
    if key not in given:
        raise BadRequest("Request body and URI mismatch")
    before = _texts(await _get(call, image_id))
    await _change(call, image_id, before, {**before, **given})
    return {"meta": given}


@ROUTES.delete(
    "/{image_id}/metadata/{key}",
    until=METADATA_LAST,
    status=204,
    summary="Remove an image metadata item",
)
async def remove_item(call: Context, image_id: str, key: str) -> None:
    """One property less."""
    before = _texts(await _get(call, image_id))
    _one(before, key)
    after = {name: value for name, value in before.items() if name != key}
    await _change(call, image_id, before, after)


def _texts(doc: dict[str, Any]) -> dict[str, Any]:
    return {
        key: value
        for key, value in properties(doc).items()
        if value is None or isinstance(value, str)
    }


def _one(found: dict[str, Any], key: str) -> Any:
    if key not in found:
        raise NotFound("Invalid metadata key")
    return found[key]


async def _change(
    call: Context, image_id: str, before: dict[str, Any], after: dict[str, Any]
) -> dict[str, Any]:
    limit = (await call.app.db.read(_limits, call))["metadata_items"]
    if 0 <= limit < len(after) and len(after) > len(before):
        raise Forbidden("Image metadata limit exceeded")
    changes: list[dict[str, Any]] = [
        {"op": "remove", "path": _path(key)} for key in before if key not in after
    ]
    changes += [
        {"op": "replace" if key in before else "add", "path": _path(key), "value": value}
        for key, value in after.items()
        if before.get(key) != value
    ]
    if not changes:
        return after
    doc = await call.app.image_documents.change(image_id, changes, token=call.caller.token)
    return _texts(doc)


def _path(key: str) -> str:
    """A key as a JSON pointer (RFC 6901)."""
    return "/" + key.replace("~", "~0").replace("/", "~1")


def _limits(tx: Tx, call: Context) -> dict[str, int]:
    caller = call.caller
    defaults = call.app.settings.quota.limits()
    return quotas.limits(tx, defaults, caller.project_id or "", caller.user_id)
