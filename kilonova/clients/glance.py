"""Images from any Glance v2."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from kilonova.base.errors import NotFound, Unavailable
from kilonova.clients.keystone import Endpoint, expect, of_status
from kilonova.interfaces.image import Image
from kilonova.web.client import HttpClient

# Fields of an image document that are no properties of its owner's choosing.
_OWN = frozenset(
    [
        "id",
        "name",
        "status",
        "visibility",
        "protected",
        "owner",
        "min_disk",
        "min_ram",
        "checksum",
        "os_hash_algo",
        "os_hash_value",
        "size",
        "virtual_size",
        "disk_format",
        "container_format",
        "created_at",
        "updated_at",
        "tags",
        "self",
        "file",
        "schema",
        "locations",
        "direct_url",
        "os_hidden",
        "stores",
    ]
)


class Glance:
    """An image service behind its HTTP API; implements ``interfaces.image.ImageService``."""

    def __init__(self, http: HttpClient, endpoint: Endpoint) -> None:
        self._http = http
        self._endpoint = endpoint

    async def show(self, image_id: str, *, token: str | None) -> Image:
        answer = await self._endpoint.request("GET", f"/v2/images/{image_id}", token=token)
        if answer.status in (403, 404):
            raise NotFound(f"Image {image_id} could not be found.")
        return image(expect(answer, 200, what=f"Image {image_id}"))

    async def download(self, image_id: str) -> AsyncIterator[bytes]:
        url = f"{await self._endpoint.url()}/v2/images/{image_id}/file"
        headers = await self._endpoint.headers(None)
        async with self._http.stream("GET", url, headers=headers, timeout=60) as answer:
            if answer.status == 204:
                raise NotFound(f"Image {image_id} has no data.")
            if answer.status != 200:
                kind = of_status(answer.status) if answer.status < 500 else Unavailable
                raise kind(f"Image {image_id} cannot be downloaded ({answer.status}).")
            async for chunk in answer.chunks:
                yield chunk


def image(doc: dict[str, Any]) -> Image:
    """An image document as our Struct; everything that is no own field is a property."""
    return Image(
        id=doc["id"],
        name=doc.get("name") or "",
        disk_format=doc.get("disk_format") or "raw",
        container_format=doc.get("container_format") or "bare",
        size=doc.get("size") or 0,
        min_disk=doc.get("min_disk") or 0,
        min_ram=doc.get("min_ram") or 0,
        checksum=doc.get("checksum") or "",
        os_hash_algo=doc.get("os_hash_algo") or "",
        os_hash_value=doc.get("os_hash_value") or "",
        properties={k: str(v) for k, v in doc.items() if k not in _OWN and v is not None},
        status=doc.get("status", "active"),
        owner=doc.get("owner") or "",
        visibility=doc.get("visibility", "private"),
        os_hidden=bool(doc.get("os_hidden")),
        created_at=doc.get("created_at", ""),
        updated_at=doc.get("updated_at", ""),
        tags=tuple(doc.get("tags", ())),
        virtual_size=doc.get("virtual_size"),
    )
