"""How each service words an error body: the five fault styles of OpenStack."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from kilonova.base.errors import Fault

FaultStyle = Callable[[Fault, int, str], Any]

_NOVA_KEYS = {
    400: "badRequest",
    401: "unauthorized",
    403: "forbidden",
    404: "itemNotFound",
    405: "badMethod",
    409: "conflictingRequest",
    413: "overLimit",
    415: "badMediaType",
    429: "overLimit",
    501: "notImplemented",
    503: "serviceUnavailable",
}


def title(status: int) -> str:
    """The reason phrase of a status code (RFC 9110, with the older names OpenStack shows)."""
    if status == 413:
        return "Request Entity Too Large"
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def nova_faults(fault: Fault, status: int, _request_id: str) -> dict[str, Any]:
    """``{"itemNotFound": {"code": 404, "message": "…"}}``."""
    if status == 401:
        return keystone_faults(fault, status, _request_id)
    body: dict[str, Any] = {"code": status, "message": fault.message or title(status)}
    if status in (413, 429):
        body["retryAfter"] = fault.headers.get("Retry-After", "0")
    return {_NOVA_KEYS.get(status, "computeFault"): body}


def placement_faults(fault: Fault, status: int, request_id: str) -> dict[str, Any]:
    """``{"errors": [{"status", "title", "detail", "code", "request_id"}]}``."""
    error: dict[str, Any] = {
        "status": status,
        "title": title(status),
        "detail": fault.message or title(status),
        "request_id": request_id,
    }
    if fault.code:
        error["code"] = fault.code
    error.update(fault.details)
    return {"errors": [error]}


def keystone_faults(fault: Fault, status: int, _request_id: str) -> dict[str, Any]:
    """``{"error": {"code": 404, "message": "…", "title": "Not Found"}}``."""
    message = fault.message or (
        "A valid token is required." if status == 401 else f"{title(status)}."
    )
    return {"error": {"code": status, "message": message, "title": title(status)}}


def glance_faults(fault: Fault, status: int, _request_id: str) -> dict[str, Any]:
    """``{"message": "…", "code": "404 Not Found", "title": "Not Found"}``."""
    name = title(status)
    return {"message": fault.message or name, "code": f"{status} {name}", "title": name}


def neutron_faults(fault: Fault, status: int, _request_id: str) -> dict[str, Any]:
    """``{"NeutronError": {"type": "PortNotFound", "message": "…", "detail": ""}}``."""
    kind = fault.code or f"HTTP{title(status).replace(' ', '').replace('-', '')}"
    detail = fault.details.get("detail", "")
    message = fault.message or title(status)
    return {"NeutronError": {"type": kind, "message": message, "detail": detail}}
