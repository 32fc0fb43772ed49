"""Metadata for guests without a network of their own: their requests, signed, to the service."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
from urllib.parse import urlsplit

from kilonova.domain.guest import GuestSpec

HEAD_BYTES = 16 << 10
BODY_BYTES = 64 << 10
ASK_SECONDS = 30.0
ANSWER_SECONDS = 60.0
CHUNK = 64 << 10
# What a guest must not say about itself, and what concerns one connection only.
DROPPED = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-connection",
        "transfer-encoding",
        "upgrade",
        "x-forwarded-for",
        "x-instance-id",
        "x-instance-id-signature",
        "x-tenant-id",
        "x-metadata-provider",
        "x-metadata-provider-signature",
    }
)


class MetadataProxy:
    """A MetadataServer: one request per connection, sent on with X-Instance-ID and its signature.

    ``url`` is the metadata service; ``secret`` is ``[neutron] metadata_proxy_shared_secret``.
    """

    def __init__(self, *, url: str, secret: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or parts.hostname is None:
            raise ValueError(f"{url} is no URL of a metadata service")
        self._host = parts.hostname
        self._tls = parts.scheme == "https"
        self._port = parts.port or (443 if self._tls else 80)
        self._prefix = parts.path.rstrip("/")
        self._secret = secret.encode()

    async def __call__(
        self, guest: GuestSpec, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Serve one connection of a guest."""
        try:
            async with asyncio.timeout(ASK_SECONDS):
                request = await self._read(guest, reader)
        except (TimeoutError, asyncio.IncompleteReadError):
            return
        except (ValueError, asyncio.LimitOverrunError):
            writer.write(_answer("400 Bad Request"))
            await writer.drain()
            return
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._pass_on(request, writer)
        except (OSError, TimeoutError):
            writer.write(_answer("503 Service Unavailable"))
            await writer.drain()

    async def _read(self, guest: GuestSpec, reader: asyncio.StreamReader) -> bytes:
        head = await reader.readuntil(b"\r\n\r\n")
        if len(head) > HEAD_BYTES:
            raise ValueError("head too long")
        first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
        method, path, version = first.split(" ")
        if not path.startswith("/") or not version.startswith("HTTP/1."):
            raise ValueError("no request")
        kept, length = [], 0
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon or name != name.strip():
                raise ValueError("malformed header")
            if name.lower() == "content-length":
                length = int(value)
            if name.lower() == "transfer-encoding":
                raise ValueError("chunked bodies are not taken")
            if name.lower() not in DROPPED:
                kept.append(line)
        if not 0 <= length <= BODY_BYTES:
            raise ValueError("body too long")
        body = await reader.readexactly(length)
        kept += [*self._identity(guest), "Connection: close"]
        text = "\r\n".join([f"{method} {self._prefix}{path} HTTP/1.1", *kept, "", ""])
        return text.encode("latin-1") + body

    def _identity(self, guest: GuestSpec) -> list[str]:
        signature = hmac.new(self._secret, guest.server_id.encode(), hashlib.sha256).hexdigest()
        lines = [
            f"X-Instance-ID: {guest.server_id}",
            f"X-Tenant-ID: {guest.metadata.project_id}",
            f"X-Instance-ID-Signature: {signature}",
        ]
        address = next((ip.address for nic in guest.nics for ip in nic.ips), None)
        return [*lines, f"X-Forwarded-For: {address}"] if address else lines

    async def _pass_on(self, request: bytes, writer: asyncio.StreamWriter) -> None:
        answer, ask = await asyncio.open_connection(self._host, self._port, ssl=self._tls or None)
        try:
            ask.write(request)
            await ask.drain()
            while chunk := await answer.read(CHUNK):
                writer.write(chunk)
                await writer.drain()
        finally:
            ask.close()
            with contextlib.suppress(OSError):
                await ask.wait_closed()


def _answer(status: str) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
