"""Block devices of ``POST /servers``: what is asked for and what the image brings become disks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
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
ROOT_NAME = "vda"
"""What the root disk of a server is called in mappings of version 1 when nobody says otherwise."""
_EPHEMERAL = re.compile(r"ephemeral(\d|[1-9]\d+)$")
_DEVICE = re.compile(r"^/dev/(x?[a-z]{0,1}d{0,1})([a-z0-9]*)$|^[a-z]+[a-z0-9]*$")


class Item(msgspec.Struct, frozen=True):
    """One mapping, whatever its spelling. ``source`` is empty where ``absent`` (``no_device``).

    ``device`` has no ``/dev/``; ``key`` is the id of the source; ``size``: GiB.
    """

    source: str = ""
    target: str = ""
    key: str | None = None
    size: int | None = None
    boot_index: int | None = None
    device: str | None = None
    bus: str | None = None
    kind: str = "disk"
    format: str | None = None
    tag: str | None = None
    ends_with_server: bool = False
    volume_type: str | None = None
    absent: bool = False

    @property
    def bootable(self) -> bool:
        """Whether a server can start from what it names."""
        return self.source in ("volume", "snapshot", "image")


class Asked(msgspec.Struct, frozen=True):
    """The mappings of a request; ``legacy``: of version 1, or none at all."""

    items: tuple[Item, ...] = ()
    legacy: bool = True


class Brought(msgspec.Struct, frozen=True):
    """The mappings an image brings along, and the root disk's name if it says one."""

    items: tuple[Item, ...] = ()
    root_name: str | None = None

    @property
    def bootable(self) -> bool:
        """Whether the server starts from one of them."""
        return any(item.boot_index == 0 for item in self.items)


class Devices(msgspec.Struct, frozen=True):
    """What the server gets. ``local_root``: an image is put onto a local disk to start from."""

    root: RootDisk = RootDisk()
    blanks: tuple[BlankDisk, ...] = ()
    volumes: tuple[WantedVolume, ...] = ()
    local_root: bool = True


def asked(server: dict[str, Any], image_id: str) -> Asked:
    """The mappings in the body of a request. BadRequest in the words clients know."""
    old, new = server.get("block_device_mapping"), server.get("block_device_mapping_v2")
    if old and new:
        raise BadRequest(
            "Using different block_device_mapping syntaxes is not allowed in the same request."
        )
    if old is not None and not isinstance(old, list):
        raise BadRequest("block_device_mapping must be a list")
    if new:
        return Asked(tuple(_modern(item, image_id=image_id) for item in new), legacy=False)
    if not old and not image_id:
        raise BadRequest("Missing imageRef attribute")
    return Asked(tuple(_legacy(item) for item in old or ()))


def brought(properties: Mapping[str, str]) -> Brought:
    """The mappings in an image's properties; BadRequest when they make no sense.

    ``block_device_mapping`` is of version 2 where ``bdm_v2`` is true; it goes before ``mappings``,
    which can bring swap and ephemeral disks.
    """
    mappings = _documents(properties, "mappings")
    root_name = properties.get("root_device_name")
    blanks = []
    for document in mappings:
        virtual, device = str(document.get("virtual")), str(document.get("device") or "")
        if virtual == "root" and not root_name:
            root_name = device
        elif virtual == "swap" or _EPHEMERAL.match(virtual):
            form = "swap" if virtual == "swap" else document.get("guest_format")
            blanks.append(Item("blank", "local", device=_short(device), format=form))
    documents = _documents(properties, "block_device_mapping")
    if properties.get("bdm_v2", "").lower() in ("true", "1", "yes", "on", "t", "y"):
        items = tuple(_modern(document) for document in documents)
    else:
        items = _ordered(tuple(_legacy(one) for one in documents), root_name or ROOT_NAME)
    return Brought(_merged(items, blanks), _short(root_name) if root_name else None)


