"""What an image file really is, found without letting any other program open it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from kilonova.base.errors import BadRequest

if TYPE_CHECKING:  # slow to import, and needed only where an image is read
    from oslo_utils.imageutils import format_inspector

# Glance's disk format -> the formats the file may prove to be.
EXPECTED: dict[str, frozenset[str]] = {
    "raw": frozenset({"raw", "gpt"}),
    "ami": frozenset({"raw", "gpt"}),
    "iso": frozenset({"iso", "gpt"}),
    "qcow2": frozenset({"qcow2"}),
    "vmdk": frozenset({"vmdk"}),
    "vdi": frozenset({"vdi"}),
    "vhd": frozenset({"vhd"}),
    "vhdx": frozenset({"vhdx"}),
}
QEMU_NAMES = {"vhd": "vpc", "iso": "raw", "ami": "raw"}
CHUNK = 1 << 16

# Each failed check is told to the caller; the library's own lines would tell it twice.
logging.getLogger("oslo_utils.imageutils.format_inspector").setLevel(logging.ERROR)


class Inspected(msgspec.Struct, frozen=True):
    """``format`` as qemu-img calls it; ``virtual_size`` in bytes."""

    format: str
    virtual_size: int


def qemu_name(disk_format: str) -> str:
    """What qemu-img calls Glance's disk format."""
    return QEMU_NAMES.get(disk_format, disk_format)


def inspect(file: Path, disk_format: str, *, use: str = "booted here") -> Inspected:
    """Check a file against the format it was declared to have.

    Raises BadRequest when it is something else, or refers to other files (backing file, data
    file, extents), which could be used to read files of the host; also for a format that cannot
    be put to ``use``. An odd partition table in plain data is harmless.
    Source: CVE-2022-47951, CVE-2024-32498.
    """
    from oslo_utils.imageutils import format_inspector  # noqa: PLC0415 (see above)

    expected = EXPECTED.get(disk_format)
    if expected is None:
        raise BadRequest(f"Images of disk format {disk_format} cannot be {use}.")
    found = _formats(file)
    names = {str(one) for one in found} or {"raw"}
    if not names <= expected:
        wrong = ", ".join(sorted(names - expected))
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
    name = qemu_name(disk_format)
    size = file.stat().st_size if name == "raw" else int(found[0].virtual_size)
    return Inspected(name, size)


def _formats(file: Path) -> list[format_inspector.FileInspector]:
    """Every format the content fits; nothing means plain data."""
    from oslo_utils.imageutils import format_inspector  # noqa: PLC0415 (see above)

    with file.open("rb") as source:
        wrapper = format_inspector.InspectWrapper(source)
        try:
            while wrapper.formats is None and wrapper.read(CHUNK):
                pass
        except format_inspector.ImageFormatError as error:
            raise BadRequest(f"The image cannot be understood: {error}") from None
        finally:
            wrapper.close()
        return [one for one in wrapper.formats or [] if str(one) != "raw"]
