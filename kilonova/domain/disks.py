"""The disks of a new server: from flavor, image and what was asked for to a plan with names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count
from pathlib import PurePosixPath
from typing import Any

import msgspec

from kilonova.base.errors import BadRequest, NotSupported
from kilonova.domain.guest import Disk, FlavorSpec, ImageRef

_PREFIX = {"virtio": "vd", "scsi": "sd", "sata": "sd", "usb": "sd", "ide": "hd", "fdc": "fd"}
GIB = 1024


_FILES = {"local": "device_path", "nfs": "name"}
"""Kinds of connection to volumes that are files, and where the file's name is in them."""


class BlankDisk(msgspec.Struct, frozen=True):
    """An empty local disk asked for. ``size_gb`` None: the flavor's size; swap: MiB by flavor."""

    swap: bool = False
    size_gb: int | None = None
    bus: str | None = None
    device: str | None = None
    device_type: str = "disk"
    format: str | None = None
    tag: str | None = None


class RootDisk(msgspec.Struct, frozen=True):
    """What was asked for about the root disk."""

    bus: str | None = None
    device: str | None = None
    device_type: str = "disk"
    tag: str | None = None


class WantedVolume(msgspec.Struct, frozen=True):
    """A volume asked for: an existing one (``source`` volume), or one to be made.

    ``source``: volume, image, snapshot or blank. ``size_gb`` None: as great as its source.
    """

    source: str
    source_id: str | None = None
    size_gb: int | None = None
    boot_index: int | None = None
    bus: str | None = None
    device: str | None = None
    device_type: str = "disk"
    tag: str | None = None
    delete_on_termination: bool = False
    volume_type: str | None = None

    @property
    def root(self) -> bool:
        """Whether the server starts from it."""
        return self.boot_index == 0


def plan(
    flavor: FlavorSpec,
    image: ImageRef | None,
    blanks: Sequence[BlankDisk],
    *,
    root: RootDisk,
    new_id: Callable[[], str],
    volumes: Sequence[WantedVolume] = (),
    properties: Mapping[str, str] | None = None,
) -> tuple[Disk, ...]:
    """Root, ephemeral and swap disks and volumes, each with the name the guest will know it by.

    ``properties`` are those of the image, or of the root volume's. BadRequest when more is asked
    for than the flavor gives.
    """
    ephemerals = [
        b for b in blanks if not b.swap and (b.size_gb is not None or flavor.ephemeral_gb)
    ]
    swaps = [b for b in blanks if b.swap and (b.size_gb is not None or flavor.swap_mb)]
    if not ephemerals and flavor.ephemeral_gb:
        ephemerals = [BlankDisk(size_gb=flavor.ephemeral_gb)]
    if not swaps and flavor.swap_mb:
        swaps = [BlankDisk(swap=True)]
    _check(flavor, ephemerals, swaps)
    given = properties if properties is not None else image.properties if image else {}
    default = given.get("hw_disk_bus", "virtio")
    asked = [*(b.device for b in blanks), *(v.device for v in volumes), root.device]
    wanted = [_short(name) for name in asked if name]
    if len(set(wanted)) != len(wanted):
        raise BadRequest("Block Device Mapping is Invalid: a device name is given twice.")
    names = _names(set(asked))
    disks = [_volume(v, new_id(), names, default) for v in volumes if v.root]
    if not disks:
        medium = image is not None and image.disk_format == "iso"
        bus = root.bus or (given.get("hw_cdrom_bus", "sata") if medium else default)
        disks.append(
            Disk(
                id=new_id(),
                role="root",
                source="image",
                device=names(root.device, bus),
                bus=bus,
                size_mb=flavor.root_gb * GIB,
                boot_index=0,
                image=image,
                device_type="cdrom" if medium else root.device_type,
                tag=root.tag,
            )
        )
    for number, blank in enumerate([*ephemerals, *swaps]):
        size = flavor.ephemeral_gb if blank.size_gb is None else blank.size_gb
        disks.append(
            Disk(
                id=new_id(),
                role="swap" if blank.swap else "ephemeral",
                source="blank",
                device=names(blank.device, blank.bus or default),
                bus=blank.bus or default,
                size_mb=_swap_mb(flavor, blank) if blank.swap else size * GIB,
                fs_label="" if blank.swap else f"ephemeral{number}",
                file_system=(not blank.swap and blank.format) or msgspec.UNSET,
                device_type=blank.device_type,
                tag=blank.tag,
            )
        )
    disks += [_volume(v, new_id(), names, default) for v in volumes if not v.root]
    return tuple(disks)


def _volume(
    wanted: WantedVolume, disk_id: str, names: Callable[[str | None, str], str], default: str
) -> Disk:
    bus = wanted.bus or default
    exists = wanted.source == "volume"
    return Disk(
        id=disk_id,
        role="root" if wanted.root else "volume",
        source="volume",
        device=names(wanted.device, bus),
        bus=bus,
        size_mb=(wanted.size_gb or 0) * GIB,
        boot_index=wanted.boot_index,
        format="raw",
        serial=(wanted.source_id or "") if exists else "",
        volume_id=wanted.source_id if exists else None,
        device_type=wanted.device_type,
        tag=wanted.tag,
        delete_on_termination=wanted.delete_on_termination,
        origin="" if exists else wanted.source,
        origin_id=None if exists else wanted.source_id,
        volume_type=wanted.volume_type,
    )


