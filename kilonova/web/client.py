"""The HTTP client: aiohttp on the network, a direct call for applications in this process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import unquote, urlencode, urlsplit

import aiohttp
import msgspec
from multidict import CIMultiDict, CIMultiDictProxy
from starlette.types import ASGIApp, Message

from kilonova.base import log as context
from kilonova.base.errors import BadGateway, Timeout, Unavailable

Data = bytes | AsyncIterator[bytes]
Params = Mapping[str, Any] | list[tuple[str, str]]

_LARGEST_ANSWER = 64 * 1024 * 1024
_CHUNK = 256 * 1024


class Answer(msgspec.Struct, frozen=True):
    """A complete HTTP answer."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """The body as JSON; BadGateway if it is none."""
        try:
            return msgspec.json.decode(self.body)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            raise BadGateway("A service answered with something that is not JSON.") from None

    @property
    def ok(self) -> bool:
        """Whether the status is below 400."""
        return self.status < 400


class Stream(msgspec.Struct):
    """An answer whose body comes piece by piece: iterate over ``chunks``."""

    status: int
    headers: CIMultiDictProxy[str]
    chunks: AsyncIterator[bytes]

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self.chunks


class HttpClient:
    """One client for a process; ``async with`` it or call ``close`` at the end.

    ``loopback`` maps ``scheme://host:port`` to applications of this process: requests to them
    never touch a socket. The request id of the present request goes along as
    ``X-OpenStack-Request-ID``.
    """

    def __init__(
        self,
        *,
        loopback: Mapping[str, ASGIApp] | None = None,
        verify: bool | str = True,
        limit: int = 100,
        user_agent: str = "kilonova",
    ) -> None:
        """``verify``: check TLS certificates, or the path of a CA bundle; ``limit``: sockets."""
        self._loopback = {origin.rstrip("/"): app for origin, app in (loopback or {}).items()}
        self._verify = verify
        self._limit = limit
        self._agent = user_agent
        self._session: aiohttp.ClientSession | None = None

    def attach(self, origin: str, app: ASGIApp) -> None:
        """Answer requests to ``origin`` by ``app`` from now on."""
        self._loopback[origin.rstrip("/")] = app

    async def __aenter__(self) -> HttpClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def request(
        self,
        method: str,
        url: str,
        *,
        json: Any = None,
        data: Data | None = None,
        headers: Mapping[str, str] | None = None,
        params: Params | None = None,
        timeout: float | None = 30.0,
        max_answer: int = _LARGEST_ANSWER,
    ) -> Answer:
        """One request and its whole answer (redirects are not followed).

        Raises Unavailable if the server cannot be reached, Timeout after ``timeout`` seconds,
        BadGateway for broken or too large answers. Any HTTP status is an answer, not an error.
        """
        try:
            async with (
                asyncio.timeout(timeout),
                self.stream(
                    method, url, json=json, data=data, headers=headers, params=params, timeout=None
                ) as answer,
            ):
                body = await _collect(answer.chunks, max_answer)
                return Answer(answer.status, answer.headers, body)
        except TimeoutError:
            raise Timeout(f"No answer from {_origin(url)} within {timeout:g} seconds.") from None

    @contextlib.asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str,
        *,
        json: Any = None,
        data: Data | None = None,
        headers: Mapping[str, str] | None = None,
        params: Params | None = None,
        timeout: float | None = 30.0,
    ) -> AsyncIterator[Stream]:
        """The answer as a `Stream`, valid inside the ``async with``.

        ``timeout``: seconds without any byte.
        """
        sent: dict[str, str] = {"user-agent": self._agent}
        if json is not None:
            data = msgspec.json.encode(json)
            sent["content-type"] = "application/json"
        present = context.global_request_id.get() or context.request_id.get()
        if present:
            sent["x-openstack-request-id"] = present
        for name, value in (headers or {}).items():
            sent[name.lower()] = value
        full = _with_params(url, params)
        app = self._loopback.get(_origin(full)) if self._loopback else None
        if app is not None:
            async with _loopback(app, method, full, sent, data) as answer:
                yield answer
            return
        async with self._network(method, full, sent, data, timeout) as answer:
            yield answer

    @contextlib.asynccontextmanager
    async def _network(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        data: Data | None,
        timeout: float | None,
    ) -> AsyncIterator[Stream]:
        limits = aiohttp.ClientTimeout(total=None, sock_connect=10.0, sock_read=timeout)
        try:
            async with self._open().request(
                method, url, data=data, headers=headers, timeout=limits, allow_redirects=False
            ) as answer:
                chunks = answer.content.iter_chunked(_CHUNK)
                yield Stream(answer.status, answer.headers, _translated(chunks, url))
        except TimeoutError:
            raise Timeout(f"No answer from {_origin(url)} in time.") from None
        except aiohttp.ClientConnectionError as error:
            raise Unavailable(f"{_origin(url)} is not reachable: {error}") from error
        except aiohttp.InvalidURL:
            raise BadGateway(f"{url[:200]!r} is not a valid URL.") from None
        except aiohttp.ClientError as error:
            raise BadGateway(f"{_origin(url)} gave a broken answer: {error}") from error

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            tls: Any = True
            if self._verify is False:
                tls = False
            elif isinstance(self._verify, str):
                import ssl  # noqa: PLC0415

                tls = ssl.create_default_context(cafile=self._verify)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._limit, ssl=tls),
                skip_auto_headers=("User-Agent", "Content-Type"),
                auto_decompress=True,
            )
        return self._session


async def _translated(chunks: AsyncIterator[bytes], url: str) -> AsyncIterator[bytes]:
    try:
        async for chunk in chunks:
            yield chunk
    except aiohttp.ClientError as error:
        raise BadGateway(f"{_origin(url)} broke off its answer: {error}") from error


async def _collect(chunks: AsyncIterator[bytes], limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for chunk in chunks:
        parts.append(chunk)
        size += len(chunk)
        if size > limit:
            raise BadGateway(f"A service answered with more than {limit} bytes.")
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _origin(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('/')[0].partition('?')[0]}"


def _with_params(url: str, params: Params | None) -> str:
    if not params:
        return url
    rows = params if isinstance(params, list) else list(params.items())
    query = urlencode([(key, value) for key, value in rows if value is not None], doseq=True)
    return f"{url}{'&' if '?' in url else '?'}{query}" if query else url


@contextlib.asynccontextmanager
async def _loopback(
    app: ASGIApp, method: str, url: str, headers: dict[str, str], data: Data | None
) -> AsyncIterator[Stream]:
    """Call ``app`` in a task of its own and hand its answer over piece by piece."""
    scope = _scope(method, url, headers, data)
    feed = data if data is not None and not isinstance(data, bytes) else None
    pipe = _Pipe(data if isinstance(data, bytes) else b"", feed)
    task = asyncio.create_task(pipe.run(app, scope))
    try:
        await pipe.started(task)
        yield Stream(pipe.status, pipe.headers, pipe.read(task))
    finally:
        pipe.gone.set()
        pipe.space.set()
        if not task.done():
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await task


class _Pipe:
    """One request to an application of this process: what it receives and what it sends."""

    def __init__(self, body: bytes, feed: AsyncIterator[bytes] | None) -> None:
        self.status = 0
        self.headers: CIMultiDictProxy[str] = CIMultiDictProxy(CIMultiDict())
        self.gone = asyncio.Event()
        self.space = asyncio.Event()
        self._body: bytes | None = body
        self._feed = feed
        self._out: asyncio.Queue[bytes | None] = asyncio.Queue(maxsize=8)
        self._begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self, app: ASGIApp, scope: dict[str, Any]) -> None:
        await app(scope, self._receive, self._send)

    async def started(self, task: asyncio.Task[None]) -> None:
        await asyncio.wait([self._begun, task], return_when=asyncio.FIRST_COMPLETED)
        if not self._begun.done():
            self._begun.cancel()
            task.result()
            raise BadGateway("An application of this process gave no answer.")

    async def read(self, task: asyncio.Task[None]) -> AsyncIterator[bytes]:
        while True:
            getter = asyncio.ensure_future(self._out.get())
            await asyncio.wait([getter, task], return_when=asyncio.FIRST_COMPLETED)
            if not getter.done():
                getter.cancel()
                if self._out.empty():
                    raise BadGateway("An application of this process broke off its answer.")
                chunk = self._out.get_nowait()
            else:
                chunk = getter.result()
            if chunk is None:
                return
            if chunk:
                yield chunk

    async def _receive(self) -> Message:
        if self._feed is not None:
            try:
                chunk = await anext(self._feed)
                return {"type": "http.request", "body": chunk, "more_body": True}
            except StopAsyncIteration:
                self._feed = None
                return {"type": "http.request", "body": b"", "more_body": False}
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
            rows: CIMultiDict[str] = CIMultiDict()
            for name, value in message.get("headers", ()):
                rows.add(name.decode("latin-1"), value.decode("latin-1"))
            self.headers = CIMultiDictProxy(rows)
            self._begun.set_result(None)
        elif message["type"] == "http.response.body":
            await self._out.put(message.get("body", b""))
            if not message.get("more_body"):
                await self._out.put(None)


def _scope(method: str, url: str, headers: dict[str, str], data: Data | None) -> dict[str, Any]:
    parts = urlsplit(url)
    rows = [(b"host", parts.netloc.encode("latin-1"))]
    rows += [(k.encode("latin-1"), v.encode("latin-1")) for k, v in headers.items() if k != "host"]
    if isinstance(data, bytes) and "content-length" not in headers:
        rows.append((b"content-length", b"%d" % len(data)))
    path = parts.path or "/"
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method.upper(),
        "scheme": parts.scheme,
        "path": unquote(path),
        "raw_path": path.encode("latin-1"),
        "root_path": "",
        "query_string": parts.query.encode("latin-1"),
        "headers": rows,
        "client": ("127.0.0.1", 0),
        "server": (parts.hostname or "localhost", parts.port or 80),
        "state": {},
    }
