"""The disks of a new server: from flavor, image and what was asked for to a plan with names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import count

import msgspec

from kilonova.base.errors import BadRequest
from kilonova.domain.guest import Disk, FlavorSpec, ImageRef

_PREFIX = {"virtio": "vd", "scsi": "sd", "sata": "sd", "usb": "sd", "ide": "hd", "fdc": "fd"}
GIB = 1024


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


def plan(
    flavor: FlavorSpec,
    image: ImageRef,
    blanks: Sequence[BlankDisk],
    *,
    root: RootDisk,
    new_id: Callable[[], str],
) -> tuple[Disk, ...]:
    """Root, ephemeral and swap disks, each with the name the guest will know it by.

    BadRequest when more is asked for than the flavor gives.
    """
    ephemerals = [blank for blank in blanks if not blank.swap]
    swaps = [blank for blank in blanks if blank.swap]
    if not ephemerals and flavor.ephemeral_gb:
        ephemerals = [BlankDisk(size_gb=flavor.ephemeral_gb)]
    if not swaps and flavor.swap_mb:
        swaps = [BlankDisk(swap=True)]
    _check(flavor, ephemerals, swaps)
    default = image.properties.get("hw_disk_bus", "virtio")
    names = _names({blank.device for blank in blanks} | {root.device})
    disks = [
        Disk(
            id=new_id(),
            role="root",
            source="image",
            device=names(root.device, root.bus or default),
            bus=root.bus or default,
            size_mb=flavor.root_gb * GIB,
            boot_index=0,
            image=image,
            device_type=root.device_type,
            tag=root.tag,
        )
    ]
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
                device_type=blank.device_type,
                tag=blank.tag,
            )
        )
    return tuple(disks)


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
