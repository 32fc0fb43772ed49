"""The data of volumes and snapshots: sparse raw files, made beside and renamed when complete."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

from kilonova import imagefile
from kilonova.base import programs
from kilonova.base.errors import BadRequest, TooLarge
from kilonova.embedded.volume.records import GIB

CHUNK = 1 << 20
GRAIN = 1 << 16
PARTS = (".part", ".part.sparse", ".download", ".upload")
_CLONE = 0x40049409  # FICLONE of linux/fs.h
_CONVERT_SECONDS = 7200.0
_CONVERT_CPU_SECONDS = 1800


class Files:
    """The directory. Methods that are not ``async`` may block: call them in a thread."""

    def __init__(self, directory: Path, *, reserve: int) -> None:
        """``reserve``: bytes that must stay free on the disk."""
        self.directory = directory.absolute()
        self._reserve = reserve
        # Guests' processes of another user open the files by name; nobody else may list them.
        self.directory.mkdir(mode=0o711, parents=True, exist_ok=True)

    def volume(self, volume_id: str) -> Path:
        """Where a volume's data lies."""
        return self.directory / f"volume-{volume_id}"

    def snapshot(self, snapshot_id: str) -> Path:
        """Where a snapshot's data lies."""
        return self.directory / f"snapshot-{snapshot_id}"

    def blank(self, target: Path, size: int) -> None:
        """An empty file of ``size`` GiB."""
        part = _fresh(target)
        with part.open("wb") as out:
            out.truncate(size * GIB)
        _settle(part, target)

    def copy(self, source: Path, target: Path, size: int) -> None:
        """A copy of ``source``, grown to ``size`` GiB."""
        part = _fresh(target)
        self.check_space(_allocated(source))
        with source.open("rb") as data, part.open("wb") as out:
            if not _clone(data.fileno(), out.fileno()):
                _copy_data(data.fileno(), out.fileno())
            out.truncate(max(size * GIB, source.stat().st_size))
        _settle(part, target)

    def grow(self, target: Path, size: int) -> None:
        """Make a file ``size`` GiB long, if it is shorter."""
        if target.stat().st_size < size * GIB:
            os.truncate(target, size * GIB)

    def check_space(self, wanted: int) -> None:
        """TooLarge if ``wanted`` more bytes would not leave the reserve free."""
        if shutil.disk_usage(self.directory).free < wanted + self._reserve:
            raise TooLarge("There is not enough space left for the data of the volume.")

    async def from_image(
        self, chunks: AsyncIterator[bytes], target: Path, *, disk_format: str, size: int
    ) -> None:
        """Fill a volume of ``size`` GiB with an image, which is looked at before it is opened.

        BadRequest for data that is not what it was declared to be, refers to other files, or is
        greater than the volume. Source: CVE-2022-47951, CVE-2024-32498.
        """
        download = target.with_name(target.name + ".download")
        part = _fresh(target)
        try:
            with download.open("wb") as out:
                async for chunk in chunks:
                    await asyncio.to_thread(self.check_space, len(chunk))
                    await asyncio.to_thread(out.write, chunk)
            what = await asyncio.to_thread(
                imagefile.inspect, download, disk_format, use="made volumes"
            )
            if what.virtual_size > size * GIB:
                raise BadRequest(f"The image is greater than the volume's {size} GiB.")
            if what.format == "raw":
                download.replace(part)
                await asyncio.to_thread(_punch, part)
            else:
                await _convert("-f", what.format, "-O", "raw", str(download), str(part))
            os.truncate(part, size * GIB)
            await asyncio.to_thread(_settle, part, target)
        finally:
            download.unlink(missing_ok=True)
            part.unlink(missing_ok=True)

    async def image_file(self, source: Path, disk_format: str) -> tuple[Path, bool]:
        """A file with the volume's data in that format; whether it has to be removed after use."""
        if disk_format == "raw":
            return source, False
        upload = source.with_name(source.name + ".upload")
        name = imagefile.qemu_name(disk_format)
        await _convert("-U", "-f", "raw", "-O", name, str(source), str(upload))
        return upload, True

    def delete(self, target: Path) -> None:
        """Remove data and parts; nothing there is success."""
        for suffix in ("", *PARTS):
            target.with_name(target.name + suffix).unlink(missing_ok=True)

    def names(self) -> set[str]:
        """The names of all files."""
        return {file.name for file in self.directory.iterdir()}


async def _convert(*words: str) -> None:
    await programs.run(
        *("qemu-img", "convert", *words),
        seconds=_CONVERT_SECONDS,
        cpu_seconds=_CONVERT_CPU_SECONDS,
    )


def _fresh(target: Path) -> Path:
    part = target.with_name(target.name + ".part")
    part.unlink(missing_ok=True)
    return part


def _settle(part: Path, target: Path) -> None:
    part.chmod(0o600)
    fd = os.open(part, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    part.replace(target)


def _allocated(file: Path) -> int:
    return file.stat().st_blocks * 512


def _clone(source: int, target: int) -> bool:
    try:
        fcntl.ioctl(target, _CLONE, source)
    except OSError:
        return False
    return True


def _copy_data(source: int, target: int) -> None:
    """Copy what is data; holes stay holes."""
    end = os.fstat(source).st_size
    start = 0
    while start < end:
        try:
            start = os.lseek(source, start, os.SEEK_DATA)
        except OSError:  # ENXIO: nothing but a hole is left
            return
        stop = os.lseek(source, start, os.SEEK_HOLE)
        while start < stop:
            piece = os.pread(source, min(GRAIN, stop - start), start)
            if not piece:
                return
            if piece.count(0) != len(piece):
                os.pwrite(target, piece, start)
            start += len(piece)


def _punch(file: Path) -> None:
    """Make blocks of zeros holes again, which a download has written out."""
    target = file.with_name(file.name + ".sparse")
    with file.open("rb") as source, target.open("wb") as out:
        _copy_data(source.fileno(), out.fileno())
        out.truncate(file.stat().st_size)
    target.replace(file)
