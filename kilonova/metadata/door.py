"""A door of one guest to the metadata service: HTTP over a stream that nobody else can use."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus

import httptools

from kilonova.base.errors import Fault
from kilonova.domain.guest import GuestSpec
from kilonova.metadata.service import sign
from kilonova.web.client import HttpClient

log = logging.getLogger(__name__)

LONGEST_REQUEST = 64 * 1024
REQUEST_SECONDS = 30.0
PASSED_ON = ("accept", "content-type", "user-agent")

Serve = Callable[[GuestSpec, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class _Request:
    """What httptools finds in the bytes of one request."""

    def __init__(self) -> None:
        self.url = b""
        self.headers: dict[str, str] = {}
        self.body = b""
        self.complete = False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete = True


def door(http: HttpClient, url: str, secret: str) -> Serve:
    """A server for single connections: each request goes on to ``url`` in the guest's name."""

    async def serve(
        guest: GuestSpec, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                status, kind, body = await _answer(guest, reader)
        except TimeoutError:
            status, kind, body = 408, "text/plain", b"too slow\n"
        head = (
            f"HTTP/1.1 {status} {_phrase(status)}\r\nContent-Type: {kind}\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        writer.write(head.encode("latin-1") + body)
        await writer.drain()

    async def _answer(guest: GuestSpec, reader: asyncio.StreamReader) -> tuple[int, str, bytes]:
        request = _Request()
        parser = httptools.HttpRequestParser(request)
        size = 0
        try:
            while not request.complete:
                chunk = await reader.read(16384)
                size += len(chunk)
                if not chunk or size > LONGEST_REQUEST:
                    return 400, "text/plain", b"no complete request\n"
                parser.feed_data(chunk)
        except httptools.HttpParserError:
            return 400, "text/plain", b"no HTTP request\n"
        path = "/" + request.url.decode("latin-1").lstrip("/")
        sent = {name: request.headers[name] for name in PASSED_ON if name in request.headers}
        address = next((ip.address for nic in guest.nics for ip in nic.ips), "")
        sent |= {
            "X-Instance-ID": guest.server_id,
            "X-Instance-ID-Signature": sign(secret, guest.server_id),
            "X-Tenant-ID": guest.metadata.project_id,
            "X-Forwarded-For": address,
        }
        try:
            answer = await http.request(
                parser.get_method().decode(), url + path, data=request.body, headers=sent
            )
        except Fault as fault:
            log.warning("metadata for %s: %s", guest.server_id, fault.message)
            return 503, "text/plain", b"the metadata service is not reachable\n"
        return answer.status, answer.headers.get("content-type", "text/plain"), answer.body

    return serve


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
