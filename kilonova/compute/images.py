"""Image bytes for the driver, from the image service."""

from __future__ import annotations

from collections.abc import AsyncIterator

from kilonova.domain.guest import ImageRef
from kilonova.interfaces.image import ImageService


class ServiceImages:
    """An ImageSource over our interface of the image service."""

    def __init__(self, service: ImageService) -> None:
        self._service = service

    def download(self, image: ImageRef) -> AsyncIterator[bytes]:
        """The image's data in chunks."""
        return self._service.download(image.id)
