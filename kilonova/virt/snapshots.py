"""Copies of guests' disks on their way to the image service: files, one guest's at a time.

A copy is ``snapshot-<image id>.<format>`` once it is whole; while it is being made it is
``snapshot-<image id>.part``, which whoever comes next removes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

import msgspec

from kilonova.base import programs
from kilonova.base.errors import Conflict, Fault, NotFound, NotSupported, Unavailable
from kilonova.config.settings import Settings
from kilonova.domain.guest import Disk, GuestSpec
from kilonova.domain.operations import Snapped
from kilonova.virt.devices import properties
from kilonova.virt.disks import DiskFile
from kilonova.virt.driver import Host, ImageSink

PREFIX, PART = "snapshot-", ".part"
PIECE = 1 << 20
COPY_SECONDS = 4 * 3600.0
SPARE = 64 << 20
WANTS_AGENT, MUST_QUIESCE = "hw_qemu_guest_agent", "os_require_quiesce"

QUIET_SECONDS = 120.0
"""How long a guest stands still for somebody else at most."""

Ask = Callable[[], Awaitable[None]]

log = logging.getLogger(__name__)


class Plan(msgspec.Struct, frozen=True):
    """Where a copy goes: ``part`` while it is made, in ``form``; then it gets the format ``last``.

    ``compress``: its clusters are. ``twice``: it is converted when it is whole.
    """

    image_id: str
    part: Path
    form: str
    last: str
    compress: bool = False
    twice: bool = False

    @property
    def whole(self) -> Path:
        """The copy when it is complete."""
        return self.part.with_name(f"{PREFIX}{self.image_id}.{self.last}")


def place(settings: Settings, directory: Path) -> Path:
    """Where the copies of a guest lie: its own directory, or one with its name elsewhere."""
    chosen = settings.libvirt.snapshots_directory
    return Path(chosen) / directory.name if chosen else directory


def root_of(guest: GuestSpec) -> Disk:
    """The disk an image is made of; Conflict when it is a volume, or there is none."""
    for disk in guest.disks:
        if disk.role == "root" and disk.source != "volume":
            return disk
    raise Conflict(f"The guest {guest.name} has no disk of its own that an image could be made of.")


def plan(
    settings: Settings,
    where: Path,
    file: DiskFile,
    image_id: str,
    *,
    live: bool,
    packs: bool = True,
) -> Plan:
    """How to copy that disk. What cannot be written while a guest runs is converted afterwards.

    ``packs``: a running guest's disk can be copied compressed.
    """
    last = settings.libvirt.snapshot_image_format or file.format
    form = last if not live or last in ("raw", "qcow2") else "qcow2"
    compress = settings.libvirt.snapshot_compression and last == "qcow2"
    twice = form != last or (compress and live and not packs)
    return Plan(image_id, where / f"{PREFIX}{image_id}{PART}", form, last, compress, twice)


def find(where: Path, image_id: str) -> tuple[Path, str] | None:
    """The whole copy for an image, and its disk format."""
    for file in sorted(where.glob(f"{PREFIX}{image_id}.*")):
        if file.suffix != PART:
            return file, file.suffix[1:]
    return None


def kept(file: Path, form: str) -> Snapped:
    """What is told of a whole copy."""
    return Snapped(form, file.stat().st_size)


def drop(where: Path, image_id: str = "*", *, but: str = "") -> None:
    """Remove the copies for an image (all by default), whole or half; ``but`` those for one."""
    for file in where.glob(f"{PREFIX}{image_id}.*") if where.is_dir() else ():
        if not but or not file.name.startswith(f"{PREFIX}{but}."):
            file.unlink(missing_ok=True)


def clear(settings: Settings, directory: Path) -> None:
    """The guest is gone: so is its place for copies."""
    where = place(settings, directory)
    if where != directory:
        shutil.rmtree(where, ignore_errors=True)


def make_room(where: Path, file: DiskFile, *, spare: int = SPARE) -> None:
    """Have the directory; Unavailable where the disk's data and ``spare`` bytes would not fit."""
    where.mkdir(mode=0o711, parents=True, exist_ok=True)
    present = [Path(path) for path in (file.path, file.base) if path]
    needed = sum(path.stat().st_blocks * 512 for path in present if path.exists())
    free = shutil.disk_usage(where).free
    if free < needed + spare:
        raise Unavailable(
            f"There is no room for a copy of the disk: {needed >> 20} MiB are needed and "
            f"{free >> 20} MiB free."
        )


async def size_of(file: DiskFile) -> int:
    """The disk's size as its guest sees it, in bytes."""
    said = await programs.run(
        *("qemu-img", "info", "-U", "--output=json", "-f", file.format, file.path)
    )
    return int(msgspec.json.decode(said)["virtual-size"])


async def blank(made: Plan, size: int) -> None:
    """Make the empty file a running guest's disk is copied to."""
    await programs.run("qemu-img", "create", "-q", "-f", made.form, str(made.part), str(size))


