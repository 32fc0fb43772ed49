"""Block devices of ``POST /servers``: both spellings become root disk, blank disks and volumes."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from kilonova.api.schemas import truth
from kilonova.base.errors import BadRequest
from kilonova.domain.disks import BlankDisk, RootDisk, WantedVolume

INVALID = "Block Device Mapping is Invalid: "
SEQUENCE = (
    INVALID + "Boot sequence for the instance and image/block device mapping combination is not "
    "valid."
)
BUSES = frozenset(
    {"fdc", "ide", "sata", "scsi", "usb", "virtio", "xen", "lxc", "uml", "nvme"}
)  # feature table: DiskBus
KINDS = frozenset({"disk", "cdrom", "floppy", "fs", "lun"})
_EPHEMERAL = re.compile(r"ephemeral(\d|[1-9]\d+)$")
_DEVICE = re.compile(r"^/dev/(x?[a-z]{0,1}d{0,1})([a-z0-9]*)$|^[a-z]+[a-z0-9]*$")


class Devices(msgspec.Struct, frozen=True):
    """What was asked for. ``local_root``: an image is put onto a local disk to start from."""

    root: RootDisk = RootDisk()
    blanks: tuple[BlankDisk, ...] = ()
    volumes: tuple[WantedVolume, ...] = ()
    local_root: bool = True


def devices(server: dict[str, Any], image_id: str, *, most: int) -> Devices:
    """BadRequest in the words clients know. ``most``: how many servers are asked for."""
    old, new = server.get("block_device_mapping"), server.get("block_device_mapping_v2")
    if old and new:
        raise BadRequest(
            "Using different block_device_mapping syntaxes is not allowed in the same request."
        )
    if old is not None and not isinstance(old, list):
        raise BadRequest("block_device_mapping must be a list")
    found = _legacy(old, image_id) if old else _modern(new or [], image_id)
    _check_sequence(found, image_id)
    if most > 1 and any(volume.source == "volume" for volume in found.volumes):
        raise BadRequest("Cannot attach one or more volumes to multiple instances")
    return found


def _check_sequence(found: Devices, image_id: str) -> None:
    order = sorted(
        volume.boot_index
        for volume in found.volumes
        if volume.boot_index is not None and volume.boot_index >= 0
    )
    if found.local_root and image_id:
        order = [0, *order]
    if order != list(range(len(order))) or not order:
        raise BadRequest(SEQUENCE)


# -- version 2 -------------------------------------------------------------------------------------


def _modern(items: list[dict[str, Any]], image_id: str) -> Devices:
    root: RootDisk | None = None
    blanks: list[BlankDisk] = []
    volumes: list[WantedVolume] = []
    for item in items:
        if truth(item.get("no_device") or False):
            continue
        _check_common(item)
        source = item.get("source_type")
        if source is None:
            source = next((s for s in ("volume", "snapshot", "image") if item.get(f"{s}_id")), None)
        if source is None:
            raise BadRequest(INVALID + "Invalid source_type field.")
        target = item.get("destination_type") or (
            "local" if source in ("blank", "image") else "volume"
        )
        key = item.get("uuid") or item.get(f"{source}_id")
        if source == "blank" and key:
            raise BadRequest("Block Device Mapping is Invalid: Invalid device UUID.")
        if source != "blank" and not key:
            raise BadRequest("Block Device Mapping is Invalid: Missing device UUID.")
        if target == "volume":
            volumes.append(_volume(item, source, key))
        elif source == "image":
            if root is not None or _boot_index(item) != 0 or key != image_id:
                raise BadRequest(INVALID + "Mapping image to local is not supported.")
            root = _root(item)
        elif source == "blank":
            blanks.append(_blank(item))
        else:
            raise BadRequest(INVALID + f"Mapping {source} to local is not supported.")
        if target == "local" and item.get("volume_type"):
            raise BadRequest(
                "Specifying a volume_type with destination_type=local is not supported."
            )
    on_volume = any(volume.root for volume in volumes)
    local = root is not None or not on_volume
    return Devices(root or RootDisk(), tuple(blanks), tuple(volumes), local)


def _check_common(item: dict[str, Any]) -> None:
    bus, kind = item.get("disk_bus"), item.get("device_type")
    if bus is not None and bus not in BUSES:
        raise BadRequest(INVALID + f"Disk bus {bus} is not one of {', '.join(sorted(BUSES))}.")
    if kind is not None and kind not in KINDS:
        raise BadRequest(INVALID + f"Device type {kind} is not one of {', '.join(sorted(KINDS))}.")
    name = item.get("device_name")
    if name is not None and (" " in name or not _DEVICE.match(name)):
        raise BadRequest(INVALID + f"The device name {name} is not valid.")


def _boot_index(item: dict[str, Any]) -> int | None:
    value = item.get("boot_index")
    if value is None:
        return None
    index = int(value)
    return index if index >= 0 else None


def _root(item: dict[str, Any]) -> RootDisk:
    return RootDisk(
        item.get("disk_bus"),
        item.get("device_name"),
        item.get("device_type") or "disk",
        item.get("tag"),
    )


def _blank(item: dict[str, Any]) -> BlankDisk:
    if _boot_index(item) is not None:
        raise BadRequest(SEQUENCE)
    size = item.get("volume_size")
    return BlankDisk(
        swap=item.get("guest_format") == "swap",
        size_gb=None if size is None else int(size),
        bus=item.get("disk_bus"),
        device=item.get("device_name"),
        device_type=item.get("device_type") or "disk",
        format=item.get("guest_format"),
        tag=item.get("tag"),
    )


def _volume(item: dict[str, Any], source: str, key: str | None) -> WantedVolume:
    size = item.get("volume_size")
    if size is None and source == "blank":
        raise BadRequest(
            INVALID + "Blank volumes (source: 'blank', dest: 'volume') need to have non-zero size"
        )
    if size is None and source == "image":
        raise BadRequest(
            INVALID + "Images with destination_type 'volume' need to have a non-zero size specified"
        )
    if item.get("volume_type") and source == "volume":
        raise BadRequest("Specifying a volume_type with an existing volume is not supported.")
    return WantedVolume(
        source,
        key,
        None if size is None else int(size),
        boot_index=_boot_index(item),
        bus=item.get("disk_bus"),
        device=item.get("device_name"),
        device_type=item.get("device_type") or "disk",
        tag=item.get("tag"),
        delete_on_termination=truth(item.get("delete_on_termination", False)),
        volume_type=item.get("volume_type") or None,
    )


# -- version 1 -------------------------------------------------------------------------------------


def _legacy(items: list[dict[str, Any]], image_id: str) -> Devices:
    """Without an image the first mapping that can be started from is the root disk."""
    blanks: list[BlankDisk] = []
    volumes: list[WantedVolume] = []
    for item in items:
        if not isinstance(item, dict):
            raise BadRequest("block_device_mapping must hold objects")
        device = item.get("device_name")
        virtual = item.get("virtual_name")
        if truth(item.get("no_device") or False):
            continue
        if virtual == "swap":
            blanks.append(BlankDisk(swap=True, device=device))
        elif virtual is not None and _EPHEMERAL.match(str(virtual)):
            blanks.append(BlankDisk(device=device))
        elif virtual is not None:
            raise BadRequest(INVALID + f"Unrecognized legacy format: virtual_name {virtual}.")
        else:
            volumes.append(_old_volume(item, boots=not image_id and not volumes))
    return Devices(RootDisk(), tuple(blanks), tuple(volumes), local_root=bool(image_id))


def _old_volume(item: dict[str, Any], *, boots: bool) -> WantedVolume:
    volume_id, snapshot_id = item.get("volume_id"), item.get("snapshot_id")
    if bool(volume_id) == bool(snapshot_id):
        raise BadRequest(INVALID + "Unrecognized legacy format.")
    size = item.get("volume_size")
    if size is not None and not str(size).isdecimal():
        raise BadRequest("Invalid input for field/attribute volume_size: it must be a number.")
    _check_common({"device_name": item.get("device_name")})
    return WantedVolume(
        "volume" if volume_id else "snapshot",
        str(volume_id or snapshot_id),
        None if size is None else int(size),
        boot_index=0 if boots else None,
        device=item.get("device_name"),
        delete_on_termination=truth(item.get("delete_on_termination") or False),
    )
