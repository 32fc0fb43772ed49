"""Byte ranges of requests (RFC 9110 section 14)."""

from __future__ import annotations

import re

import msgspec

from kilonova.base.errors import BadRequest

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_CONTENT = re.compile(r"bytes (?:(\d{1,18})-(\d{1,18})|\*)/(\d{1,18})")


class Part(msgspec.Struct, frozen=True):
    """Bytes ``first`` to ``last``, both included, of ``total``; ``first`` is -1 and ``last``
    -2 for no bytes (``bytes */TOTAL``).
    """

    first: int
    last: int
    total: int


def byte_range(header: str | None, size: int) -> Part | None:
    """The one range a ``Range`` header asks for; None without one.

    ValueError for several ranges, bad words and ranges outside ``size`` bytes.
    """
    if header is None:
        return None
    match = _RANGE.fullmatch(header.replace(" ", ""))
    if match is None or not any(match.groups()):
        raise ValueError(header)
    first, last = match.groups()
    if not first:
        start, end = max(0, size - int(last)), size - 1
        if int(last) == 0:
            raise ValueError(header)
    else:
        start, end = int(first), min(int(last), size - 1) if last else size - 1
    if start > end or start >= size:
        raise ValueError(header)
    return Part(start, end, size)


def content_range(header: str | None) -> Part | None:
    """What a ``Content-Range`` header says of the body; None without one, BadRequest."""
    if header is None:
        return None
    match = _CONTENT.fullmatch(header.strip())
    if match is None:
        raise BadRequest("Content-Range must be as bytes FIRST-LAST/TOTAL or bytes */TOTAL.")
    first, last, total = match.groups()
    if first is None:
        return Part(-1, -2, int(total))
    part = Part(int(first), int(last), int(total))
    if part.first > part.last or part.last >= part.total:
        raise BadRequest("Content-Range must lie inside its total.")
    return part
