"""What we need of an image service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Protocol

from kilonova.domain.guest import ImageRef
from kilonova.domain.imaging import NewImage

OWN_FIELDS = frozenset(
    {
        "id", "name", "status", "visibility", "protected", "owner", "min_disk", "min_ram",
        "checksum", "os_hash_algo", "os_hash_value", "size", "virtual_size", "disk_format",
        "container_format", "created_at", "updated_at", "tags", "self", "file", "schema",
        "locations", "direct_url", "os_hidden", "stores",
    }
)  # fmt: skip
"""Fields of an image document that are no property of its owner's choosing."""


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


class ImageMaker(ImageService, Protocol):
    """An image service in which we also make images."""

    async def create(self, wanted: NewImage, *, token: str | None) -> Image:
        """A queued image, or the one that was made already; Forbidden, TooLarge, BadRequest."""

    async def describe(
        self, image_id: str, values: dict[str, str], *, token: str | None = None
    ) -> None:
        """Set attributes and properties; NotFound when it is gone."""

    async def upload(
        self, image_id: str, data: AsyncIterator[bytes], *, token: str | None = None
    ) -> None:
        """Send the data of a queued image, which is active then.

        NotFound when it is gone, Conflict when it is not queued, Unavailable.
        """

    async def delete(self, image_id: str, *, token: str | None = None) -> None:
        """Delete an image; nothing there is success. Forbidden when it is protected."""

    async def find(self, **filters: str) -> list[Image]:
        """Images of any project whose attributes and properties are these, newest first."""

    async def url_of(self, image_id: str) -> str:
        """Where clients find the image."""


class ImageDocuments(Protocol):
    """The image service's own documents, for what only passes them on; ``token`` is the user's."""

    async def url(self) -> str:
        """Where the image service is, without a slash at its end."""

    async def find(self, *, token: str, **params: Any) -> list[dict[str, Any]]:
        """Images that match, newest first; BadRequest for parameters it does not take."""

    async def get(self, image_id: str, *, token: str) -> dict[str, Any]:
        """One image; NotFound."""

    async def remove(self, image_id: str, *, token: str) -> None:
        """Delete an image; NotFound, Forbidden, Conflict."""

    async def change(
        self, image_id: str, changes: list[dict[str, Any]], *, token: str
    ) -> dict[str, Any]:
        """Apply operations of RFC 6902 to an image; NotFound, Forbidden."""