async def convert(file: DiskFile, made: Plan, *, form: str) -> None:
    """Copy a disk nobody writes to, flat, as ``form``."""
    packed = ("-c",) if made.compress and form == "qcow2" else ()
    await programs.run(
        *("qemu-img", "convert", "-q", "-f", file.format, "-O", form, *packed),
        *(file.path, str(made.part)),
        seconds=COPY_SECONDS,
    )


async def finish(made: Plan) -> Snapped:
    """A copy is complete: bring it into its last form and give it its name."""
    if made.twice:
        first = made.part.with_name(f"{PREFIX}{made.image_id}.first{PART}")
        await asyncio.to_thread(made.part.replace, first)
        try:
            await convert(DiskFile(str(first), made.form), made, form=made.last)
        finally:
            first.unlink(missing_ok=True)
    await asyncio.to_thread(made.part.replace, made.whole)
    return kept(made.whole, made.last)


async def send(host: Host, where: Path, image_id: str) -> Snapped:
    """Send a whole copy to the image service, then remove it.

    NotFound without a copy, unless the image has its data already.
    """
    sink = _sink(host)
    found = await asyncio.to_thread(find, where, image_id)
    if found is None:

        def missing() -> AsyncIterator[bytes]:
            raise NotFound(f"Host {host.name} has no copy of a disk for the image {image_id}.")

        await sink.upload(image_id, "raw", missing)
        return Snapped("", 0)
    file, form = found
    told = await asyncio.to_thread(kept, file, form)
    await sink.upload(image_id, form, lambda: pieces(file))
    await asyncio.to_thread(drop, where, image_id)
    return told


async def pieces(file: Path) -> AsyncIterator[bytes]:
    """A file's bytes, a MiB at a time."""
    opened = await asyncio.to_thread(file.open, "rb")
    with opened:
        while piece := await asyncio.to_thread(opened.read, PIECE):
            yield piece


@contextlib.asynccontextmanager
async def quiet(guest: GuestSpec, freeze: Ask, thaw: Ask) -> AsyncIterator[None]:
    """While inside, the guest stands still if its image names an agent that listens.

    Conflict when it does not stand still although ``os_require_quiesce`` says it must.
    """
    wishes = properties.of(guest)
    frozen = False
    try:
        require_agent(guest, wishes)
        frozen = True  # also when the answer is lost: going on twice does no harm
        await freeze()
    except Fault as fault:
        if properties.flag(wishes, MUST_QUIESCE):
            if frozen:
                await _thaw(guest, thaw)
            raise Conflict(f"The guest could not be quiesced: {fault.message}") from fault
        log.info("Guest %s is not quiesced: %s", guest.name, fault.message)
    try:
        yield
    finally:
        if frozen:
            await asyncio.shield(_thaw(guest, thaw))


def require_agent(guest: GuestSpec, wishes: Mapping[str, str]) -> None:
    """NotSupported for a guest whose image names no agent."""
    if not properties.flag(wishes, WANTS_AGENT):
        raise NotSupported(f"The guest {guest.name} has no agent that could quiesce it.")


async def _thaw(guest: GuestSpec, thaw: Ask) -> None:
    try:
        await thaw()
    except Fault as fault:
        log.warning("Guest %s was not told to go on: %s", guest.name, fault.message)


class Thaws:
    """Guests that stand still for somebody else's work, each for a limited time."""

    def __init__(self, seconds: float = QUIET_SECONDS) -> None:
        self._seconds = seconds
        self._waiting: dict[str, tuple[asyncio.Task[None], Ask]] = {}

    async def begin(self, server_id: str, freeze: Ask, thaw: Ask) -> None:
        """Freeze it; it goes on by itself after a while, also when nobody comes back."""
        self._forget(server_id)
        await freeze()
        self._waiting[server_id] = asyncio.create_task(self._later(server_id, thaw)), thaw

    async def end(self, server_id: str, thaw: Ask) -> None:
        """Let it go on."""
        self._forget(server_id)
        await thaw()

    async def close(self) -> None:
        """Let all go on now."""
        for server_id, (_, thaw) in list(self._waiting.items()):
            self._forget(server_id)
            with contextlib.suppress(Fault):
                await thaw()

    def _forget(self, server_id: str) -> None:
        present = self._waiting.pop(server_id, None)
        if present is not None:
            present[0].cancel()

    async def _later(self, server_id: str, thaw: Ask) -> None:
        await asyncio.sleep(self._seconds)
        self._waiting.pop(server_id, None)
        log.warning("Server %s stood still for too long and goes on", server_id)
        with contextlib.suppress(Fault):
            await thaw()


def _sink(host: Host) -> ImageSink:
    if host.sink is None:
        raise Unavailable(f"Host {host.name} has nowhere to send images to.")
    return host.sink
