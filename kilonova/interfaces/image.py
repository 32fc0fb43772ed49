"""What we need of an image service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from kilonova.domain.guest import ImageRef


class Image(ImageRef, frozen=True):
    """An image with what only the API layer asks for."""

    status: str = "active"
    owner: str = ""
    visibility: str = "private"
    os_hidden: bool = False
    created_at: str = ""
    updated_at: str = ""
    tags: tuple[str, ...] = ()
    virtual_size: int | None = None


class ImageService(Protocol):
    """``token`` is the user's; None speaks as our service user."""

    async def show(self, image_id: str, *, token: str | None) -> Image:
        """One image; NotFound when it is not there or not for this caller."""

    def download(self, image_id: str) -> AsyncIterator[bytes]:
        """The data in chunks, as our service user."""
