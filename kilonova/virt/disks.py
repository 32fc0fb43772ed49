"""The files behind a guest's disks."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from kilonova.base import programs
from kilonova.base.errors import BadRequest, NotSupported, Unavailable
from kilonova.domain.guest import Disk, GuestSpec, ImageRef
from kilonova.virt import configdrive, consolelog, qcow2
from kilonova.virt.brick import Brick
from kilonova.virt.devices import DiskDevice
from kilonova.virt.driver import Content
from kilonova.virt.imagecache import Base, ImageCache
from kilonova.virt.sources import Source, by_qemu, source

MIB = 1 << 20
SECRETS = "secrets"
COPY_SECONDS = 7000.0
CHAIN_FORMATS = ("qcow2", "raw")
LONGEST_CHAIN = 1000
# Their programs' words for "do not ask, a whole disk is meant".
FILE_SYSTEMS: dict[str, tuple[str, ...]] = {
    "ext2": ("-q", "-F"),
    "ext3": ("-q", "-F"),
    "ext4": ("-q", "-F"),
    "xfs": ("-q", "-f"),
    "vfat": (),
    "ntfs": ("-q", "-Q", "-F"),
}

log = logging.getLogger(__name__)


class DiskFile(msgspec.Struct, frozen=True):
    """A disk's file and format, and the base below it.

    A volume reached over a network has no ``path`` but a ``remote`` protocol node, QEMU ``objects``
    it names, and ``secrets``: files they read. ``device``: the host was connected to it. ``chain``:
    what is below a volume that is an image with snapshots, see ``below``.
    """

    path: str
    format: str
    base: str = ""
    base_format: str = ""
    remote: dict[str, Any] = {}
    objects: tuple[dict[str, Any], ...] = ()
    secrets: tuple[str, ...] = ()
    device: bool = False
    chain: tuple[dict[str, Any], ...] = ()

    @property
    def owned(self) -> tuple[str, ...]:
        """The files the guest's process has to be able to open."""
        below = (link["file"]["filename"] for link in self.chain if "filename" in link["file"])
        return (self.path, *below, *self.secrets) if self.path else self.secrets


