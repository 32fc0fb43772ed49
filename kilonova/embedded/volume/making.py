"""From the body of ``POST /volumes`` to a row with its work."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from kilonova.base.errors import BadRequest, NotFound
from kilonova.embedded.volume.app import Volumes, expect_status, show
from kilonova.embedded.volume.records import GIB, Snapshot, Volume, VolumeType, Work
from kilonova.embedded.volume.schemas import truth
from kilonova.web.call import Call

_NO_PROPERTY = frozenset(
    {"status", "visibility", "protected", "owner", "created_at", "updated_at", "tags", "self",
     "file", "schema", "locations", "direct_url", "os_hidden", "stores", "id", "name",
     "os_hash_algo", "os_hash_value", "virtual_size"}
)  # fmt: skip


class Source(msgspec.Struct, frozen=True):
    """Where the data of a new volume comes from, and what the volume takes over from there.

    ``least``: GiB it needs.
    """

    work: Work
    least: int = 0
    bootable: bool = False
    type_id: str | None = None
    snapshot_id: str | None = None
    source_volid: str | None = None
    image_metadata: dict[str, str] = {}


async def choose_source(call: Call[Volumes], given: dict[str, Any]) -> Source:
    """BadRequest for more than one source; NotFound for one that is not there."""
    image = given.get("imageRef") or given.get("image_id")
    snapshot_id, volume_id = given.get("snapshot_id"), given.get("source_volid")
    if sum(bool(one) for one in (image, snapshot_id, volume_id)) > 1:
        raise BadRequest("A volume has one source: an image, a snapshot or a volume.")
    for name in ("backup_id", "group_id", "consistencygroup_id"):
        if given.get(name):
            raise BadRequest(f"This service has no {name.removesuffix('_id')}s.")
    if snapshot_id:
        snapshot = await show(call, Snapshot, snapshot_id)
        expect_status(snapshot, ("available",), "create a volume from it")
        origin = await call.app.db.read(_origin, snapshot.volume_id)
        return Source(
            Work("snapshot", snapshot.id),
            snapshot.size,
            bootable=origin.bootable if origin else False,
            type_id=snapshot.type_id,
            snapshot_id=snapshot.id,
            image_metadata=origin.image_metadata if origin else {},
        )
    if volume_id:
        volume = await show(call, Volume, volume_id)
        expect_status(volume, ("available", "in-use"), "create a volume from it")
        return Source(
            Work("volume", volume.id),
            volume.size,
            bootable=volume.bootable,
            type_id=volume.type_id,
            source_volid=volume.id,
            image_metadata=volume.image_metadata,
        )
    if image:
        return await of_image(call, str(image).rstrip("/").rsplit("/", 1)[-1])
    return Source(Work("blank"))


def _origin(tx: Any, volume_id: str) -> Volume | None:
    from kilonova.embedded.volume.store import rows  # noqa: PLC0415

    return rows.find(tx, Volume, volume_id)


async def of_image(call: Call[Volumes], image_id: str) -> Source:
    """The data of an image; BadRequest when it is not there or not active."""
    try:
        found = await call.app.images.show(image_id, call.caller.token)
    except NotFound:
        raise BadRequest("Invalid image identifier or unable to access requested image.") from None
    if found.get("status") != "active":
        raise BadRequest(f"Invalid input received: Image {image_id} is not active.")
    size = max(int(found.get("virtual_size") or 0), int(found.get("size") or 0))
    kept = {
        name: str(value)
        for name, value in found.items()
        if name not in _NO_PROPERTY and value is not None
    }
    return Source(
        Work("image", image_id, disk_format=found.get("disk_format") or "raw"),
        max(math.ceil(size / GIB), int(found.get("min_disk") or 0)),
        bootable=True,
        image_metadata={"image_id": image_id, "image_name": found.get("name") or "", **kept},
    )


def new_volume(
    call: Call[Volumes],
    given: dict[str, Any],
    source: Source,
    kind: VolumeType,
    *,
    key: str,
    project_id: str,
) -> Volume:
    """The row; BadRequest when the size is missing or less than the source needs."""
    copied = source.snapshot_id or source.source_volid
    size = given.get("size")
    if size is None and copied:
        size = source.least
    if size is None:
        raise BadRequest("Missing required element 'size' in request body.")
    if int(size) < 1:
        raise BadRequest(f"Invalid input received: Volume size '{size}' must be greater than 0.")
    if int(size) < source.least:
        raise BadRequest(
            f"Invalid input received: Volume size '{size}'GB cannot be smaller than the "
            f"{'snapshot' if source.snapshot_id else 'original'} size {source.least}GB. "
            "They must be >= the size of what they are made from."
        )
    zone = given.get("availability_zone") or call.app.settings.zone
    if zone != call.app.settings.zone:
        raise BadRequest(f"Availability zone '{zone}' is invalid.")
    if truth(given.get("multiattach")) and not kind.multiattach and call.version >= 50:
        raise BadRequest("Multiattach is asked for with a volume type that has it.")
    return Volume(
        id=key,
        project_id=project_id,
        user_id=given.get("user_id") or call.caller.user_id,
        name=given.get("name", given.get("display_name")),
        description=given.get("description", given.get("display_description")),
        size=int(size),
        status="creating",
        bootable=source.bootable,
        multiattach=kind.multiattach or truth(given.get("multiattach")),
        readonly=False,
        type_id=kind.id,
        availability_zone=zone,
        snapshot_id=source.snapshot_id,
        source_volid=source.source_volid,
        metadata={name: str(value) for name, value in (given.get("metadata") or {}).items()},
        image_metadata=source.image_metadata,
        job=source.work,
        created_at=call.app.clock.now(),
        updated_at=None,
    )
