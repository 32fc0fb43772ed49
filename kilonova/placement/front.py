"""What stands before the API: header checks, other media types for errors, noauth2, CORS."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kilonova.base.errors import BadRequest, Fault
from kilonova.base.ids import request_id
from kilonova.placement.api.common import accepts_json
from kilonova.placement.api.faults import VERSIONS, Asked, asked, faults
from kilonova.web.call import Caller
from kilonova.web.render import RawHeaders, render_fault
from kilonova.web.versions import negotiate

_VERSION = b"openstack-api-version"


class Front:
    """The application with these checks around it; ``noauth`` believes the headers."""

    def __init__(self, inner: ASGIApp, *, noauth: bool = False) -> None:
        self._inner = inner
        self._noauth = noauth

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One ASGI connection."""
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        headers = dict(scope["headers"])
        version = _version(headers)
        mark = asked.set(Asked(scope["method"], version))
        try:
            out = _Answer(send, headers, version)
            try:
                _check_headers(headers)
            except Fault as fault:
                await out.fault(fault)
                return
            if self._noauth:
                scope = {**scope, "headers": _believe(scope["headers"], headers)}
            await self._inner(scope, receive, out.send)
        finally:
            asked.reset(mark)


def _version(headers: dict[bytes, bytes]) -> int:
    try:
        return negotiate(VERSIONS, headers)
    except Fault:
        return VERSIONS.minimum


def _check_headers(headers: dict[bytes, bytes]) -> None:
    length = headers.get(b"content-length")
    if length is None:
        return
    if not length.isdigit():
        raise BadRequest("content-length header must be an integer")
    if int(length) and b"content-type" not in headers:
        raise BadRequest("content-type header required")


class _Answer:
    """Sends an answer on, naming the version and giving errors in a form the caller reads."""

    def __init__(self, send: Send, headers: dict[bytes, bytes], version: int) -> None:
        self._send = send
        self._version = f"{VERSIONS.service} {VERSIONS.major}.{version}".encode()
        accept = headers.get(b"accept")
        self._as_html = not accepts_json(accept.decode("latin-1") if accept else None)
        self._held: Message | None = None
        self._body = b""

    async def fault(self, fault: Fault) -> None:
        """Answer with an error of our own."""
        done = render_fault(fault, faults, request_id())
        await self.send(
            {"type": "http.response.start", "status": done.status, "headers": done.headers}
        )
        await self.send({"type": "http.response.body", "body": done.body})

    async def send(self, message: Message) -> None:
        """An ASGI message from the application."""
        if message["type"] == "http.response.start":
            kept: RawHeaders = [
                pair for pair in message["headers"] if pair[0] not in (_VERSION, b"vary")
            ]
            message["headers"] = [*kept, (_VERSION, self._version), (b"vary", _VERSION)]
            if self._as_html and message["status"] >= 400:
                self._held = message
                return
        elif self._held is not None and message["type"] == "http.response.body":
            self._body += message.get("body", b"")
            if message.get("more_body"):
                return
            message = await self._html(self._held)
        await self._send(message)

    async def _html(self, start: Message) -> Message:
        error = json.loads(self._body)["errors"][0]
        title, detail = escape(error["title"]), escape(error["detail"])
        page = (
            f"<html><head><title>{error['status']} {title}</title></head>"
            f"<body><h1>{error['status']} {title}</h1>{detail}</body></html>"
        ).encode()
        drop = (b"content-type", b"content-length")
        start["headers"] = [
            *(pair for pair in start["headers"] if pair[0] not in drop),
            (b"content-type", b"text/html; charset=UTF-8"),
            (b"content-length", str(len(page)).encode()),
        ]
        self._held = None
        await self._send(start)
        return {"type": "http.response.body", "body": page}


class _Claimed(msgspec.Struct):
    """What the headers of a noauth2 request say, carried inside the token."""

    user: str
    project: str | None
    roles: list[str]
    system: str | None


def _believe(raw: Sequence[tuple[bytes, bytes]], headers: dict[bytes, bytes]) -> RawHeaders:
    """The headers with who asks packed into the token."""
    token = headers.get(b"x-auth-token", b"").decode("latin-1")
    if not token:
        return list(raw)
    user, _, project = token.partition(":")
    roles = headers.get(b"x-roles")
    named = ["admin", "service", "member", "reader"] if user == "admin" else []
    if roles is not None:
        named = [role.strip() for role in roles.decode("latin-1").split(",") if role.strip()]
    system = headers.get(b"openstack-system-scope")
    given = headers.get(b"x-project-id", b"").decode("latin-1") or project or user
    claimed = _Claimed(
        user, None if system else given, named, system.decode("latin-1") if system else None
    )
    packed = msgspec.json.encode(claimed).decode().encode("ascii", "backslashreplace")
    return [*(pair for pair in raw if pair[0] != b"x-auth-token"), (b"x-auth-token", packed)]


class NoAuth:
    """Takes everybody for who they say they are; for development and tests only."""

    async def authenticate(self, token: str) -> Caller | None:
        """The caller packed by `Front`."""
        try:
            claimed = msgspec.json.decode(token, type=_Claimed)
        except msgspec.MsgspecError:
            return None
        return Caller(
            user_id=claimed.user,
            user_name=claimed.user,
            project_id=claimed.project,
            roles=tuple(claimed.roles),
            system_scope=claimed.system,
        )
