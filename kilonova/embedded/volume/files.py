"""The data of volumes and snapshots: sparse raw files, made beside and renamed when complete."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

from kilonova.base.errors import BadRequest, TooLarge, Unavailable
from kilonova.embedded.volume.records import GIB

if TYPE_CHECKING:  # slow to import, and needed only where an image is read
    from oslo_utils.imageutils import format_inspector

CHUNK = 1 << 20
GRAIN = 1 << 16
PARTS = (".part", ".part.sparse", ".download", ".upload")
# Glance's disk format -> the formats its data may prove to be, and what qemu-img calls it.
FORMATS: dict[str, tuple[frozenset[str], str]] = {
    "raw": (frozenset({"raw", "gpt"}), "raw"),
    "iso": (frozenset({"iso", "gpt"}), "raw"),
    "qcow2": (frozenset({"qcow2"}), "qcow2"),
    "vmdk": (frozenset({"vmdk"}), "vmdk"),
    "vdi": (frozenset({"vdi"}), "vdi"),
    "vhd": (frozenset({"vhd"}), "vpc"),
    "vhdx": (frozenset({"vhdx"}), "vhdx"),
}
_CLONE = 0x40049409  # FICLONE of linux/fs.h
_CONVERT_SECONDS = 7200.0

logging.getLogger("oslo_utils.imageutils.format_inspector").setLevel(logging.ERROR)


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
            qemu_format, virtual = await asyncio.to_thread(inspect, download, disk_format)
            if virtual > size * GIB:
                raise BadRequest(f"The image is greater than the volume's {size} GiB.")
            if qemu_format == "raw":
                download.replace(part)
                await asyncio.to_thread(_punch, part)
            else:
                await run(
                    *("qemu-img", "convert", "-f", qemu_format, "-O", "raw"),
                    *(str(download), str(part)),
                )
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
        name = FORMATS[disk_format][1]
        await run(
            *("qemu-img", "convert", "-U", "-f", "raw", "-O", name, str(source), str(upload)),
        )
        return upload, True

    def delete(self, target: Path) -> None:
        """Remove data and parts; nothing there is success."""
        for suffix in ("", *PARTS):
            target.with_name(target.name + suffix).unlink(missing_ok=True)

    def names(self) -> set[str]:
        """The names of all files."""
        return {file.name for file in self.directory.iterdir()}


def inspect(file: Path, disk_format: str) -> tuple[str, int]:
    """qemu-img's name of the format and the size the guest will see; BadRequest when unsafe."""
    from oslo_utils.imageutils import format_inspector  # noqa: PLC0415 (see above)

    if disk_format not in FORMATS:
        raise BadRequest(f"Images of disk format {disk_format} cannot be made volumes.")
    accepted, qemu_format = FORMATS[disk_format]
    found = _formats(file)
    names = {str(one) for one in found} or {"raw"}
    if not names <= accepted:
        wrong = ", ".join(sorted(names - accepted))
        raise BadRequest(f"The image is declared to be {disk_format} but its content is {wrong}.")
    for one in found:
        try:
            one.safety_check()
        except format_inspector.SafetyCheckFailed as failed:
            if str(one) == "gpt":
                continue
            what = ", ".join(sorted(failed.failures))
            raise BadRequest(f"The image is not safe to use; it failed: {what}.") from None
        except format_inspector.ImageFormatError as error:
            raise BadRequest(f"The image cannot be understood: {error}") from None
    size = file.stat().st_size if qemu_format == "raw" else int(found[0].virtual_size)
    return qemu_format, size


def _formats(file: Path) -> list[format_inspector.FileInspector]:
    from oslo_utils.imageutils import format_inspector  # noqa: PLC0415 (see above)

    with file.open("rb") as source:
        wrapper = format_inspector.InspectWrapper(source)
        try:
            while wrapper.formats is None and wrapper.read(1 << 16):
                pass
        except format_inspector.ImageFormatError as error:
            raise BadRequest(f"The image cannot be understood: {error}") from None
        finally:
            wrapper.close()
        return [one for one in wrapper.formats or [] if str(one) != "raw"]


async def run(*command: str, seconds: float = _CONVERT_SECONDS) -> None:
    """Run a program; Unavailable with its last words when it fails, is missing or too slow."""
    program = shutil.which(command[0])
    if program is None:
        raise Unavailable(f"The program {command[0]} is missing on this host; install it.")
    process = await asyncio.create_subprocess_exec(
        program,
        *command[1:],
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(seconds):
            _, complaint = await process.communicate()
    except TimeoutError:
        raise Unavailable(f"{command[0]} did not end within {seconds:g} s.") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode != 0:
        lines = complaint.decode(errors="replace").strip().splitlines()
        raise Unavailable(f"{command[0]} failed: {lines[-1] if lines else process.returncode}")


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
