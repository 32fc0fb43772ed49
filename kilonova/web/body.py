"""Reading request bodies with bounds on bytes, depth, type and characters."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from starlette.types import Receive

from kilonova.base.errors import BadRequest, TooLarge, UnsupportedMediaType

DEEPEST = 64
MALFORMED = "The request body is malformed: it must be valid JSON."
_VENDOR_JSON = re.compile(r"application/[a-z0-9._-]+\+json")

_decode = msgspec.json.Decoder().decode


class ClientGone(Exception):
    """The client closed the connection before its request was complete."""


def declared_length(headers: Mapping[bytes, bytes]) -> int | None:
    """Bytes by ``Content-Length``; None if it is not sent. BadRequest unless a number."""
    text = headers.get(b"content-length")
    if text is None:
        return None
    if not text.isdigit() or len(text) > 18:
        raise BadRequest("The header Content-Length must be a number of bytes.")
    return int(text)


async def read(receive: Receive, headers: Mapping[bytes, bytes], limit: int) -> bytes:
    """The whole body, at most ``limit`` bytes; TooLarge beyond, ClientGone on a disconnect."""
    length = declared_length(headers)
    if length is not None and length > limit:
        raise TooLarge(f"The request body is larger than {limit} bytes.")
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise TooLarge(f"The request body is larger than {limit} bytes.")
        if not message.get("more_body"):
            if not chunks:
                return bytes(chunk)
            chunks.append(chunk)
            return b"".join(chunks)
        chunks.append(chunk)


def check_type(headers: Mapping[bytes, bytes], accepted: Sequence[str]) -> None:
    """UnsupportedMediaType unless the body's type is accepted (``+json`` counts as JSON)."""
    raw = headers.get(b"content-type")
    if raw is None:
        return
    kind = raw.decode("latin-1").partition(";")[0].strip().lower()
    if not kind or kind in accepted:
        return
    if "application/json" in accepted and _VENDOR_JSON.fullmatch(kind):
        return
    raise UnsupportedMediaType(
        f"The content type {kind[:128]!r} is not supported here; use {' or '.join(accepted)}."
    )


def decode(raw: bytes) -> Any:
    """The JSON value in ``raw``; BadRequest for anything malformed, too deep or with NULs."""
    try:
        value = _decode(raw)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, ValueError):
        raise BadRequest(MALFORMED) from None
    nested = raw.count(b"{") + raw.count(b"[") > DEEPEST
    if nested or b"\\u0000" in raw:
        _inspect(value)
    return value


def _inspect(value: Any) -> None:
    """Walk without recursion: no NUL characters, at most `DEEPEST` levels."""
    heap: list[tuple[Any, int]] = [(value, 1)]
    while heap:
        item, depth = heap.pop()
        if isinstance(item, str):
            if "\0" in item:
                raise BadRequest("The request body must not contain NUL characters.")
        elif isinstance(item, dict):
            _deep(depth)
            for key, inner in item.items():
                heap.append((key, depth + 1))
                heap.append((inner, depth + 1))
        elif isinstance(item, list):
            _deep(depth)
            heap.extend((inner, depth + 1) for inner in item)


def _deep(depth: int) -> None:
    if depth > DEEPEST:
        raise BadRequest(f"The request body is nested more than {DEEPEST} levels deep.")
