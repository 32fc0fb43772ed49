"""How images and members are shown."""

from __future__ import annotations

import datetime as dt
from typing import Any

from kilonova.embedded.image.records import Image, Member

View = dict[str, Any]

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def time(number: int) -> str:
    """``2026-01-31T12:00:00Z`` from microseconds since 1970."""
    return (_EPOCH + dt.timedelta(microseconds=number)).strftime("%Y-%m-%dT%H:%M:%SZ")


def image(item: Image) -> View:
    """An image; its properties stand beside its attributes."""
    return {
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
