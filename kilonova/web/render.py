"""From what a handler returned, or an error, to status, headers and bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from kilonova.base.errors import Fault
from kilonova.web.call import Reply
from kilonova.web.error_codes import with_code
from kilonova.web.faults import FaultStyle

RawHeaders = list[tuple[bytes, bytes]]

_encode = msgspec.json.Encoder().encode
_JSON = (b"content-type", b"application/json")
_EMPTY: RawHeaders = []


class Rendered(msgspec.Struct):
    """An answer ready to be sent; ``headers`` without length and request id."""

    status: int
    headers: RawHeaders
    body: bytes


def raw_headers(headers: Mapping[str, str]) -> RawHeaders:
    """Headers as ASGI wants them; characters outside Latin-1 and line breaks are replaced."""
    return [
        (
            name.lower().encode("latin-1"),
            value.replace("\r", " ").replace("\n", " ").encode("latin-1", "replace"),
        )
        for name, value in headers.items()
    ]


def render(result: Any, status: int) -> Rendered:
    """The answer for a handler's result: `Reply`, JSON-able value, bytes or None."""
    headers = _EMPTY
    if isinstance(result, Reply):
        status = result.status or status
        headers = raw_headers(result.headers)
        result = result.body
    if result is None:
        body = b""
    elif isinstance(result, bytes):
        body = result
    else:
        body = _encode(result)
    if status == 204 or any(name == b"content-type" for name, _ in headers):
        return Rendered(status, headers, body)
    return Rendered(status, [_JSON, *headers], body)


def render_fault(
    fault: Fault, style: FaultStyle, request_id: str, *, coded: bool = False
) -> Rendered:
    """The answer for an error in the service's style; ``coded`` adds its ``error_code``."""
    body = style(fault, fault.status, request_id)
    if coded:
        body = with_code(body, fault)
    return Rendered(fault.status, [_JSON, *raw_headers(fault.headers)], _encode(body))


def find_fault(error: BaseException) -> Fault | None:
    """The error a caller may see: itself, or the first one inside an exception group."""
    if isinstance(error, Fault):
        return error
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            found = find_fault(inner)
            if found is not None:
                return found
    return None
