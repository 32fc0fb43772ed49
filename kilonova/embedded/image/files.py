"""The files of images: written to ``<id>.part``, renamed to ``<id>`` when they are complete."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from kilonova.base.errors import Conflict, TooLarge
from kilonova.embedded.image.records import Content

if TYPE_CHECKING:  # slow to import, and needed only where data is looked at
    from kilonova.embedded.image.content import Reader

CHUNK = 1 << 20
PART = ".part"


class Files:
    """The directory. Every method may block: call it in a thread."""

    def __init__(self, directory: Path, *, reserve: int) -> None:
        """``reserve``: bytes that must stay free on the disk."""
        self.directory = directory
        self._reserve = reserve
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def path(self, image_id: str) -> Path:
        """Where complete data lies."""
        return self.directory / image_id

    def part(self, image_id: str) -> Path:
        """Where data is gathered."""
        return self.directory / (image_id + PART)

    def offset(self, image_id: str) -> int:
        """How many bytes of an unfinished upload are kept."""
        try:
            return self.part(image_id).stat().st_size
        except FileNotFoundError:
            return 0

    def check_space(self, wanted: int) -> None:
        """TooLarge if ``wanted`` more bytes would not leave the reserve free."""
        if shutil.disk_usage(self.directory).free < wanted + self._reserve:
            raise TooLarge("There is not enough space left to store the image data.")

    def open(self, image_id: str) -> BinaryIO:
        """Complete data, for reading; FileNotFoundError."""
        return self.path(image_id).open("rb")

    def finish(self, image_id: str) -> None:
        """Make a complete part the data of the image; FileNotFoundError if it was deleted."""
        self.part(image_id).replace(self.path(image_id))
        self._sync()

    def take_back(self, image_id: str) -> None:
        """Undo `finish`, for an upload whose end was not recorded."""
        if self.path(image_id).exists() and not self.part(image_id).exists():
            self.path(image_id).replace(self.part(image_id))
            self._sync()

    def read_part(self, image_id: str, reader: Reader) -> Content:
        """Feed all of a part to ``reader``; what it found. FileNotFoundError."""
        with self.part(image_id).open("rb") as file:
            for chunk in _chunks(file.fileno()):
                reader.feed(chunk)
        return reader.finish()

    def delete(self, image_id: str) -> None:
        """Remove data and parts."""
        for file in (self.path(image_id), self.part(image_id)):
            with contextlib.suppress(FileNotFoundError):
                file.unlink()

    def delete_part(self, image_id: str) -> None:
        """Forget an unfinished upload."""
        with contextlib.suppress(FileNotFoundError):
            self.part(image_id).unlink()

    def is_written(self, image_id: str) -> bool:
        """Whether some living process writes the part now."""
        try:
            fd = os.open(self.part(image_id), os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(fd)
        return False

    def ids(self) -> set[str]:
        """The ids of everything there is a file of."""
        return {file.name.removesuffix(PART) for file in self.directory.iterdir()}

    def _sync(self) -> None:
        fd = os.open(self.directory, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


class Meter:
    """Counts only: for data that is looked at later."""

    def __init__(self) -> None:
        self.size = 0

    def feed(self, chunk: bytes) -> None:
        """The next bytes."""
        self.size += len(chunk)

    def finish(self) -> None:
        """Nothing is known but the size."""


class Writer:
    """One upload under way: appends to the part, which stays locked until ``close``."""

    def __init__(
        self, files: Files, image_id: str, reader: Reader | Meter, *, offset: int, most: int
    ):
        """Open the part at ``offset`` (what lies before is read again, what lies behind is cut).

        Conflict if another upload writes it. ``most``: greatest size in bytes.
        """
        self._reader = reader
        self._most = most
        self._fd = os.open(files.part(image_id), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._lock()
            os.ftruncate(self._fd, offset)
            for chunk in _chunks(self._fd):
                reader.feed(chunk)
        except BaseException:
            os.close(self._fd)
            raise

    def write(self, chunk: bytes) -> None:
        """Append; TooLarge beyond the bound or when the disk is full."""
        if self._reader.size + len(chunk) > self._most:
            raise TooLarge(f"The image data is larger than {self._most} bytes.")
        self._reader.feed(chunk)
        view = memoryview(chunk)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                text = "There is not enough space left to store the image data."
                raise TooLarge(text) from error
            raise

    def close(self) -> None:
        """Make what was written safe on disk, and unlock."""
        try:
            os.fsync(self._fd)
        finally:
            os.close(self._fd)

    def _lock(self) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Conflict("Another upload of this image is under way.") from None


def _chunks(fd: int) -> Iterator[bytes]:
    os.lseek(fd, 0, os.SEEK_SET)
    while chunk := os.read(fd, CHUNK):
        yield chunk
