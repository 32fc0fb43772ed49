"""The volumes a new server names, looked up; what is not there, or cannot be used, is 400."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from kilonova.api.servers.devices import INVALID
from kilonova.api.servers.parse import ServerRequest
from kilonova.base.errors import BadRequest, Fault, Forbidden, NotFound
from kilonova.context import Context
from kilonova.domain.disks import WantedVolume
from kilonova.interfaces.image import Image
from kilonova.interfaces.volume import AVAILABLE, Volume

GIB = 1024**3


class Start(msgspec.Struct, frozen=True):
    """What is known of the root volume: properties and demands of what it was made from."""

    properties: dict[str, str] = {}
    min_ram: int = 0
    min_disk: int = 0


class Looked(msgspec.Struct, frozen=True):
    """The volumes, with sizes filled in. ``start`` None: the server starts from a local disk.

    ``zone``: where the server has to be because its volumes are there.
    """

    wanted: tuple[WantedVolume, ...] = ()
    start: Start | None = None
    zone: str | None = None


async def look(call: Context, request: ServerRequest, image: Image | None = None) -> Looked:
    """BadRequest, Forbidden. ``image`` is the one whose properties count, whatever the root volume
    is made from."""
    wanted = request.volumes
    if not wanted:
        return Looked()
    call.enforce("os_compute_api:servers:create:attach_volume")
    await _check_types(call, wanted)
    keys = [volume.source_id for volume in wanted if volume.source == "volume"]
    if len(set(keys)) != len(keys):
        raise BadRequest(INVALID + "A volume is named more than once.")
    found = []
    start = None
    zones: set[str] = set()
    for volume in wanted:
        sized, began = await _one(call, request, volume, zones)
        found.append(sized)
        if volume.root:
            start = began if image is None else _of_image(image)
    return Looked(tuple(found), start, _common_zone(call, request.zone, zones))


async def _check_types(call: Context, wanted: tuple[WantedVolume, ...]) -> None:
    named = {volume.volume_type for volume in wanted if volume.volume_type}
    if not named:
        return
    known = await call.app.volumes.types(token=call.caller.token)
    for name in sorted(named - known):
        raise BadRequest(f"Volume type {name} could not be found.")


async def _one(
    call: Context, request: ServerRequest, wanted: WantedVolume, zones: set[str]
) -> tuple[WantedVolume, Start]:
    match wanted.source:
        case "volume":
            return await _volume(call, request, wanted, zones)
        case "snapshot":
            return await _snapshot(call, wanted)
        case "image":
            return wanted, await _image(call, wanted)
    return wanted, Start()


async def _volume(
    call: Context, request: ServerRequest, wanted: WantedVolume, zones: set[str]
) -> tuple[WantedVolume, Start]:
    try:
        volume = await call.app.volumes.show(wanted.source_id or "", token=call.caller.token)
    except (NotFound, BadRequest):
        raise BadRequest(INVALID + f"failed to get volume {wanted.source_id}.") from None
    check_usable(volume)
    zones.add(volume.zone)
    # With an image named beside it, a volume need not say what is on it.
    if wanted.root and not request.image_id and not volume.bootable:
        raise BadRequest(INVALID + f"Block Device {volume.id} is not bootable.")
    sized = msgspec.structs.replace(wanted, size_gb=volume.size)
    return sized, _start(volume.image_metadata)


async def _snapshot(call: Context, wanted: WantedVolume) -> tuple[WantedVolume, Start]:
    volumes, token = call.app.volumes, call.caller.token
    try:
        snapshot = await volumes.snapshot(wanted.source_id or "", token=token)
    except (NotFound, BadRequest):
        raise BadRequest(INVALID + f"failed to get snapshot {wanted.source_id}.") from None
    size = wanted.size_gb or snapshot.size
    if size < snapshot.size:
        raise BadRequest(
            INVALID + f"the volume ({size} GB) is smaller than its snapshot ({snapshot.size} GB)."
        )
    sized = msgspec.structs.replace(wanted, size_gb=size)
    if not wanted.root:
        return sized, Start()
    try:
        origin = await volumes.show(snapshot.volume_id, token=token)
    except NotFound:
        return sized, Start()
    if not origin.bootable:
        raise BadRequest(INVALID + f"Block Device {snapshot.id} is not bootable.")
    return sized, _start(origin.image_metadata)


async def _image(call: Context, wanted: WantedVolume) -> Start:
    image = await boot_image(call, wanted.source_id or "")
    if image.status != "active":
        raise BadRequest(f"Image {image.id} is not active.")
    needed = max(image.min_disk, math.ceil((image.virtual_size or image.size) / GIB))
    if (wanted.size_gb or 0) < needed:
        raise BadRequest(
            f"Volume is smaller than the minimum size specified in image metadata. Volume size is "
            f"{(wanted.size_gb or 0) * GIB} bytes, minimum size is {needed * GIB} bytes."
        )
    return _of_image(image)


async def boot_image(call: Context, image_id: str) -> Image:
    """The image a volume is to be made from; BadRequest when it is not there."""
    try:
        return await call.app.images.show(image_id, token=call.caller.token)
    except (NotFound, Forbidden):
        raise BadRequest(INVALID + f"failed to get image {image_id}.") from None


def _of_image(image: Image) -> Start:
    return Start(image.properties, image.min_ram, image.min_disk)


def _start(metadata: dict[str, Any]) -> Start:
    own = {"image_id", "image_name", "checksum", "container_format", "disk_format", "size",
           "min_ram", "min_disk"}  # fmt: skip
    properties = {name: str(value) for name, value in metadata.items() if name not in own}

    def number(name: str) -> int:
        text = str(metadata.get(name, "0"))
        return int(text) if text.isdecimal() else 0

    return Start(properties, number("min_ram"), number("min_disk"))


def check_usable(volume: Volume) -> None:
    """BadRequest unless one more server can have the volume."""
    usable = volume.status == AVAILABLE or (volume.multiattach and volume.status == "in-use")
    if not usable:
        raise BadRequest(
            f"Invalid volume: volume '{volume.id}' status must be 'available'"
            f"{' or in-use' if volume.multiattach else ''}. Currently in '{volume.status}'"
        )
    if volume.encrypted:
        raise BadRequest(f"Invalid volume: volume '{volume.id}' is encrypted, which needs a key.")


def _common_zone(call: Context, asked: str | None, zones: set[str]) -> str | None:
    """The zone that existing volumes draw their server to; BadRequest where zones differ.

    A server that asks for no zone is not bound to the default one: it is where no zone is.
    """
    settings = call.app.settings
    if settings.cinder.cross_az_attach or not zones - {""}:
        return None
    own = asked or settings.default.default_schedule_zone
    if len(zones) > 1:
        raise BadRequest("Invalid volume: Volumes are in different availability zones.")
    (zone,) = zones
    if own is None:
        return zone if zone != settings.default.default_availability_zone else None
    if own != zone:
        raise BadRequest(
            "Invalid volume: Server and volumes are not in the same availability zone. Server is "
            f"in: {own}. Volumes are in: {zone}"
        )
    return None


def check_zone(call: Context, volume: Volume, zone: str | None) -> None:
    """BadRequest for a volume of another zone, where that is not wanted."""
    settings = call.app.settings
    own = zone or settings.default.default_availability_zone
    if not settings.cinder.cross_az_attach and volume.zone and volume.zone != own:
        raise BadRequest(
            f"Invalid volume: Instance and volume not in the same availability_zone. Instance is "
            f"in {own}. Volume is in {volume.zone}"
        )


async def reserve(call: Context, wanted: tuple[WantedVolume, ...], server_ids: list[str]) -> None:
    """Keep the existing volumes for the server before anything is written; all or none."""
    done: list[str] = []
    try:
        for volume in wanted:
            if volume.source == "volume" and volume.source_id:
                for server_id in server_ids:
                    done.append(await call.app.volumes.reserve(volume.source_id, server_id))
    except Fault as fault:
        await let_go(call, done)
        if isinstance(fault, (BadRequest, NotFound)):
            raise BadRequest(f"Invalid volume: {fault.message}") from None
        raise


async def unreserve(call: Context, wanted: tuple[WantedVolume, ...], server_ids: list[str]) -> None:
    """The opposite of `reserve`: the servers were not accepted after all."""
    if any(volume.source == "volume" for volume in wanted):
        for server_id in server_ids:
            found = await call.app.volumes.attachments(server_id)
            await let_go(call, [item.id for item in found])


async def let_go(call: Context, attachment_ids: list[str]) -> None:
    """End reservations."""
    for attachment_id in attachment_ids:
        await call.app.volumes.release(attachment_id)
