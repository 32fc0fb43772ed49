"""Microversion negotiation by ``OpenStack-API-Version`` and a service's older header."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping

import msgspec
from microversion_parse import STANDARD_HEADER

from kilonova.base.errors import BadRequest, NotAcceptable

_NUMBERS = re.compile(r"([1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})")


class NoVersion(BadRequest):
    """A version header that names no version."""

    error_code = "request.version"


class VersionRange(msgspec.Struct, frozen=True):
    """The microversions of one service; only the minor number is carried about."""

    service: str
    major: int
    minimum: int
    maximum: int
    legacy_header: str | None = None

    @property
    def lowest(self) -> str:
        """The smallest version as text, ``2.1``."""
        return f"{self.major}.{self.minimum}"

    @property
    def highest(self) -> str:
        """The greatest version as text, ``2.104``."""
        return f"{self.major}.{self.maximum}"

    def parse(self, text: str) -> int:
        """The minor number of ``"2.N"`` or ``"latest"``.

        Raises BadRequest for what is no version and NotAcceptable outside the range.
        """
        if text == "latest":
            return self.maximum
        found = _NUMBERS.fullmatch(text)
        if found is None:
            raise NoVersion(f"{text[:64]!r} is not an API version; use {self.major}.N or latest.")
        major, minor = int(found[1]), int(found[2])
        if major != self.major or not self.minimum <= minor <= self.maximum:
            raise NotAcceptable(
                f"Version {text} is not supported by the API. "
                f"Minimum is {self.lowest} and maximum is {self.highest}.",
                details={"min_version": self.lowest, "max_version": self.highest},
            )
        return minor


@functools.lru_cache(maxsize=1024)
def _from_values(versions: VersionRange, standard: str, legacy: str) -> int:
    wanted = None
    for item in standard.split(","):
        words = item.split()
        if words and words[0].lower() == versions.service:
            if len(words) != 2:
                raise NoVersion(
                    f"The header {STANDARD_HEADER} must read '{versions.service} "
                    f"{versions.major}.N' or '{versions.service} latest'."
                )
            wanted = words[1]
    if wanted is None:
        wanted = legacy.strip() or None
    if wanted is None:
        return versions.minimum
    return versions.parse(wanted.lower() if wanted.lower() == "latest" else wanted)


def negotiate(versions: VersionRange, headers: Mapping[bytes, bytes]) -> int:
    """The minor version asked for; the minimum without a header.

    ``headers`` are raw ASGI headers (lower-case names). The standard header wins over the older
    one. Raises BadRequest (malformed) or NotAcceptable (out of range).
    """
    standard = headers.get(b"openstack-api-version")
    legacy = (
        headers.get(versions.legacy_header.lower().encode()) if versions.legacy_header else None
    )
    if standard is None and legacy is None:
        return versions.minimum
    return _from_values(
        versions,
        standard.decode("latin-1") if standard else "",
        legacy.decode("latin-1") if legacy else "",
    )


@functools.lru_cache(maxsize=512)
def echo(versions: VersionRange, version: int) -> tuple[tuple[bytes, bytes], ...]:
    """The answer headers that name the version used, and ``Vary``."""
    text = f"{versions.major}.{version}"
    rows = [
        (b"openstack-api-version", f"{versions.service} {text}".encode()),
        (b"vary", b"OpenStack-API-Version"),
    ]
    if versions.legacy_header:
        name = versions.legacy_header
        rows += [(name.lower().encode(), text.encode()), (b"vary", name.encode())]
    return tuple(rows)