class Maker:
    """Makes the disks of guests."""

    def __init__(
        self,
        cache: ImageCache,
        content: Content,
        file_system: str | None,
        drives: str = "iso9660",
        *,
        brick: Brick | None = None,
    ) -> None:
        """File systems: of ephemeral disks (ext4 when None), and of config drives.

        ``brick`` opens volumes that QEMU cannot.
        """
        self._brick = brick
        self._drives = drives
        self._cache = cache
        self._content = content
        self._file_system = file_system or "ext4"

    async def make(self, directory: Path, guest: GuestSpec, disk: DiskDevice) -> DiskFile:
        """Make one disk anew. Raises what the image cache raises, Unavailable without space."""
        what = disk.disk
        if what.source == "volume":
            return await self.volume(directory, what)
        target = directory / name(disk)
        target.unlink(missing_ok=True)
        if what.role == "config":
            files = await self._content(guest)
            await configdrive.make(target, files, self._drives)
            return DiskFile(str(target), "raw")
        if what.source == "image" and what.image is not None:
            size = what.size_mb * MIB
            base = await self._cache.base(what.image, most_bytes=size or None)
            # A few hundred bytes are written faster than a thread is found for it.
            qcow2.overlay(target, base.path, base.format, max(size, base.virtual_size))
            return DiskFile(str(target), "qcow2", base.path, base.format)
        if what.source == "blank":
            await self._blank(target, disk)
            return DiskFile(str(target), "raw")
        raise NotSupported(f"This hypervisor cannot attach the {what.source} disk {what.id}.")

    async def base(self, image: ImageRef) -> Base:
        """The image's read-only base here; NotFound when the image is gone and was never here."""
        return await self._cache.base(image, most_bytes=None)

    async def volume(self, directory: Path, disk: Disk) -> DiskFile:
        """A volume, connected to this host where that is needed; a second time is as good."""
        if self._brick is not None and self._brick.opens(disk, by_qemu=by_qemu(disk)):
            form = (disk.connection or {}).get("data", {}).get("format")
            path = await self._brick.connect(disk)
            file = DiskFile(path, "qcow2" if form == "qcow2" else "raw", device=True)
        else:
            file = await asyncio.to_thread(volume_file, disk, directory)
        return msgspec.structs.replace(file, chain=await below(file))

    async def release(self, disk: Disk, file: DiskFile | None) -> None:
        """The guest does not use a volume any more: its secrets go, the host lets go of it."""
        if file is not None:
            await asyncio.to_thread(forget, file)
            if file.device and self._brick is not None:
                await self._brick.disconnect(disk, file.path)

    async def grow(self, disk: Disk, file: DiskFile | None) -> None:
        """Let the host see a volume's new size, before its guest does."""
        if file is not None and file.device and self._brick is not None:
            await self._brick.extend(disk)

    async def make_all(
        self, directory: Path, guest: GuestSpec, disks: Iterable[DiskDevice]
    ) -> dict[str, DiskFile]:
        """Make disks at the same time; device name → file. The first failure ends the others."""
        wanted = list(disks)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self.make(directory, guest, disk)) for disk in wanted]
        except BaseExceptionGroup as many:
            raise many.exceptions[0] from None
        return {disk.device: task.result() for disk, task in zip(wanted, tasks, strict=True)}

    async def renew(
        self,
        directory: Path,
        guest: GuestSpec,
        disks: Iterable[DiskDevice],
        have: Mapping[str, DiskFile],
    ) -> dict[str, DiskFile]:
        """The files for a start: those of before, config drives and volumes anew, what is new."""
        files = dict(have)
        for disk in disks:
            changes = disk.disk.role == "config" or disk.disk.source == "volume"
            if disk.device not in files or changes:
                files[disk.device] = await self.make(directory, guest, disk)
        return files

    async def for_rescue(
        self,
        directory: Path,
        guest: GuestSpec,
        disks: Iterable[DiskDevice],
        have: Mapping[str, DiskFile],
    ) -> dict[str, DiskFile]:
        """The files for a rescue: its disk anew, and of ``have`` (disk id → file) what it keeps."""
        files = {}
        for disk in disks:
            known = have.get(disk.disk.id)
            if known is None or disk.disk.role == "config" or disk.disk.source == "volume":
                known = await self.make(directory, guest, disk)
            files[disk.device] = known
        return files

    async def begin_anew(self, directory: Path) -> None:
        """Remove the local disks of a guest that are to be made once more, and its console log."""
        await asyncio.to_thread(_clear, directory)

    async def _blank(self, target: Path, disk: DiskDevice) -> None:
        what = disk.disk
        with target.open("wb") as out:
            out.truncate(max(1, what.size_mb) * MIB)
        label = ("-L", what.fs_label[:16]) if what.fs_label else ()
        if what.role == "swap":
            await _format("mkswap", *label, str(target))
        elif what.role == "ephemeral":
            wanted = what.file_system or self._file_system
            if wanted not in FILE_SYSTEMS:
                raise BadRequest(
                    f"A disk cannot be formatted with {wanted}; use one of "
                    f"{', '.join(sorted(FILE_SYSTEMS))}."
                )
            option = ("-n", what.fs_label[:11]) if label and wanted == "vfat" else label
            quiet = FILE_SYSTEMS[wanted]
            await _format(f"mkfs.{wanted}", *quiet, *option, str(target))


def volume_file(disk: Disk, directory: Path) -> DiskFile:
    """Where the data of a volume is; secrets are written below ``directory``.

    NotSupported for kinds of connection that need more, Unavailable.
    """
    found = source(disk)
    if found is not None:
        return _remote(found, directory)
    connection = disk.connection or {}
    kind, data = connection.get("driver_volume_type"), connection.get("data", {})
    path = data.get("device_path")
    if kind != "local" or not isinstance(path, str) or not path.startswith("/"):
        raise NotSupported(f"This hypervisor cannot reach volumes by {kind} connections.")
    if not Path(path).exists():
        raise Unavailable(
            f"Volume {disk.volume_id} cannot be reached from this host: its file is not there."
        )
    return DiskFile(path, "qcow2" if data.get("format") == "qcow2" else "raw")