def on_volume(disks: Iterable[Disk]) -> bool:
    """Whether a server with these disks starts from a volume."""
    return any(disk.role == "root" and disk.source == "volume" for disk in disks)


def resized(
    disks: Sequence[Disk], old: FlavorSpec, new: FlavorSpec, *, new_id: Callable[[], str]
) -> tuple[Disk, ...]:
    """The disks of a server that goes from one flavor to another; volumes stay as they are.

    The local root disk grows; so does an ephemeral disk that has all the old flavor gave. Swap is
    as great as the new flavor says. BadRequest when a disk with data would have to shrink.
    """
    present = sum(disk.size_mb for disk in disks if disk.role == "ephemeral")
    if present > new.ephemeral_gb * GIB:
        raise BadRequest("Resize error: an ephemeral disk cannot become smaller.")
    made = [_resized(disk, old, new) for disk in disks]
    left = [disk for disk in made if disk.role != "swap" or disk.size_mb]
    bus = next((disk.bus for disk in disks if disk.role == "root"), "virtio")
    names = _names({disk.device for disk in left})
    for role, size, label in (
        ("ephemeral", new.ephemeral_gb * GIB, "ephemeral0"),
        ("swap", new.swap_mb, ""),
    ):
        if size and not any(disk.role == role for disk in left):
            left.append(
                Disk(
                    id=new_id(),
                    role=role,
                    source="blank",
                    device=names(None, bus),
                    bus=bus,
                    size_mb=size,
                    fs_label=label,
                )
            )
    return tuple(left)


def _resized(disk: Disk, old: FlavorSpec, new: FlavorSpec) -> Disk:
    size = disk.size_mb
    if disk.source == "volume":
        return disk
    if disk.role == "root":
        size = new.root_gb * GIB
        if size < disk.size_mb:
            raise BadRequest("Resize error: the root disk cannot become smaller.")
    elif disk.role == "ephemeral" and size == old.ephemeral_gb * GIB:
        size = new.ephemeral_gb * GIB
    elif disk.role == "swap":
        size = new.swap_mb if size == old.swap_mb else min(size, new.swap_mb)
    return msgspec.structs.replace(disk, size_mb=size)


def next_device(disks: Iterable[Disk], wanted: str | None, bus: str) -> str:
    """The name of one more disk: the wanted one, or the first that is free; BadRequest if taken."""
    used = {disk.device for disk in disks}
    if wanted and _short(wanted) in used:
        raise BadRequest(f"The supplied device path ({wanted}) is in use.")
    return _names(set(used))(wanted, bus)


def _swap_mb(flavor: FlavorSpec, blank: BlankDisk) -> int:
    return flavor.swap_mb if blank.size_gb is None else blank.size_gb


def _check(flavor: FlavorSpec, ephemerals: Iterable[BlankDisk], swaps: Sequence[BlankDisk]) -> None:
    total = sum(
        flavor.ephemeral_gb if blank.size_gb is None else blank.size_gb for blank in ephemerals
    )
    if total > flavor.ephemeral_gb:
        raise BadRequest(
            f"Ephemeral disks requested ({total} GB) are larger than the flavor allows "
            f"({flavor.ephemeral_gb} GB)."
        )
    if len(swaps) > 1:
        raise BadRequest("More than one swap drive requested.")
    if swaps and _swap_mb(flavor, swaps[0]) > flavor.swap_mb:
        raise BadRequest(f"Swap drive requested is larger than the flavor's {flavor.swap_mb} MB.")


def _names(taken: set[str | None]) -> Callable[[str | None, str], str]:
    used = {_short(name) for name in taken if name}

    def choose(wanted: str | None, bus: str) -> str:
        if wanted:
            return _short(wanted)
        prefix = _PREFIX.get(bus, "vd")
        for number in count():
            name = prefix + letters(number)
            if name not in used:
                used.add(name)
                return name
        raise AssertionError("unreachable")

    return choose


def _short(name: str) -> str:
    return name.removeprefix("/dev/")


def letters(number: int) -> str:
    """0 → a, 25 → z, 26 → aa: the tail of a device name."""
    text = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        text = chr(ord("a") + rest) + text
    return text


def file_of(disk: Disk) -> str:
    """The name of the file a volume is, without its directory; NotSupported when it is none."""
    return PurePosixPath(_file(disk)[2]).name


def on_file(disk: Disk, file: str) -> Disk:
    """The disk as it is once its volume goes on in another file (qcow2) beside its own.

    NotSupported for a volume that is no file.
    """
    kind, field, path = _file(disk)
    changed = {field: str(PurePosixPath(path).with_name(file)), "format": "qcow2"}
    data = {**(disk.connection or {})["data"], **changed}
    return msgspec.structs.replace(disk, connection={"driver_volume_type": kind, "data": data})


def _file(disk: Disk) -> tuple[str, str, str]:
    connection: dict[str, Any] = disk.connection or {}
    kind = str(connection.get("driver_volume_type"))
    path = connection.get("data", {}).get(_FILES.get(kind, ""))
    if not isinstance(path, str) or not PurePosixPath(path).name:
        raise NotSupported(f"Volume {disk.volume_id} is no file, but a connection by {kind}.")
    return kind, _FILES[kind], path
