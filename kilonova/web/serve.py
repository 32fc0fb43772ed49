"""Serving several applications on several ports in one event loop, with a graceful end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

log = logging.getLogger(__name__)

_LARGEST_HEAD = 128 * 1024
_HEAD_SECONDS = 60.0
_BACKLOG = 1024


class Tls(msgspec.Struct, frozen=True):
    """Paths of PEM files; with ``ca`` clients must show a certificate signed by it."""

    cert: Path
    key: Path
    ca: Path | None = None


class Listener(msgspec.Struct, frozen=True):
    """One application at one address; port 0 lets the system choose."""

    name: str
    app: ASGIApp
    host: str = "127.0.0.1"
    port: int = 0
    tls: Tls | None = None


class ServeError(Exception):
    """An address that cannot be served; the text says which one, why, and what to do."""


class Servers:
    """All listeners of a process: ``async with Servers([...]) as servers``.

    Inside the block every port answers; ``urls`` says where. Leaving it stops accepting at once,
    lets requests under way finish within ``grace`` seconds, and cancels the rest. Signals are the
    caller's business.
    """

    def __init__(self, listeners: Sequence[Listener], *, grace: float = 30.0) -> None:
        self._listeners = tuple(listeners)
        self._grace = grace
        self._servers: list[_Server] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.urls: dict[str, str] = {}

    async def __aenter__(self) -> Servers:
        """Raises ServeError, with nothing left open, if a port or certificate cannot be used."""
        sockets: list[socket.socket] = []
        try:
            for listener in self._listeners:
                sockets.append(bind(listener.host, listener.port, name=listener.name))
            for listener, sock in zip(self._listeners, sockets, strict=True):
                self._servers.append(_Server(_config(listener, self._grace)))
                self.urls[listener.name] = _url(listener, sock)
        except BaseException:
            for sock in sockets:
                sock.close()
            raise
        for server, sock in zip(self._servers, sockets, strict=True):
            self._tasks.append(asyncio.create_task(server.serve([sock])))
        try:
            for server, task in zip(self._servers, self._tasks, strict=True):
                await _up(server, task)
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def wait(self) -> None:
        """Wait until a server ends by itself (which only an error makes it do)."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    async def stop(self) -> None:
        """Stop accepting, finish what is under way, close; harmless when repeated."""
        for server in self._servers:
            server.stop()
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                log.error("a server ended badly", exc_info=result)
        self._servers.clear()
        self._tasks.clear()


async def _up(server: _Server, task: asyncio.Task[None]) -> None:
    waiter = asyncio.create_task(server.up.wait())
    try:
        await asyncio.wait([waiter, task], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
            raise ServeError("A server ended while it was starting.")
    finally:
        waiter.cancel()


def bind(host: str, port: int, *, name: str = "") -> socket.socket:
    """A listening TCP socket (not yet accepting); ServeError says in one sentence why not."""
    what = f"Port {port} on {host}" + (f" ({name})" if name else "")
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror:
        raise ServeError(f"{host!r} is not an address of this machine{_for(name)}.") from None
    sock = socket.socket(family, kind, proto)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(_BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise ServeError(
                f"{what} is already in use: stop the program that listens there "
                f"(ss -ltnp 'sport = :{port}' names it) or choose another port."
            ) from None
        if error.errno in (errno.EACCES, errno.EPERM):
            raise ServeError(f"{what} needs root: choose a port from 1024 on.") from None
        if error.errno == errno.EADDRNOTAVAIL:
            text = f"{host} is not an address of this machine{_for(name)}: choose one of its own."
            raise ServeError(text) from None
        raise ServeError(f"{what} cannot be opened: {error.strerror}.") from error
    return sock


def _for(name: str) -> str:
    return f" (for {name})" if name else ""


def _url(listener: Listener, sock: socket.socket) -> str:
    host = listener.host
    if host in ("0.0.0.0", "::", ""):
        host = "127.0.0.1"
    if ":" in host:
        host = f"[{host}]"
    return f"{'https' if listener.tls else 'http'}://{host}:{sock.getsockname()[1]}"


def _config(listener: Listener, grace: float) -> uvicorn.Config:
    tls = listener.tls
    options: dict[str, Any] = {}
    if tls is not None:
        import ssl  # noqa: PLC0415

        options = {"ssl_certfile": str(tls.cert), "ssl_keyfile": str(tls.key)}
        if tls.ca is not None:
            options |= {"ssl_ca_certs": str(tls.ca), "ssl_cert_reqs": int(ssl.CERT_REQUIRED)}
    config = uvicorn.Config(
        listener.app,
        http=_Protocol,
        ws=_websocket,  # type: ignore[arg-type]
        loop="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=max(1, round(grace)),
        backlog=_BACKLOG,
        reset_contextvars=True,
        **options,
    )
    try:
        config.load()
    except OSError as error:
        raise ServeError(
            f"The TLS certificate or key of {listener.name} cannot be used: {error}."
        ) from error
    return config


def _websocket(**given: Any) -> asyncio.Protocol:
    """uvicorn's protocol for a connection that becomes a WebSocket; few ever do."""
    from uvicorn.protocols.websockets.auto import AutoWebSocketsProtocol  # noqa: PLC0415 (slow)

    if AutoWebSocketsProtocol is None:
        raise RuntimeError("no library for WebSockets is installed")
    return AutoWebSocketsProtocol(**given)


class _Server(uvicorn.Server):
    """uvicorn's server without signal handlers, asleep while nothing happens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()
        self._end = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield

    async def main_loop(self) -> None:
        """Refresh the Date header each second until told to end."""
        await self.on_tick(0)
        self.up.set()
        while not self.should_exit:
            await self.on_tick(0)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._end.wait()

    def stop(self) -> None:
        """Begin the graceful end."""
        self.should_exit = True
        self._end.set()


class _Protocol(HttpToolsProtocol):
    """uvicorn's protocol with bounds on the size and the time of a request's head."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head = 0
        self._complete = False
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client came: its first request's head must arrive in time."""
        super().connection_made(transport)
        self._timer = self.loop.call_later(_HEAD_SECONDS, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Refuse a head that grows beyond 128 KiB."""
        self._head += len(data)
        super().data_received(data)
        if self._complete:
            self._head = 0
        elif self._head > _LARGEST_HEAD and not self.transport.is_closing():
            self.send_400_response("The request's headers are too large.")

    def on_message_begin(self) -> None:
        """A request begins."""
        self._complete = False
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is there."""
        self._complete = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        super().on_headers_complete()

    def _too_slow(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()


def new_event_loop(kind: str = "asyncio") -> asyncio.AbstractEventLoop:
    """A loop for ``asyncio.Runner(loop_factory=…)``: ``asyncio``, ``uvloop``, or ``auto``.

    ``auto`` takes uvloop where it is installed. ValueError for other words.
    """
    if kind not in ("asyncio", "uvloop", "auto"):
        raise ValueError(f"the event loop must be asyncio, uvloop or auto, not {kind!r}")
    if kind != "asyncio":
        try:
            import uvloop  # noqa: PLC0415
        except ImportError:
            if kind == "uvloop":
                raise ServeError("uvloop is not installed: install kilonova[fast].") from None
        else:
            loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
            return loop
    return asyncio.new_event_loop()