async def below(file: DiskFile) -> tuple[dict[str, Any], ...]:
    """``driver`` and ``file`` of each image below a volume's own, the nearest first.

    All are beside it: Unavailable for one that is elsewhere, whatever an image says.
    """
    found: list[dict[str, Any]] = []
    here = file
    while here.format == "qcow2":
        words = ("qemu-img", "info", "-U", "--output=json", "--image-opts", image_options(here))
        told: dict[str, Any] = msgspec.json.decode(await programs.run(*words))
        name = told.get("backing-filename")
        if not name:
            break
        form = told.get("backing-filename-format") or "raw"
        if form not in CHAIN_FORMATS or not _beside(name, file) or len(found) >= LONGEST_CHAIN:
            raise Unavailable("An image of the volume names a base that is none of its files.")
        here = _sibling(file, PurePosixPath(name).name, form)
        found.append({"driver": form, "file": here.remote or _local(here.path)})
    return tuple(found)


def name_of(node: dict[str, Any]) -> str:
    """The name of the file a protocol node opens, without its directory."""
    return PurePosixPath(node.get("filename") or node.get("path") or "").name


def _sibling(file: DiskFile, name: str, form: str) -> DiskFile:
    if not file.remote:
        return DiskFile(str(PurePosixPath(file.path).with_name(name)), form)
    path = str(PurePosixPath(file.remote["path"]).with_name(name))
    return DiskFile("", form, remote={**file.remote, "path": path})


def _beside(name: str, file: DiskFile) -> bool:
    place = PurePosixPath(name)
    if file.remote or not place.is_absolute():
        return place.name == name
    return place.parent == PurePosixPath(file.path).parent


def _local(path: str) -> dict[str, Any]:
    return {"driver": "file", "filename": path}


def _remote(found: Source, directory: Path) -> DiskFile:
    place = directory / SECRETS
    written: list[str] = []
    for name, content in found.files.items():
        file = place / name
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w") as out:
            out.write(content)
        for path in (*reversed([p for p in file.parents if p.is_relative_to(place)]), file):
            if str(path) not in written:
                written.append(str(path))
    objects = tuple(
        {
            name: value.replace("{directory}", str(place)) if isinstance(value, str) else value
            for name, value in each.items()
        }
        for each in found.objects
    )
    return DiskFile("", found.format, remote=found.node, objects=objects, secrets=tuple(written))


def forget(file: DiskFile) -> None:
    """Remove the secrets of a volume that is gone from its guest."""
    for path in reversed(file.secrets):
        with contextlib.suppress(OSError):
            target = Path(path)
            # The directory of all stays while other volumes have theirs there.
            target.rmdir() if target.is_dir() else target.unlink()


def shared(disk: Disk) -> bool:
    """Whether other guests may have the volume too."""
    return bool((disk.connection or {}).get("data", {}).get("multiattach"))


async def copy(source: DiskFile, target: DiskFile) -> None:
    """Copy a volume to another one, for a guest that is off."""
    named = {each["id"]: each for each in (*source.objects, *target.objects)}
    objects = [("--object", msgspec.json.encode(each).decode()) for each in named.values()]
    await programs.run(
        *("qemu-img", "convert", "-n", "--image-opts", "--target-image-opts"),
        *(word for pair in objects for word in pair),
        *(image_options(source), image_options(target)),
        seconds=COPY_SECONDS,
    )


def image_options(file: DiskFile) -> str:
    """A volume as the programs of QEMU take it with ``--image-opts``."""
    node = file.remote or {"driver": "file", "filename": file.path}
    return ",".join(
        f"{name}={str(value).replace(',', ',,')}"
        for name, value in _flat({"driver": file.format, "file": node})
    )


def _flat(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict | list):
        for name, inner in node.items() if isinstance(node, dict) else enumerate(node):
            yield from _flat(inner, f"{prefix}.{name}" if prefix else str(name))
    else:
        yield prefix, node


def name(disk: DiskDevice) -> str:
    """The file name of a disk: ``disk``, ``disk.config``, ``disk.rescue``, ``disk.vdb`` …"""
    if disk.disk.role == "root":
        return "disk"
    named = disk.disk.role in ("config", "rescue")
    return f"disk.{disk.disk.role if named else disk.device}"


def end_rescue(directory: Path) -> None:
    """Remove the disk a guest was rescued with; nothing there is success."""
    (directory / "disk.rescue").unlink(missing_ok=True)


def _clear(directory: Path) -> None:
    for file in (*directory.glob("disk"), *directory.glob("disk.*"), directory / consolelog.FILE):
        file.unlink(missing_ok=True)


async def _format(*command: str) -> None:
    """Run mkfs; a host without the program gives guests a disk without a file system."""
    try:
        await programs.run(*command)
    except Unavailable as fault:
        log.warning("A disk was left unformatted: %s", fault.message)
