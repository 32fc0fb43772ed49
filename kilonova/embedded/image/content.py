"""Reading the data of an image as it passes by: size, checksums, format, dangers."""

from __future__ import annotations

import hashlib
import logging

from oslo_utils.imageutils import format_inspector

from kilonova.base.errors import UnsupportedMediaType
from kilonova.embedded.image.records import Content

log = logging.getLogger(__name__)

# Kernels, ramdisks and file systems have no format of their own, nor has what is called raw: data
# that looks like something with references to other files must not hide behind these names.
_PLAIN = frozenset({"raw", "gpt", "luks"})
_ACCEPTED: dict[str, frozenset[str]] = {
    "raw": _PLAIN,
    "ami": _PLAIN,
    "ari": _PLAIN,
    "aki": _PLAIN,
    "ploop": _PLAIN,
    "gpt": frozenset({"gpt"}),
    "iso": frozenset({"iso", "gpt"}),
}
_OPAQUE_CONTAINERS = frozenset({"ova", "ovf", "docker", "compressed"})


class Reader:
    """Fed with all data in order, it knows the `Content` at the end.

    ``disk_format`` and ``container_format`` as declared; data inside containers such as OVA is
    not looked into. ``match``: refuse data of another format than declared.
    """

    def __init__(
        self, disk_format: str | None, container_format: str | None, *, match: bool = True
    ) -> None:
        self.size = 0
        self._declared = disk_format or "raw"
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._sha = hashlib.sha512()
        self._match = match
        self._pipe = _Pipe()
        inspected = container_format not in _OPAQUE_CONTAINERS
        expected = self._declared if match and self._declared not in _ACCEPTED else None
        self._inspector = (
            format_inspector.InspectWrapper(self._pipe, expected_format=expected)
            if inspected
            else None
        )

    def feed(self, chunk: bytes) -> None:
        """The next bytes; UnsupportedMediaType as soon as they cannot be what was declared."""
        self.size += len(chunk)
        self._md5.update(chunk)
        self._sha.update(chunk)
        if self._inspector is None or not chunk:
            return
        self._pipe.chunk = chunk
        try:
            self._inspector.read(len(chunk))
        except format_inspector.ImageFormatError as error:
            raise self._mismatch(str(error)) from error

    def finish(self) -> Content:
        """What was read; UnsupportedMediaType for another format than declared or unsafe data."""
        # No data at all has no format: such an image is one of properties alone.
        inspector = self._inspector if self.size else None
        virtual = None if inspector is None else self._judge(inspector)
        return Content(self.size, self._md5.hexdigest(), self._sha.hexdigest(), virtual)

    def _judge(self, inspector: format_inspector.InspectWrapper) -> int | None:
        inspector.close()
        found = {str(item): item for item in inspector.formats or ()}
        accepted = _ACCEPTED.get(self._declared, frozenset({self._declared}))
        if not set(found) <= accepted or not found:
            names = ", ".join(sorted(found)) or "nothing known"
            if self._match:
                raise self._mismatch(f"the data is {names}")
            log.warning("image data declared %s is %s", self._declared, names)
        for name, item in found.items():
            _check_safety(name, item)
        main = found.get(self._declared) or next(iter(found.values()), None)
        if main is None:
            return None
        return int(main.virtual_size) or None

    def _mismatch(self, why: str) -> UnsupportedMediaType:
        return UnsupportedMediaType(
            f"The image data does not match the declared disk format {self._declared}: {why}."
        )


class _Pipe:
    """A file the wrapper reads the present chunk from."""

    chunk = b""

    def read(self, _size: int) -> bytes:
        return self.chunk


def _check_safety(name: str, item: format_inspector.FileInspector) -> None:
    """UnsupportedMediaType for data that refers to other files or hides something.

    CVE-2024-32498, CVE-2022-47951. Odd partition tables are harmless: they are only logged.
    """
    if name == "raw":
        return
    try:
        item.safety_check()
    except format_inspector.SafetyCheckFailed as error:
        if name == "gpt":
            log.info("image data has an odd partition table: %s", error)
            return
        reasons = "; ".join(str(failure) for failure in error.failures.values())
        raise UnsupportedMediaType(f"The {name} image is not safe to use: {reasons}.") from error
    except format_inspector.ImageFormatError as error:
        raise UnsupportedMediaType(f"The {name} image cannot be checked: {error}.") from error