def _documents(properties: Mapping[str, str], name: str) -> list[dict[str, Any]]:
    text = properties.get(name)
    if not text:
        return []
    try:
        return msgspec.json.decode(text, type=list[dict[str, Any]])
    except msgspec.MsgspecError:
        raise BadRequest(f"The property {name} of the image is no JSON list of objects.") from None


def settle(wanted: Asked, from_image: Brought, image_id: str, *, most: int) -> Devices:
    """What is asked for and what the image brings, in one; BadRequest.

    What is asked for wins over what the image brings under the same device name, also to leave it
    away (``no_device``). Where the image brings a root disk, the image itself is none. ``most``:
    how many servers are asked for.
    """
    root_name = from_image.root_name or ROOT_NAME
    items = wanted.items
    if image_id and not wanted.legacy:
        _check_names(items, root_name)
    if not wanted.legacy and from_image.bootable:
        items = tuple(i for i in items if not (i.boot_index == 0 and i.source == "image"))
    elif wanted.legacy and from_image.bootable:
        items = tuple(msgspec.structs.replace(i, boot_index=None) for i in items)
    elif wanted.legacy:
        items = _ordered(items, root_name)
        if image_id and not any(item.boot_index == 0 for item in items):
            items = (Item("image", "local", image_id, boot_index=0), *items)
    items = tuple(item for item in _merged(items, from_image.items) if not item.absent)
    _check_sequence(items)
    if most > 1 and any(item.source == "volume" for item in items):
        raise BadRequest("Cannot attach one or more volumes to multiple instances")
    return _devices(items, image_id, from_image.root_name)


def _check_names(items: Iterable[Item], root_name: str) -> None:
    if any(item.target == "volume" and item.device == root_name for item in items):
        raise BadRequest(
            f"The volume cannot be assigned the same device name as the root device {root_name}"
        )


def _ordered(items: tuple[Item, ...], root_name: str) -> tuple[Item, ...]:
    """Mappings of version 1 say by their name which of them is the root disk."""
    root = _short(root_name)
    return tuple(
        msgspec.structs.replace(i, boot_index=0) if i.bootable and i.device == root else i
        for i in items
    )


def _merged(over: tuple[Item, ...], under: Iterable[Item]) -> tuple[Item, ...]:
    taken = {item.device for item in over if item.device}
    return (*over, *(item for item in under if item.device not in taken))


def _check_sequence(items: Iterable[Item]) -> None:
    order = sorted(item.boot_index for item in items if item.boot_index is not None)
    if not order or order != list(range(len(order))):
        raise BadRequest(SEQUENCE)


def _devices(items: Iterable[Item], image_id: str, root_name: str | None) -> Devices:
    root: RootDisk | None = None
    blanks: list[BlankDisk] = []
    volumes: list[WantedVolume] = []
    for item in items:
        device = item.device or (root_name if item.boot_index == 0 else None)
        if item.target == "volume":
            volumes.append(_volume(item, device))
        elif item.source == "blank":
            blanks.append(_blank(item))
        elif item.boot_index == 0 and item.key == image_id:
            root = RootDisk(item.bus, device, item.kind, item.tag)
        else:
            raise BadRequest(INVALID + f"Mapping {item.source} to local is not supported.")
    return Devices(root or RootDisk(), tuple(blanks), tuple(volumes), root is not None)


def _blank(item: Item) -> BlankDisk:
    if item.boot_index is not None:
        raise BadRequest(SEQUENCE)
    return BlankDisk(
        swap=item.format == "swap",
        size_gb=item.size,
        bus=item.bus,
        device=item.device,
        device_type=item.kind,
        format=item.format,
        tag=item.tag,
    )


def _volume(item: Item, device: str | None) -> WantedVolume:
    return WantedVolume(
        item.source,
        item.key,
        item.size,
        boot_index=item.boot_index,
        bus=item.bus,
        device=device,
        device_type=item.kind,
        tag=item.tag,
        delete_on_termination=item.ends_with_server,
        volume_type=item.volume_type,
    )


# -- version 2 -------------------------------------------------------------------------------------


