"""How Placement words its errors, and what of the request that depends on."""

from __future__ import annotations

import contextvars
from typing import Any

import msgspec

from kilonova.base.errors import BadRequest, Fault, NotAcceptable
from kilonova.web import body as web_body
from kilonova.web.faults import placement_faults
from kilonova.web.versions import VersionRange

UNDEFINED = "placement.undefined_code"


class Asked(msgspec.Struct, frozen=True):
    """The method and minor version of the request under way."""

    method: str = "GET"
    version: int = 0


_FIRST = Asked()
asked: contextvars.ContextVar[Asked] = contextvars.ContextVar("asked", default=_FIRST)


class Versions(VersionRange, frozen=True):
    """Placement's microversions, with its own words for bad ones."""

    def parse(self, text: str) -> int:
        """The minor number of ``"1.N"`` or ``"latest"``; BadRequest, NotAcceptable."""
        try:
            return super().parse(text)
        except NotAcceptable as fault:
            raise NotAcceptable(
                f"Unacceptable version header: {text}", details=fault.details
            ) from None
        except BadRequest:
            major, _, minor = text.partition(".")
            if major.isdigit() and minor.isdigit():
                raise NotAcceptable(f"Unacceptable version header: {text}") from None
            raise BadRequest(f"invalid version string: {text[:64]}") from None


VERSIONS = Versions("placement", 1, 0, 39)


def faults(fault: Fault, status: int, request_id: str) -> dict[str, Any]:
    """The body of an error; from 1.23 on each has a code."""
    body = placement_faults(fault, status, request_id)
    error = body["errors"][0]
    error.pop("code", None)
    if asked.get().version >= 23:
        error["code"] = fault.code or UNDEFINED
    if status == 405:
        error["detail"] = f"The method {asked.get().method} is not allowed for this resource."
    elif status == 400 and fault.message == web_body.MALFORMED:
        error["detail"] = f"Malformed JSON: {fault.message}"
    return body
