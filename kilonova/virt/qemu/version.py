"""Which QEMU there is."""

from __future__ import annotations

import re

from kilonova.base import programs
from kilonova.base.errors import Unavailable

MINIMUM = 6_002_000
_VERSION = re.compile(r"version (\d+)\.(\d+)\.(\d+)")


async def find(binary: str) -> int:
    """QEMU's version as a number (7.2.22 → 7002022); Unavailable when missing or too old."""
    if programs.find(binary) is None:
        raise Unavailable(
            f"{binary} is missing; install the package qemu-system-x86 (and qemu-utils)."
        )
    if programs.find("qemu-img") is None:
        raise Unavailable("qemu-img is missing; install the package qemu-utils.")
    found = _VERSION.search((await programs.run(binary, "--version")).decode())
    if found is None:
        raise Unavailable(f"{binary} does not tell its version.")
    major, minor, micro = (int(word) for word in found.groups())
    number = major * 1_000_000 + minor * 1_000 + micro
    if number < MINIMUM:
        raise Unavailable(f"{binary} is version {major}.{minor}.{micro}; 6.2 or newer is needed.")
    return number
