"""What we need of a block storage service."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

AVAILABLE = "available"


class Volume(msgspec.Struct, frozen=True):
    """A volume; ``size`` in GiB. ``attachments``: server id → attachment id, of those attached."""

    id: str
    size: int
    status: str
    project_id: str = ""
    name: str = ""
    description: str | None = None
    bootable: bool = False
    multiattach: bool = False
    encrypted: bool = False
    zone: str = ""
    volume_type: str | None = None
    snapshot_id: str | None = None
    created_at: str = ""
    metadata: dict[str, str] = {}
    image_metadata: dict[str, str] = {}
    attachments: dict[str, str] = {}
    devices: dict[str, str] = {}


class VolumeSnapshot(msgspec.Struct, frozen=True):
    """A snapshot of a volume; ``size`` in GiB."""

    id: str
    volume_id: str
    size: int
    status: str
    name: str = ""
    description: str | None = None
    created_at: str = ""


class VolumeAttachment(msgspec.Struct, frozen=True):
    """A use of a volume. ``status``: reserved, attaching, attached."""

    id: str
    volume_id: str
    server_id: str
    status: str = ""


class NewVolume(msgspec.Struct, frozen=True):
    """A volume to make. ``id`` is chosen by us, so that asking again makes no second one.

    ``source``: blank, image, snapshot or volume; ``source_id`` says which. ``size``: GiB (None:
    that of the snapshot).
    """

    id: str
    project_id: str
    user_id: str
    source: str = "blank"
    source_id: str | None = None
    size: int | None = None
    volume_type: str | None = None
    zone: str | None = None


class VolumeService(Protocol):
    """``token`` is the user's; methods without one, or None, speak as our service user.

    What is not there raises NotFound; what the volume's state forbids, BadRequest.
    """

    async def show(self, volume_id: str, *, token: str | None = None) -> Volume:
        """One volume."""

    async def snapshot(self, snapshot_id: str, *, token: str | None = None) -> VolumeSnapshot:
        """One snapshot."""

    async def make_snapshot(
        self, volume_id: str, *, name: str, description: str, token: str
    ) -> VolumeSnapshot:
        """Begin a snapshot of a volume, also of one in use; Forbidden, TooLarge over the quota."""

    async def delete_snapshot(self, snapshot_id: str, *, token: str) -> None:
        """Delete a snapshot; nothing there is success."""

    async def types(self, *, token: str) -> set[str]:
        """Names and ids of the volume types the user may use."""

    async def create(self, wanted: NewVolume) -> Volume:
        """Make a volume, or find it made already."""

    async def delete(self, volume_id: str) -> None:
        """Delete a volume; nothing there is success."""

    async def attachments(self, server_id: str) -> list[VolumeAttachment]:
        """Every attachment of a server."""

    async def all_attachments(self) -> list[VolumeAttachment]:
        """Every attachment of any server."""

    async def reserve(self, volume_id: str, server_id: str, *, another: bool = False) -> str:
        """The id of the server's attachment of a volume, made when there is none.

        ``another``: made also when there is one.
        """

    async def connect(self, attachment_id: str, connector: dict[str, Any]) -> dict[str, Any]:
        """How the connector's host reaches the volume: ``{"driver_volume_type", "data"}``."""

    async def complete(self, attachment_id: str) -> None:
        """The server has the volume."""

    async def release(self, attachment_id: str) -> None:
        """End an attachment; nothing there is success."""

    async def begin_detaching(self, volume_id: str) -> None:
        """Show that the volume is about to be detached."""

    async def roll_detaching(self, volume_id: str) -> None:
        """It is not."""

    async def reimage(self, volume_id: str, image_id: str) -> None:
        """Begin to write an image over a volume that is only reserved.

        Its server hears of the end by the external event ``volume-reimaged``.
        """

    async def tell_snapshot(self, snapshot_id: str, status: str) -> None:
        """How far a snapshot is that we help with: creating, deleting or an error; one that is not
        there, or is not in a state for that, is left."""

    async def proxy(
        self, method: str, path: str, *, token: str, body: Any = None, query: str = ""
    ) -> Any:
        """The JSON of a request of the user's own (a Fault of the answer's status otherwise)."""
