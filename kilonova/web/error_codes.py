"""Stable words for errors, beside the text that people read; clients ask for them.

A code never changes its meaning and is never used for something else. It is told when a request
carries ``Prefer: error-code``, and by paths below ``/ext/``.
"""

from __future__ import annotations

from typing import Any

from kilonova.base.errors import Fault

# code → what it means; those of a status are what an error has that says nothing closer
CODES = {
    "request.invalid": "The request is wrong in itself (400).",
    "request.schema": "The body or the query string does not fit the schema of this version.",
    "request.version": "The version in the header is no version.",
    "request.too_large": "The body passes a limit (413).",
    "request.media_type": "A content type that is not read here (415).",
    "token.invalid": "There is no valid token (401).",
    "forbidden": "The caller may not do this (403).",
    "policy.forbidden": "A policy rule keeps the caller from this; the text names the rule.",
    "quota.exceeded": "More was asked for than a limit allows.",
    "not_found": "What the path names is not there, or not for this caller (404).",
    "server.not_found": "There is no such server, or not for this caller.",
    "method.not_allowed": "The path exists, the method does not (405).",
    "version.unsupported": "The version is not among those that this API has (406).",
    "conflict": "The present state does not allow it (409).",
    "server.state": "The server's state does not allow the action.",
    "server.locked": "The server is locked.",
    "server.busy": "Other work on the server is under way.",
    "interface.removed": "An interface that was removed for good (410).",
    "precondition.failed": "A condition of the request does not hold any more (412).",
    "range.invalid": "A byte range outside the object (416).",
    "rate.limited": "Over a limit of requests (429).",
    "internal": "Our own failure; the operator finds it by the request id (500).",
    "not_supported": "This cloud cannot do it (501).",
    "action.not_supported": "This cloud cannot do that action yet.",
    "neighbour.broken": "A neighbour answered with nonsense (502).",
    "unavailable": "Something needed is not reachable now; trying again may work (503).",
    "timeout": "A neighbour or a host did not answer in time (504).",
    "saga.step_failed": "A step of the work failed.",
}

_BY_STATUS = {
    400: "request.invalid",
    401: "token.invalid",
    403: "forbidden",
    404: "not_found",
    405: "method.not_allowed",
    406: "version.unsupported",
    409: "conflict",
    410: "interface.removed",
    412: "precondition.failed",
    413: "request.too_large",
    415: "request.media_type",
    416: "range.invalid",
    429: "rate.limited",
    500: "internal",
    501: "not_supported",
    502: "neighbour.broken",
    503: "unavailable",
    504: "timeout",
}


def code_of(fault: Fault) -> str:
    """The code of an error: its kind's or its own, else that of its status."""
    return fault.error_code or fault.code or _BY_STATUS.get(fault.status, "internal")


def with_code(body: Any, fault: Fault) -> Any:
    """An error body with ``error_code`` beside the text.

    Bodies of one object inside another get it there, flat ones at the top; others have a code
    of their own and stay as they are.
    """
    if not isinstance(body, dict):
        return body
    inner = next(iter(body.values())) if len(body) == 1 else body
    if not isinstance(inner, dict):
        return body
    told = {**inner, "error_code": code_of(fault)}
    return {next(iter(body)): told} if inner is not body else told
