"""What is remembered of a guest on disk: its spec, how far it was made, what it should do."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from kilonova.domain.guest import GuestSpec
from kilonova.virt.devices.nics import tap_name
from kilonova.virt.disks import DiskFile

FILE = "guest.json"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Record(msgspec.Struct, frozen=True):
    """One guest.

    ``made``: its disks are complete. ``running``: it ought to run. ``boot``: the host's boot it
    last ran in. ``ended``: why it stopped by itself ("" when it was told to). ``ports``: port id →
    forwarded port of 127.0.0.1. ``disks``: device name → file.
    """

    spec: GuestSpec
    made: bool = False
    running: bool = False
    boot: str = ""
    ended: str = ""
    ports: dict[str, int] = {}
    disks: dict[str, DiskFile] = {}


def load(directory: Path) -> Record | None:
    """The record in a guest's directory; None when there is none that can be read."""
    try:
        return msgspec.json.decode((directory / FILE).read_bytes(), type=Record)
    except (FileNotFoundError, NotADirectoryError, msgspec.MsgspecError):
        return None


def save(directory: Path, record: Record, *, durable: bool = False) -> None:
    """Replace the record, whole or not at all; ``durable`` waits until the disk has it."""
    part = directory / f"{FILE}.part"
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as out:
        out.write(msgspec.json.encode(record))
        if durable:
            out.flush()
            os.fsync(out.fileno())
    part.replace(directory / FILE)


def boot_id() -> str:
    """The id of the host's present boot ('' where the kernel tells none)."""
    with contextlib.suppress(OSError):
        return BOOT_ID.read_text().strip()
    return ""


def images(kept: Iterable[Record]) -> set[str]:
    """Ids of the images those guests' disks lie over."""
    disks = (disk for record in kept for disk in record.spec.disks)
    return {disk.image.id for disk in disks if disk.image is not None}


def taps(kept: Iterable[Record]) -> set[str]:
    """The host's ends of those guests' cards."""
    return {tap_name(nic) for record in kept for nic in record.spec.nics}
