"""Makes a bootable disk of kernel, initramfs and state, without root, loop device or mount."""

from __future__ import annotations

import struct
from importlib.resources import files
from pathlib import Path

from .tools import MBR_CODE, run

SECTOR = 512
MIB = 1024 * 1024
BOOT_START_MIB = 1
BOOT_SIZE_MIB = 27
STATE_START_MIB = BOOT_START_MIB + BOOT_SIZE_MIB
DISK_SIZE_MIB = 48
STATE_SIZE_MIB = DISK_SIZE_MIB - STATE_START_MIB
_FAT16_LBA = 0x0E
_LINUX = 0x83
_BEYOND_CYLINDERS = b"\xfe\xff\xff"


def partition_entry(kind: int, start_mib: int, size_mib: int, *, active: bool) -> bytes:
    """One 16-byte row of a DOS partition table."""
    return struct.pack(
        "<B3sB3sII",
        0x80 if active else 0,
        _BEYOND_CYLINDERS,
        kind,
        _BEYOND_CYLINDERS,
        start_mib * MIB // SECTOR,
        size_mib * MIB // SECTOR,
    )


def boot_record(code: bytes) -> bytes:
    """The first sector: boot code, disk signature, two partitions."""
    table = partition_entry(_FAT16_LBA, BOOT_START_MIB, BOOT_SIZE_MIB, active=True)
    table += partition_entry(_LINUX, STATE_START_MIB, STATE_SIZE_MIB, active=False)
    return code[:440].ljust(440, b"\0") + b"KLNV\0\0" + table.ljust(64, b"\0") + b"\x55\xaa"


async def make_disk(work: Path, *, kernel: Path, initramfs: Path, state: Path) -> Path:
    """A qcow2 in ``work``, 48 MiB to the guest.

    Not compressed: the boot loader reads so little at a time that each cluster would be
    unpacked again and again, a second of every boot.
    """
    raw = work / "disk.raw"
    with raw.open("wb") as disk:
        disk.write(boot_record(MBR_CODE.read_bytes()))
        disk.truncate(DISK_SIZE_MIB * MIB)
    start = BOOT_START_MIB * MIB // SECTOR
    await run("mkfs.vfat", "-F", "16", "-n", "KILONOVA", "-i", "4b4c4e56", "--offset", str(start),
              raw, str(BOOT_SIZE_MIB * 1024))  # fmt: skip
    volume = f"{raw}@@{start * SECTOR}"
    config = work / "syslinux.cfg"
    config.write_bytes((files(__package__) / "syslinux.cfg").read_bytes())
    await run("mcopy", "-i", volume, kernel, "::/vmlinuz")
    await run("mcopy", "-i", volume, initramfs, "::/initrd")
    await run("mcopy", "-i", volume, config, "::/syslinux.cfg")
    await run("syslinux", "--install", "--offset", str(start * SECTOR), raw)
    await _write_state(work, raw, state)
    image = work / "disk.qcow2"
    await run("qemu-img", "convert", "-O", "qcow2", raw, image)
    return image


async def _write_state(work: Path, raw: Path, state: Path) -> None:
    partition = work / "state.ext4"
    with partition.open("wb") as file:
        file.truncate(STATE_SIZE_MIB * MIB)
    await run("mke2fs", "-q", "-F", "-t", "ext4", "-b", "1024", "-N", "1024", "-m", "0",
              "-L", "kilonova-state", "-E", "root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0",
              "-d", state, partition)  # fmt: skip
    with raw.open("r+b") as disk:
        disk.seek(STATE_START_MIB * MIB)
        disk.write(partition.read_bytes())
