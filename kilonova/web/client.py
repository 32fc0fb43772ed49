"""The HTTP client: aiohttp on the network, a direct call for applications in this process."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import msgspec
from multidict import CIMultiDictProxy
from starlette.types import ASGIApp

from kilonova.base import log as context
from kilonova.base.errors import BadGateway, Timeout, Unavailable
from kilonova.web.loopback import Data, converse, exchange

if TYPE_CHECKING:  # slow to import; a cloud in one process may never use the network
    import aiohttp

Params = Mapping[str, Any] | list[tuple[str, str]]

_PLAIN = re.compile(r"[A-Za-z0-9_.~-]*").fullmatch
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
        full, sent, data, app = self._prepare(url, json, data, headers, params)
        try:
            async with asyncio.timeout(timeout):
                if app is not None and not isinstance(data, AsyncIterator):
                    return Answer(*await exchange(app, method, full, sent, data or b""))
                async with self.stream(
                    method, full, data=data, headers=sent, timeout=None
                ) as answer:
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
        full, sent, data, app = self._prepare(url, json, data, headers, params)
        if app is not None:
            async with converse(app, method, full, sent, data) as pipe:
                yield Stream(pipe.status, pipe.headers, pipe.read())
            return
        async with self._network(method, full, sent, data, timeout) as answer:
            yield answer

    def _prepare(
        self,
        url: str,
        json: Any,
        data: Data | None,
        headers: Mapping[str, str] | None,
        params: Params | None,
    ) -> tuple[str, dict[str, str], Data | None, ASGIApp | None]:
        """The full URL, all headers, the body, and the application if it is in this process."""
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
        return full, sent, data, app

    @contextlib.asynccontextmanager
    async def _network(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        data: Data | None,
        timeout: float | None,
    ) -> AsyncIterator[Stream]:
        import aiohttp  # noqa: PLC0415

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
            import aiohttp  # noqa: PLC0415

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
    import aiohttp  # noqa: PLC0415

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
    query = _encoded([(key, value) for key, value in rows if value is not None])
    return f"{url}{'&' if '?' in url else '?'}{query}" if query else url


def _encoded(rows: list[tuple[str, Any]]) -> str:
    """The query of these parameters; a list gives one for each of its members."""
    pairs = []
    for key, value in rows:
        for one in value if isinstance(value, (list, tuple)) else (value,):
            text = str(one)
            pairs.append(f"{key}={text}" if _PLAIN(text) else urlencode([(key, text)]))
    return "&".join(pairs)
