"""The keys tokens are sealed with: a directory of numbered Fernet keys that can be rotated."""

from __future__ import annotations

import contextlib
import fcntl
import hmac
import os
from collections.abc import Iterator
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet


class KeyRing:
    """The keys of a directory: the highest number seals, all of them open.

    Another process may rotate the directory: it is read again when a token does not open and
    the directory has changed.
    """

    def __init__(self, directory: Path) -> None:
        """Read the keys, making the first one when there is none."""
        self._directory = directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _held(directory):
            if not _numbers(directory):
                _add(directory, 0)
        self._load()

    def seal(self, payload: bytes) -> str:
        """``payload`` encrypted and signed, as URL-safe text without padding."""
        return self._fernet.encrypt(payload).rstrip(b"=").decode()

    def open(self, text: str) -> bytes | None:
        """What was sealed; None for anything that was not sealed by one of the keys."""
        padded = text.encode() + b"=" * (-len(text) % 4)
        try:
            return self._fernet.decrypt(padded)
        except (InvalidToken, ValueError):
            if self._stamp() == self._loaded:
                return None
        self._load()
        try:
            return self._fernet.decrypt(padded)
        except (InvalidToken, ValueError):
            return None

    def digest(self, payload: bytes) -> str:
        """A keyed digest (HMAC-SHA-256 in hex) by the newest key; nothing can be read out of it."""
        return hmac.digest(self._newest, b"digest\0" + payload, "sha256").hex()

    def _stamp(self) -> int:
        return self._directory.stat().st_mtime_ns

    def _load(self) -> None:
        self._loaded = self._stamp()
        numbers = sorted(_numbers(self._directory), reverse=True)
        keys = [(self._directory / str(number)).read_bytes() for number in numbers]
        self._newest = keys[0]
        self._fernet = MultiFernet([Fernet(key) for key in keys])


def rotate(directory: Path, *, keep: int = 3) -> int:
    """Make a new key that seals from now on and drop all but the newest ``keep``; its number.

    Tokens sealed by a dropped key end. ValueError for ``keep`` below 1.
    """
    if keep < 1:
        raise ValueError("at least one key must be kept")
    with _held(directory):
        numbers = sorted(_numbers(directory))
        newest = numbers[-1] + 1 if numbers else 0
        _add(directory, newest)
        for number in [*numbers, newest][:-keep]:
            (directory / str(number)).unlink()
    return newest


def _numbers(directory: Path) -> list[int]:
    return [int(file.name) for file in directory.iterdir() if file.name.isdigit()]


def _add(directory: Path, number: int) -> None:
    part = directory / "new.part"
    with contextlib.suppress(FileNotFoundError):
        part.unlink()
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "wb") as out:
        out.write(Fernet.generate_key())
        out.flush()
        os.fsync(out.fileno())
    part.replace(directory / str(number))


@contextlib.contextmanager
def _held(directory: Path) -> Iterator[None]:
    fd = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
