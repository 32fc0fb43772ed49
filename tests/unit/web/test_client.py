"""The HTTP client over loopback and over real sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web as aioweb

from kilonova.base import log as context
from kilonova.base.errors import BadGateway, Timeout, Unavailable
from kilonova.web.client import HttpClient

ORIGIN = "http://127.0.0.1:9292"


async def echo(scope: Any, receive: Any, send: Any) -> None:
    if scope["path"] == "/nothing":
        return
    if scope["path"] == "/boom":
        raise RuntimeError("no")
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    names = dict(scope["headers"])
    headers = [
        (b"x-path", scope["path"].encode()),
        (b"x-query", scope["query_string"]),
        (b"x-request", names.get(b"x-openstack-request-id", b"")),
        (b"x-type", names.get(b"content-type", b"")),
    ]
    await send({"type": "http.response.start", "status": 201, "headers": headers})
    if scope["path"] == "/endless":
        while True:
            await send({"type": "http.response.body", "body": b"x" * 1000, "more_body": True})
    if scope["path"] == "/broken":
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        raise RuntimeError("broken")
    for start in range(0, len(body), 4):
        piece = body[start : start + 4]
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def pieces() -> AsyncIterator[bytes]:
    for piece in (b"ab", b"cd", b"e"):
        yield piece


async def test_loopback_request() -> None:
    client = HttpClient(loopback={ORIGIN: echo})
    mark = context.request_id.set("req-1")
    answer = await client.request(
        "POST", ORIGIN + "/a%20b", json={"a": 1}, params={"q": ["x", "y"], "none": None}
    )
    context.request_id.reset(mark)
    assert (answer.status, answer.json()) == (201, {"a": 1})
    assert answer.headers["X-Path"] == "/a b"
    assert answer.headers["x-query"] == "q=x&q=y"
    assert answer.headers["x-request"] == "req-1"
    assert answer.headers["x-type"] == "application/json"
    sent = await client.request("PUT", ORIGIN + "/s", data=pieces())
    assert sent.body == b"abcde"


async def test_loopback_stream() -> None:
    client = HttpClient(loopback={ORIGIN: echo})
    async with client.stream("PUT", ORIGIN + "/s", data=pieces()) as answer:
        assert answer.status == 201
        assert b"".join([chunk async for chunk in answer]) == b"abcde"
    async with client.stream("GET", ORIGIN + "/endless") as answer:
        async for chunk in answer:
            assert chunk
            break
    assert len(asyncio.all_tasks()) == 1


async def test_loopback_failures() -> None:
    client = HttpClient(loopback={ORIGIN: echo})
    with pytest.raises(BadGateway):
        await client.request("GET", ORIGIN + "/nothing")
    with pytest.raises(RuntimeError):
        await client.request("GET", ORIGIN + "/boom")
    with pytest.raises(BadGateway):
        async with client.stream("GET", ORIGIN + "/nothing"):
            pass
    with pytest.raises(RuntimeError):
        async with client.stream("GET", ORIGIN + "/boom"):
            pass
    with pytest.raises(BadGateway):
        async with client.stream("GET", ORIGIN + "/broken") as answer:
            _ = [chunk async for chunk in answer]


async def _slow(request: aioweb.Request) -> aioweb.StreamResponse:
    if request.path == "/slow":
        await asyncio.sleep(5)
    if request.path == "/big":
        return aioweb.Response(body=b"x" * 5000)
    if request.path == "/moved":
        return aioweb.Response(status=302, headers={"Location": "/"})
    return aioweb.Response(body=await request.read(), content_type="application/json")


async def test_network() -> None:
    server = aioweb.Application()
    server.router.add_route("*", "/{rest:.*}", _slow)
    runner = aioweb.AppRunner(server, shutdown_timeout=0.1)
    await runner.setup()
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        site = aioweb.SockSite(runner, sock)
        await site.start()
        base = f"http://127.0.0.1:{sock.getsockname()[1]}"
        async with HttpClient() as client:
            assert (await client.request("POST", base + "/x", json=[1])).json() == [1]
            assert (await client.request("PUT", base + "/x", data=pieces())).body == b"abcde"
            assert (await client.request("GET", base + "/moved")).status == 302
            with pytest.raises(Timeout):
                await client.request("GET", base + "/slow", timeout=0.05)
            with pytest.raises(BadGateway):
                await client.request("GET", base + "/big", max_answer=1000)
            with pytest.raises(BadGateway):
                (await client.request("PUT", base + "/x", data=b"nonsense")).json()
            async with client.stream("GET", base + "/big") as answer:
                assert sum([len(chunk) async for chunk in answer]) == 5000
        await runner.cleanup()
    async with HttpClient() as client:
        with pytest.raises(Unavailable):
            await client.request("GET", base + "/x")
        with pytest.raises(BadGateway):
            await client.request("GET", "nonsense")
