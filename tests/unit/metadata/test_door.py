from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator

import pytest

from kilonova.metadata.door import Serve, door
from kilonova.web.client import HttpClient
from tests.support.guests import SERVER, spec


class Service:
    def __init__(self) -> None:
        self.requests: list[str] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        if "Content-Length: 3" in head:
            head += (await reader.readexactly(3)).decode()
        self.requests.append(head)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()
        writer.close()


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    made = Service()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield made
    server.close()


async def ask(serve_guest: Serve, request: bytes) -> bytes:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await serve_guest(spec(), reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(request)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    server.close()
    return answer


async def test_the_guest_is_named_and_signed_whatever_it_says(service: Service) -> None:
    lie = b"GET /latest HTTP/1.1\r\nHost: x\r\nX-Instance-ID: other\r\nx-tenant-id: other\r\n\r\n"
    async with HttpClient() as http:
        assert (await ask(door(http, service.url, "s"), lie)).endswith(b"ok")
    request = service.requests[0]
    signature = hmac.new(b"s", SERVER.encode(), hashlib.sha256).hexdigest()
    assert request.startswith("GET /latest HTTP/1.1\r\n")
    assert f"x-instance-id: {SERVER}\r\n" in request
    assert "x-tenant-id: p\r\n" in request
    assert f"x-instance-id-signature: {signature}\r\n" in request
    assert "other" not in request


async def test_a_body_is_passed_on(service: Service) -> None:
    post = b"POST /openstack/latest/password HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"
    async with HttpClient() as http:
        assert (await ask(door(http, service.url, "s"), post)).endswith(b"ok")
    assert service.requests[0].endswith("abc")


@pytest.mark.parametrize(
    "nonsense",
    [
        b"",
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\nX-Instance-ID : other\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n" + b"x" * 100_000,
        b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    ],
)
async def test_nonsense_is_refused(service: Service, nonsense: bytes) -> None:
    async with HttpClient() as http:
        assert (await ask(door(http, service.url, "s"), nonsense)).startswith(b"HTTP/1.1 400")
    assert service.requests == []


async def test_no_service_is_a_503() -> None:
    async with HttpClient() as http:
        answer = await ask(door(http, "http://127.0.0.1:1", "s"), b"GET / HTTP/1.1\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 503")
