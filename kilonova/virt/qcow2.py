"""Writing an empty qcow2 overlay: what ``qemu-img create -b`` does, without starting a program.

The layout is that of QEMU's docs/interop/qcow2.rst, version 3.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

MAGIC = b"QFI\xfb"
VERSION = 3
CLUSTER_BITS = 16
CLUSTER = 1 << CLUSTER_BITS
REFCOUNT_ORDER = 4
BACKING_FORMAT = 0xE2792ACA
LONGEST_NAME = 1023
SECTOR = 512
LARGEST = 1 << 51
"""Bytes; beyond it the L1 table would be larger than QEMU takes (32 MiB)."""

_HEADER = struct.Struct(">4sIQIIQIIQQIIQQQQII")
_EXTENSION = struct.Struct(">II")
_ENTRY = struct.Struct(">Q")


def overlay(target: Path, base: str, base_format: str, size: int) -> None:
    """Make ``target`` an image of ``size`` bytes that shows ``base`` until it is written to.

    The base is not looked at. ValueError for a name or size that the format cannot hold; OSError.
    """
    name = os.fsencode(base)
    if not name or len(name) > LONGEST_NAME:
        raise ValueError(f"the name of a base must have 1 to {LONGEST_NAME} bytes: {base[:80]!r}")
    size = -(-size // SECTOR) * SECTOR
    if not 0 < size <= LARGEST:
        raise ValueError(f"an image cannot have {size} bytes")
    # An L2 table fills a cluster with entries of 8 bytes, each for one cluster of data.
    l1_entries = -(-size // (CLUSTER * (CLUSTER // 8)))
    l1_clusters = -(-l1_entries * 8 // CLUSTER)
    clusters = 3 + l1_clusters
    extension = base_format.encode()
    extensions = _EXTENSION.pack(BACKING_FORMAT, len(extension)) + _padded(extension)
    extensions += _EXTENSION.pack(0, 0)
    header = _HEADER.pack(
        MAGIC,
        VERSION,
        _HEADER.size + len(extensions),
        len(name),
        CLUSTER_BITS,
        size,
        0,
        l1_entries,
        3 * CLUSTER,
        CLUSTER,
        1,
        0,
        0,
        0,
        0,
        0,
        REFCOUNT_ORDER,
        _HEADER.size,
    )
    fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    with os.fdopen(fd, "wb") as out:
        out.truncate(clusters * CLUSTER)
        out.write(header + extensions + name)
        out.seek(CLUSTER)
        out.write(_ENTRY.pack(2 * CLUSTER))
        out.seek(2 * CLUSTER)
        out.write(struct.pack(">H", 1) * clusters)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 8)
