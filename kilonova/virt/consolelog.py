"""The log of a guest's serial console: its end, and keeping it short."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

FILE = "console.log"
KEPT = 1 << 20
LIMIT = 4 << 20
"""Bytes; a log that has more is cut to the last ``KEPT``."""


def tail(directory: Path) -> bytes:
    """The last MiB of the console of the guest in ``directory``, across a cut."""
    file = directory / FILE
    text = b""
    # virtlogd, where libvirt has it write, puts its own last part aside as .0.
    for part in (_old(file), file.with_name(f"{file.name}.0"), file):
        try:
            with part.open("rb") as log_file:
                size = log_file.seek(0, 2)
                log_file.seek(max(0, size - KEPT))
                text += log_file.read()
        except FileNotFoundError:
            continue
    return text[-KEPT:]


def trim(directories: Iterable[Path]) -> None:
    """Cut the logs that have grown too long."""
    for directory in directories:
        file = directory / FILE
        try:
            if file.stat().st_size > LIMIT:
                _trim(file)
        except FileNotFoundError:
            continue


def _trim(file: Path) -> None:
    """Keep the last MiB aside and empty the log; QEMU appends, so it goes on at the start."""
    with file.open("r+b") as log_file:
        log_file.seek(-KEPT, 2)
        _old(file).write_bytes(log_file.read())
        log_file.truncate(0)


def _old(file: Path) -> Path:
    return file.with_name(f"{file.name}.1")
