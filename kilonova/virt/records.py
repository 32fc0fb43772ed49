"""What is remembered of a guest on disk: its spec, how far it was made, what it should do."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Container, Iterable
from pathlib import Path

import msgspec

from kilonova.domain.guest import GuestSpec
from kilonova.virt.devices.nics import tap_name
from kilonova.virt.disks import DiskFile

FILE = "guest.json"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_SERVER_ID = re.compile(r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")


class Asleep(msgspec.Struct, frozen=True):
    """A guest whose memory lies in a file: what the machine that takes it up must be like.

    ``machine``: its type ("": the hypervisor knows). ``places``: device → where it is plugged.
    """

    machine: str = ""
    places: dict[str, dict[str, str]] = {}


class Rescued(msgspec.Struct, frozen=True):
    """How a guest was started that does not start from its own disk for a while."""

    spec: GuestSpec
    disks: dict[str, DiskFile] = {}


class Record(msgspec.Struct, frozen=True):
    """One guest.

    ``made``: its disks are complete. ``running``: it ought to run. ``boot``: the host's boot it
    last ran in. ``ended``: why it stopped by itself ("" when it was told to). ``ports``: port id →
    forwarded port of 127.0.0.1. ``disks``: device name → file. ``aside``: the move for which its
    directory is not in its place. ``arriving``: it runs on another host and waits for its memory.
    ``sending``: the mark of the try by which its memory was sent last. ``asleep``: it is suspended.
    ``rescue``: how it was started, while it is rescued.
    """

    spec: GuestSpec
    made: bool = False
    running: bool = False
    boot: str = ""
    ended: str = ""
    ports: dict[str, int] = {}
    disks: dict[str, DiskFile] = {}
    aside: str = ""
    rescue: Rescued | None = None
    arriving: bool = False
    sending: str = ""
    asleep: Asleep | None = None

    @property
    def started(self) -> GuestSpec:
        """The guest as it was started last."""
        return self.rescue.spec if self.rescue is not None else self.spec

    @property
    def attached(self) -> dict[str, DiskFile]:
        """The files of the disks it was started with: device name → file."""
        return self.rescue.disks if self.rescue is not None else self.disks


def is_server_id(word: str) -> bool:
    """Whether a guest's directory may have this name."""
    return _SERVER_ID.match(word) is not None


def places(directory: Path) -> list[Path]:
    """What bears the name of a server below ``directory``: guests' directories, mostly."""
    if not directory.exists():
        return []
    return sorted(entry for entry in directory.iterdir() if is_server_id(entry.name))


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
    """Ids of the images those guests' disks lie over, and the paths of what they do lie over.

    The disk of a server that was shelved lies over another image than its description names.
    """
    found = set()
    for one in kept:
        disks = (*one.spec.disks, *one.started.disks)
        found |= {disk.image.id for disk in disks if disk.image is not None}
        found |= {file.base for file in (*one.disks.values(), *one.attached.values()) if file.base}
    return found


def taps(kept: Iterable[Record]) -> set[str]:
    """The host's ends of those guests' cards."""
    return {tap_name(nic) for record in kept for nic in record.spec.nics}


def unused_places(directory: Path, known: Container[str]) -> list[str]:
    """A sentence for each directory of a server that is none of the ``known``."""
    return [
        f"directory {entry} of server {entry.name}"
        for entry in places(directory)
        if entry.name not in known
    ]


def unused_taps(found: Iterable[str], kept: Iterable[Record]) -> list[str]:
    """A sentence for each tap among the ``found`` ones that no guest's card has."""
    ours = taps(kept)
    return [f"tap {name}" for name in found if name.startswith("tap") and name not in ours]
