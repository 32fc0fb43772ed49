"""A block storage service in memory, as compute sees one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from kilonova.base.errors import BadRequest, NotFound
from kilonova.interfaces.volume import NewVolume, Volume, VolumeAttachment, VolumeSnapshot


class Volumes:
    """Tables of volumes and attachments. ``slow``: looks until a new volume is ready."""

    def __init__(self) -> None:
        self.table: dict[str, Volume] = {}
        self.uses: dict[str, VolumeAttachment] = {}
        self.snapshots: dict[str, VolumeSnapshot] = {}
        self.kinds = {"__DEFAULT__", "fast"}
        self.told: dict[str, list[str]] = {}
        self.count = 0
        self.slow = 1
        self.broken = False
        self.tell: Callable[[str, str], Awaitable[None]] | None = None
        self._left: dict[str, int] = {}

    def add(self, volume_id: str, **values: Any) -> Volume:
        """A volume that is there."""
        given = {"size": 1, "status": "available", "project_id": "p1", **values}
        return self._put(Volume(volume_id, **given))

    def _put(self, volume: Volume) -> Volume:
        self.table[volume.id] = volume
        return volume

    def _get(self, volume_id: str) -> Volume:
        if volume_id not in self.table:
            raise NotFound(f"Volume {volume_id} could not be found.")
        return self.table[volume_id]

    def _settle(self, volume_id: str) -> None:
        if volume_id not in self.table:
            return
        own = [use for use in self.uses.values() if use.volume_id == volume_id]
        states = {use.status for use in own}
        words = (("attached", "in-use"), ("attaching", "attaching"), ("reserved", "reserved"))
        status = next((word for mark, word in words if mark in states), "available")
        attached = {use.server_id: use.id for use in own if use.status == "attached"}
        self._put(
            msgspec.structs.replace(self.table[volume_id], status=status, attachments=attached)
        )

    async def show(self, volume_id: str, *, token: str | None = None) -> Volume:
        volume = self._get(volume_id)
        if volume.status == "creating":
            self._left[volume_id] -= 1
            if self._left[volume_id] < 0:
                word = "error" if self.broken else "available"
                volume = self._put(msgspec.structs.replace(volume, status=word))
        return volume

    async def snapshot(self, snapshot_id: str, *, token: str | None = None) -> VolumeSnapshot:
        if snapshot_id not in self.snapshots:
            raise NotFound(f"Snapshot {snapshot_id} could not be found.")
        return self.snapshots[snapshot_id]

    async def make_snapshot(
        self, volume_id: str, *, name: str, description: str, token: str
    ) -> VolumeSnapshot:
        volume = self._get(volume_id)
        key = f"snapshot-{len(self.snapshots) + 1}"
        self.snapshots[key] = made = VolumeSnapshot(
            key, volume_id, volume.size, "creating", name=name, description=description
        )
        return made

    async def delete_snapshot(self, snapshot_id: str, *, token: str) -> None:
        self.snapshots.pop(snapshot_id, None)

    async def types(self, *, token: str) -> set[str]:
        return self.kinds

    async def create(self, wanted: NewVolume) -> Volume:
        if wanted.id in self.table:
            return self.table[wanted.id]
        self._left[wanted.id] = self.slow
        return self._put(
            Volume(
                wanted.id,
                wanted.size or 1,
                "creating",
                project_id=wanted.project_id,
                volume_type=wanted.volume_type,
            )
        )

    async def delete(self, volume_id: str) -> None:
        if volume_id not in self.table:
            return
        volume = await self.show(volume_id)
        if volume.status not in ("available", "error"):
            raise BadRequest(f"Volume {volume_id} is {volume.status}.")
        del self.table[volume_id]

    async def attachments(self, server_id: str) -> list[VolumeAttachment]:
        return [use for use in self.uses.values() if use.server_id == server_id]

    async def all_attachments(self) -> list[VolumeAttachment]:
        return list(self.uses.values())

    async def reserve(self, volume_id: str, server_id: str, *, another: bool = False) -> str:
        if not another:
            for use in await self.attachments(server_id):
                if use.volume_id == volume_id:
                    return use.id
        volume = self._get(volume_id)
        others = {u.server_id for u in self.uses.values() if u.volume_id == volume_id} - {server_id}
        own = another and volume.status in ("in-use", "reserved") and not others
        if volume.status != "available" and not volume.multiattach and not own:
            raise BadRequest(f"Volume {volume_id} status must be available, not {volume.status}.")
        self.count += 1
        key = f"attachment-{self.count}"
        self.uses[key] = VolumeAttachment(key, volume_id, server_id, "reserved")
        self._settle(volume_id)
        return key

    def _use(self, attachment_id: str, status: str) -> VolumeAttachment:
        if attachment_id not in self.uses:
            raise NotFound(f"Attachment {attachment_id} could not be found.")
        use = self.uses[attachment_id]
        if use.status != "attached":
            use = self.uses[attachment_id] = msgspec.structs.replace(use, status=status)
        self._settle(use.volume_id)
        return use

    async def connect(self, attachment_id: str, connector: dict[str, Any]) -> dict[str, Any]:
        use = self._use(attachment_id, "attaching")
        return {
            "driver_volume_type": "local",
            "data": {"device_path": f"/volumes/{use.volume_id}", "access_mode": "rw"},
        }

    async def complete(self, attachment_id: str) -> None:
        self._use(attachment_id, "attached")

    async def release(self, attachment_id: str) -> None:
        use = self.uses.pop(attachment_id, None)
        if use is not None:
            self._settle(use.volume_id)

    async def begin_detaching(self, volume_id: str) -> None:
        volume = self._get(volume_id)
        if volume.status != "in-use":
            raise BadRequest(f"Volume {volume_id} status must be in-use, not {volume.status}.")
        self._put(msgspec.structs.replace(volume, status="detaching"))

    async def roll_detaching(self, volume_id: str) -> None:
        if volume_id in self.table and self.table[volume_id].status == "detaching":
            self._settle(volume_id)

    async def reimage(self, volume_id: str, image_id: str) -> None:
        volume = self._get(volume_id)
        if volume.status != "reserved":
            raise BadRequest(f"Volume {volume_id} status must be reserved, not {volume.status}.")
        metadata = {**volume.image_metadata, "image_id": image_id}
        self._put(msgspec.structs.replace(volume, image_metadata=metadata))
        if self.tell is not None:
            for use in (u for u in self.uses.values() if u.volume_id == volume_id):
                await self.tell(use.server_id, f"volume-reimaged:{volume_id}")

    async def tell_snapshot(self, snapshot_id: str, status: str) -> None:
        self.told[snapshot_id] = [*self.told.get(snapshot_id, []), status]

    async def proxy(
        self, method: str, path: str, *, token: str, body: Any = None, query: str = ""
    ) -> Any:
        raise NotFound("The volume service of the tests has no HTTP.")
