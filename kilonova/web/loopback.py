"""Calling an ASGI application of this process as if over HTTP, without sockets."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import unquote, urlsplit

from multidict import CIMultiDict, CIMultiDictProxy
from starlette.types import ASGIApp, Message

from kilonova.base.errors import BadGateway

LOOPBACK = "kilonova.loopback"
"""The ASGI extension that marks requests of the process to itself."""

Data = bytes | AsyncIterator[bytes]
Headers = CIMultiDictProxy[str]


async def exchange(
    app: ASGIApp, method: str, url: str, headers: dict[str, str], body: bytes
) -> tuple[int, Headers, bytes]:
    """One request and its whole answer, run inside the calling task: (status, headers, body)."""
    messages: list[Message] = []
    given = False

    async def receive() -> Message:
        nonlocal given
        if given:
            # Nobody goes away here; who waits for that waits until it is cancelled.
            await asyncio.get_running_loop().create_future()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        messages.append(message)

    await app(_scope(method, url, headers, body), receive, send)
    start = messages[0] if messages else None
    if start is None or len(messages) < 2 or messages[-1].get("more_body"):
        raise BadGateway("An application of this process broke off its answer.")
    chunks = [m.get("body", b"") for m in messages if m["type"] == "http.response.body"]
    return start["status"], _headers(start), chunks[0] if len(chunks) == 1 else b"".join(chunks)


@contextlib.asynccontextmanager
async def converse(
    app: ASGIApp, method: str, url: str, headers: dict[str, str], data: Data | None
) -> AsyncIterator[Pipe]:
    """The same piece by piece: the application runs in a task of its own meanwhile."""
    feed = None if data is None or isinstance(data, bytes) else data
    pipe = Pipe(data if isinstance(data, bytes) else b"", feed)
    scope = _scope(method, url, headers, data)
    pipe.task = asyncio.create_task(pipe.run(app, scope))
    try:
        await pipe.started()
        yield pipe
    finally:
        pipe.gone.set()
        pipe.task.cancel()
        await asyncio.wait([pipe.task])
        if not pipe.task.cancelled():
            pipe.task.exception()


class Pipe:
    """One request to an application of this process: what it receives and what it sends."""

    task: asyncio.Task[None]

    def __init__(self, body: bytes, feed: AsyncIterator[bytes] | None) -> None:
        self.status = 0
        self.headers: Headers = CIMultiDictProxy(CIMultiDict())
        self.gone = asyncio.Event()
        self._body: bytes | None = body
        self._feed = feed
        self._out: asyncio.Queue[bytes | None] = asyncio.Queue(maxsize=8)
        self._begun = asyncio.Event()

    async def run(self, app: ASGIApp, scope: dict[str, Any]) -> None:
        """Run the application; its end is the end of the answer."""
        try:
            await app(scope, self._receive, self._send)
        finally:
            self._begun.set()
        await self._out.put(None)

    async def started(self) -> None:
        """Wait until status and headers are there; raises what the application raised."""
        await self._begun.wait()
        if not self.status:
            await asyncio.wait([self.task])
            self.task.result()
            raise BadGateway("An application of this process gave no answer.")

    async def read(self) -> AsyncIterator[bytes]:
        """The pieces of the body; BadGateway if the application broke off."""
        ended = False
        while not ended:
            getter = asyncio.ensure_future(self._out.get())
            try:
                await asyncio.wait([getter, self.task], return_when=asyncio.FIRST_COMPLETED)
                if not getter.done() and self._out.empty():
                    raise BadGateway("An application of this process broke off its answer.")
                chunk = await getter
            finally:
                getter.cancel()
            if chunk:
                yield chunk
            ended = chunk is None

    async def _receive(self) -> Message:
        if self._feed is not None:
            try:
                chunk = await anext(self._feed)
            except StopAsyncIteration:
                self._feed = self._body = None
                return {"type": "http.request", "body": b"", "more_body": False}
            return {"type": "http.request", "body": chunk, "more_body": True}
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if self.gone.is_set():
            raise OSError("the client has gone")
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = _headers(message)
            self._begun.set()
        elif message["type"] == "http.response.body" and message.get("body"):
            await self._out.put(message["body"])


def _headers(message: Message) -> Headers:
    rows = message.get("headers", ())
    return CIMultiDictProxy(
        CIMultiDict([(name.decode("latin-1"), value.decode("latin-1")) for name, value in rows])
    )


@functools.lru_cache(maxsize=256)
def _address(origin: str) -> tuple[str, str, tuple[str, int]]:
    """Scheme, network location, and host and port of an origin."""
    parts = urlsplit(origin)
    return parts.scheme, parts.netloc, (parts.hostname or "localhost", parts.port or 80)


def _scope(method: str, url: str, headers: dict[str, str], data: Data | None) -> dict[str, Any]:
    before, _, after = url.partition("#")[0].partition("://")
    netloc, slash, rest = after.partition("/")
    path, _, query = rest.partition("?")
    if not slash:
        netloc, _, query = netloc.partition("?")
    path = f"/{path}"
    scheme, host, server = _address(f"{before}://{netloc}")
    rows = [(b"host", headers.get("host", host).encode("latin-1"))]
    rows += [(k.encode("latin-1"), v.encode("latin-1")) for k, v in headers.items() if k != "host"]
    if isinstance(data, bytes) and data and "content-length" not in headers:
        rows.append((b"content-length", b"%d" % len(data)))
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method.upper(),
        "scheme": scheme,
        "path": unquote(path),
        "raw_path": path.encode("latin-1", "replace"),
        "root_path": "",
        "query_string": query.encode("latin-1", "replace"),
        "headers": rows,
        "client": ("127.0.0.1", 0),
        "server": server,
        "state": {},
        "extensions": {LOOPBACK: {}},
    }
