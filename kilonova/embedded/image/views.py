"""How images and members are shown."""

from __future__ import annotations

import datetime as dt
from typing import Any

from kilonova.embedded.image.records import STORE, Image, Member, Task

View = dict[str, Any]

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def time(number: int) -> str:
    """``2026-01-31T12:00:00Z`` from microseconds since 1970."""
    return (_EPOCH + dt.timedelta(microseconds=number)).strftime("%Y-%m-%dT%H:%M:%SZ")


def image(item: Image) -> View:
    """An image; its properties stand beside its attributes."""
    shown = {
        **item.properties,
        "id": item.id,
        "name": item.name,
        "status": item.status,
        "visibility": item.visibility,
        "protected": item.protected,
        "os_hidden": item.os_hidden,
        "owner": item.owner,
        "disk_format": item.disk_format,
        "container_format": item.container_format,
        "size": item.size,
        "virtual_size": item.virtual_size,
        "min_disk": item.min_disk,
        "min_ram": item.min_ram,
        "checksum": item.checksum,
        "os_hash_algo": item.os_hash_algo,
        "os_hash_value": item.os_hash_value,
        "created_at": time(item.created_at),
        "updated_at": time(item.updated_at),
        "tags": list(item.tags),
        "self": f"/v2/images/{item.id}",
        "file": f"/v2/images/{item.id}/file",
        "schema": "/v2/schemas/image",
    }
    if item.status in ("active", "deactivated"):
        shown["stores"] = STORE
    return shown


def member(item: Member) -> View:
    """A member of an image."""
    return {
        "image_id": item.image_id,
        "member_id": item.member_id,
        "status": item.status,
        "created_at": time(item.created_at),
        "updated_at": time(item.updated_at),
        "schema": "/v2/schemas/member",
    }


def task(item: Task) -> View:
    """A task of importing."""
    request = {"method": {"name": "glance-direct"}, "all_stores_must_succeed": True}
    return {
        "id": item.id,
        "type": "api_image_import",
        "status": item.status,
        "owner": item.owner,
        "image_id": item.image_id,
        "user_id": item.user_id,
        "request_id": item.request_id,
        "input": {"image_id": item.image_id, "import_req": request, "backend": [STORE]},
        "result": {"image_id": item.image_id} if item.status == "success" else None,
        "message": item.message,
        "created_at": time(item.created_at),
        "updated_at": time(item.updated_at),
        "expires_at": time(item.created_at + 48 * 3600 * 1_000_000),
        "self": f"/v2/tasks/{item.id}",
        "schema": "/v2/schemas/task",
    }
