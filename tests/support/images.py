"""An image service in memory, as compute sees one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec

from kilonova.base.errors import Conflict, Forbidden, NotFound
from kilonova.domain.imaging import NewImage
from kilonova.interfaces.image import OWN_FIELDS, Image


class Images:
    """A table of images and their data, in the order they were made."""

    def __init__(self) -> None:
        self.table: dict[str, Image] = {}
        self.data: dict[str, bytes] = {}
        self.protected: set[str] = set()
        self.deleted: list[str] = []

    def add(self, image_id: str, **values: Any) -> Image:
        """An image that is there."""
        self.table[image_id] = made = Image(image_id, **values)
        return made

    def _get(self, image_id: str) -> Image:
        if image_id not in self.table:
            raise NotFound(f"No image found with ID {image_id}")
        return self.table[image_id]

    async def show(self, image_id: str, *, token: str | None) -> Image:
        return self._get(image_id)

    async def download(self, image_id: str) -> AsyncIterator[bytes]:
        if image_id not in self.data:
            raise NotFound(f"Image {image_id} has no data.")
        yield self.data[image_id]

    async def create(self, wanted: NewImage, *, token: str | None) -> Image:
        if wanted.id in self.table:
            return self.table[wanted.id]
        return self.add(
            wanted.id,
            name=wanted.name,
            disk_format="",
            container_format="",
            min_disk=wanted.min_disk,
            min_ram=wanted.min_ram,
            properties=wanted.properties,
            status="queued",
            owner=wanted.owner or "p1",
            visibility=wanted.visibility,
        )

    async def describe(
        self, image_id: str, values: dict[str, str], *, token: str | None = None
    ) -> None:
        image = self._get(image_id)
        own = {k: v for k, v in values.items() if k in OWN_FIELDS}
        properties = {**image.properties, **{k: v for k, v in values.items() if k not in own}}
        self.table[image_id] = msgspec.structs.replace(image, properties=properties, **own)

    async def upload(
        self, image_id: str, data: AsyncIterator[bytes], *, token: str | None = None
    ) -> None:
        image = self._get(image_id)
        if image.status != "queued":
            raise Conflict(f"Image {image_id} is {image.status}.")
        self.data[image_id] = content = b"".join([chunk async for chunk in data])
        self.table[image_id] = msgspec.structs.replace(image, status="active", size=len(content))

    async def delete(self, image_id: str, *, token: str | None = None) -> None:
        if image_id in self.protected:
            raise Forbidden(f"Image {image_id} is protected.")
        if self.table.pop(image_id, None) is not None:
            self.data.pop(image_id, None)
            self.deleted.append(image_id)

    async def find(self, **filters: str) -> list[Image]:
        def fits(image: Image) -> bool:
            shown = {**image.properties, "owner": image.owner, "status": image.status}
            return all(shown.get(k) == v for k, v in filters.items())

        return [image for image in reversed(self.table.values()) if fits(image)]

    async def url_of(self, image_id: str) -> str:
        return f"http://image.test/images/{image_id}"
