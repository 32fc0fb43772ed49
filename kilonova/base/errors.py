"""Domain errors that carry their HTTP meaning; one place renders them."""

from __future__ import annotations

from typing import ClassVar


class Fault(Exception):
    """An error a caller is meant to see: an HTTP status and a sentence that says what to do.

    ``code`` is a stable machine word (``"quota.exceeded"``) some services put beside the text,
    ``error_code`` one of a kind of error that clients see only when they ask for it;
    ``headers`` go out with the answer; ``details`` are further fields for services that show them.
    """

    status: ClassVar[int] = 500
    error_code: ClassVar[str] = ""

    def __init__(
        self,
        message: str = "",
        *,
        code: str = "",
        headers: dict[str, str] | None = None,
        details: dict[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.headers = headers or {}
        self.details = details or {}


class BadRequest(Fault):
    """The request itself is wrong (400)."""

    status = 400


class Unauthorized(Fault):
    """No valid credentials (401)."""

    status = 401


class Forbidden(Fault):
    """The caller may not do this, or a quota is used up (403)."""

    status = 403


class NotFound(Fault):
    """What the path names is not there, or not for this caller (404)."""

    status = 404


class MethodNotAllowed(Fault):
    """The path exists, the method does not (405)."""

    status = 405


class NotAcceptable(Fault):
    """No such version (406)."""

    status = 406


class Conflict(Fault):
    """The present state does not allow it (409)."""

    status = 409


class Gone(Fault):
    """An interface that was removed for good (410)."""

    status = 410


class PreconditionFailed(Fault):
    """A condition of the request does not hold any more (412)."""

    status = 412


class TooLarge(Fault):
    """The body or an uploaded object passes a limit (413)."""

    status = 413


class UnsupportedMediaType(Fault):
    """A content type this interface does not read (415)."""

    status = 415


class RangeNotSatisfiable(Fault):
    """A byte range outside the object (416)."""

    status = 416


class TooManyRequests(Fault):
    """Over a limit (429)."""

    status = 429


class Internal(Fault):
    """Our own failure, told to the caller (500)."""

    status = 500


class NotSupported(Fault):
    """This cloud cannot do it (501)."""

    status = 501


class BadGateway(Fault):
    """A neighbour answered with nonsense (502)."""

    status = 502


class Unavailable(Fault):
    """Something needed is not reachable now; trying again later may work (503)."""

    status = 503


class Timeout(Fault):
    """A neighbour or an agent did not answer in time (504)."""

    status = 504
