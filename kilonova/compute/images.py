"""Image bytes for the driver, from the image service and to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from kilonova.base.clock import Clock
from kilonova.base.errors import Conflict
from kilonova.domain.guest import ImageRef
from kilonova.interfaces.image import ImageMaker, ImageService

BUSY_TRIES, BUSY_SECONDS = 30, 2.0
"""A broken-off upload is noticed by the image service some time later."""


class ServiceImages:
    """An ImageSource over our interface of the image service."""

    def __init__(self, service: ImageService) -> None:
        self._service = service

    def download(self, image: ImageRef) -> AsyncIterator[bytes]:
        """The image's data in chunks."""
        return self._service.download(image.id)


class MadeImages:
    """An ImageSink over the same service."""

    def __init__(self, service: ImageMaker, clock: Clock) -> None:
        self._service = service
        self._clock = clock

    async def upload(
        self, image_id: str, disk_format: str, data: Callable[[], AsyncIterator[bytes]]
    ) -> None:
        """Fill a queued image; one that is active is left, one in hand is waited for."""
        for _ in range(BUSY_TRIES):
            image = await self._service.show(image_id, token=None)
            if image.status == "active":
                return
            if image.status == "queued":
                formats = {"disk_format": disk_format, "container_format": "bare"}
                await self._service.describe(image_id, formats)
                try:
                    await self._service.upload(image_id, data())
                except Conflict:
                    continue
                return
            await self._clock.sleep(BUSY_SECONDS)
        raise Conflict(f"Image {image_id} takes no data.")