def _modern(item: dict[str, Any], *, image_id: str | None = None) -> Item:
    """``image_id``: of the request, which alone may put its image onto a local disk."""
    if truth(item.get("no_device") or False):
        return Item(absent=True, device=_short(item.get("device_name")))
    _check_common(item)
    source = item.get("source_type")
    if source is None:
        source = next((s for s in ("volume", "snapshot", "image") if item.get(f"{s}_id")), None)
    if source is None:
        raise BadRequest(INVALID + "Invalid source_type field.")
    target = item.get("destination_type") or ("local" if source in ("blank", "image") else "volume")
    key = item.get("uuid") or item.get(f"{source}_id")
    if source == "blank" and key:
        raise BadRequest(INVALID + "Invalid device UUID.")
    if source != "blank" and not key:
        raise BadRequest(INVALID + "Missing device UUID.")
    made = Item(
        source,
        target,
        key,
        _size(item),
        boot_index=_boot_index(item),
        device=_short(item.get("device_name")),
        bus=item.get("disk_bus"),
        kind=item.get("device_type") or "disk",
        format=item.get("guest_format"),
        tag=item.get("tag"),
        ends_with_server=truth(item.get("delete_on_termination") or False),
        volume_type=item.get("volume_type") or None,
    )
    _check_target(made, image_id)
    return made


def _check_target(item: Item, image_id: str | None) -> None:
    if item.target == "local":
        if item.source not in ("blank", "image") or (
            item.source == "image"
            and image_id is not None
            and (item.boot_index != 0 or item.key != image_id)
        ):
            raise BadRequest(INVALID + f"Mapping {item.source} to local is not supported.")
        if item.volume_type:
            raise BadRequest(
                "Specifying a volume_type with destination_type=local is not supported."
            )
    elif item.size is None and item.source == "blank":
        raise BadRequest(
            INVALID + "Blank volumes (source: 'blank', dest: 'volume') need to have non-zero size"
        )
    elif item.size is None and item.source == "image":
        raise BadRequest(
            INVALID + "Images with destination_type 'volume' need to have a non-zero size specified"
        )
    elif item.volume_type and item.source == "volume":
        raise BadRequest("Specifying a volume_type with an existing volume is not supported.")


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
    try:
        index = -1 if value is None else int(value)
    except ValueError:
        raise BadRequest(INVALID + "Boot index is invalid.") from None
    return index if index >= 0 else None


def _size(item: dict[str, Any]) -> int | None:
    """GiB; 0 says as little as nothing does."""
    size = item.get("volume_size")
    if size is not None and not str(size).isdecimal():
        raise BadRequest("Invalid input for field/attribute volume_size: it must be a number.")
    return int(size) or None if size is not None else None


# -- version 1 -------------------------------------------------------------------------------------


def _legacy(item: Any) -> Item:
    if not isinstance(item, dict):
        raise BadRequest("block_device_mapping must hold objects")
    device = _short(item.get("device_name"))
    if truth(item.get("no_device") or False):
        return Item(absent=True, device=device)
    virtual = item.get("virtual_name")
    if virtual == "swap":
        return Item("blank", "local", device=device, format="swap")
    if virtual is not None and _EPHEMERAL.match(str(virtual)):
        return Item("blank", "local", device=device)
    if virtual is not None:
        raise BadRequest(INVALID + f"Unrecognized legacy format: virtual_name {virtual}.")
    volume_id, snapshot_id = item.get("volume_id"), item.get("snapshot_id")
    if not volume_id and not snapshot_id:
        raise BadRequest(INVALID + "Unrecognized legacy format.")
    _check_common({"device_name": item.get("device_name")})
    return Item(
        "snapshot" if snapshot_id else "volume",
        "volume",
        str(snapshot_id or volume_id),
        _size(item),
        device=device,
        ends_with_server=truth(item.get("delete_on_termination") or False),
    )


def _short(name: str | None) -> str | None:
    return name.removeprefix("/dev/") if name else None
