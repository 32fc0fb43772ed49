"""What every daemon does: start its parts, serve, obey signals, end in time, say why it cannot."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp

from kilonova import __version__
from kilonova.base.clock import SystemClock
from kilonova.base.errors import Fault
from kilonova.base.ids import RandomIds
from kilonova.config.settings import Settings, mutated
from kilonova.policy.rule import PolicyError
from kilonova.services.startup import (
    Asked,
    Unconfigured,
    fail,
    log_to,
    read_settings,
    steady,
    text_of,
)
from kilonova.web.client import HttpClient
from kilonova.web.health import Check, Metrics, standalone
from kilonova.web.serve import Listener, ServeError, Servers, Tls, new_event_loop

log = logging.getLogger(__name__)

SAID = (Unconfigured, ServeError, PolicyError, Fault)
"""Errors whose text is meant for the person who starts the daemon."""

REST_SECONDS = 5.0


class Daemon:
    """The parts of one process while it runs; a compose function fills it.

    ``stack`` is closed when the daemon ends, last entered first. ``checks`` are those of
    ``/healthcheck``, ``metrics`` those of ``/metrics`` where no API is served. ``near`` is where
    relative file names of the configuration start.
    """

    def __init__(self, name: str, asked: Asked, settings: Settings) -> None:
        self.name = name
        self.asked = asked
        self.settings = settings
        self.clock = SystemClock()
        self.ids = RandomIds()
        self.http = HttpClient(verify=_verify(settings))
        self.stack = contextlib.AsyncExitStack()
        self.checks: dict[str, Check] = {}
        self.metrics = Metrics()
        self.near = tuple(file.absolute().parent for file in asked.files)
        self.listeners: list[Listener] = []
        self.tasks: list[asyncio.Task[None]] = []
        self._hooks: list[Callable[[Settings], Awaitable[None]]] = []

    def serve(self, name: str, app: ASGIApp, host: str, port: int, *, tls: bool = False) -> None:
        """Serve an application.

        The command line's address goes over the configured one, its port over that of the first
        application.
        """
        if self.asked.host is not None:
            host = self.asked.host
        if self.asked.port is not None and not self.listeners:
            port = self.asked.port
        files = _tls(self.settings) if tls else None
        self.listeners.append(Listener(name, app, host, port, files))

    def run(self, work: Coroutine[Any, Any, None], *, name: str) -> None:
        """Run for as long as the daemon does; its end or failure ends the daemon."""
        self.tasks.append(asyncio.create_task(work, name=name))

    def on_reload(self, hook: Callable[[Settings], Awaitable[None]]) -> None:
        """Call ``hook`` with the new settings on SIGHUP."""
        self._hooks.append(hook)

    async def reload(self) -> None:
        """Read the configuration again; only mutable options are taken."""
        from oslo_config import cfg  # noqa: PLC0415 (read_settings has imported it)

        try:
            read = await asyncio.to_thread(read_settings, self.asked)
        except cfg.Error as error:
            log.error("The configuration was not taken: %s", error)
            return
        self.settings, ignored = mutated(self.settings, read)
        if ignored:
            log.warning("A restart is needed for changed options: %s", ", ".join(ignored))
        logging.getLogger().setLevel(logging.DEBUG if self.settings.default.debug else logging.INFO)
        for hook in self._hooks:
            try:
                await hook(self.settings)
            except SAID as error:
                log.error("The configuration was read again, but: %s", text_of(error))
        log.info("The configuration was read again")


Compose = Callable[[Daemon], Awaitable[None]]


def main(name: str, asked: Asked, compose: Compose) -> int:
    """Run a daemon until SIGTERM or SIGINT; its exit code (1 with one sentence if it cannot)."""
    from oslo_config import cfg  # noqa: PLC0415 (a cloud of one process gets by without)

    try:
        settings = read_settings(asked)
        log_to(settings, name)
        loop = settings.kilonova.event_loop
        with asyncio.Runner(loop_factory=lambda: new_event_loop(loop)) as runner:
            return runner.run(_live(Daemon(name, asked, settings), compose))
    except (cfg.Error, *SAID) as error:
        return fail(name, text_of(error))
    except OSError as error:
        return fail(name, f"{error.strerror or error}: {error.filename or ''}".rstrip(": ") + ".")


async def _live(daemon: Daemon, compose: Compose) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    reloads: set[asyncio.Task[None]] = set()

    def stopping() -> None:
        if stop.is_set():
            log.warning("Told to end once more: leaving work under way behind")
            os._exit(1)
        stop.set()

    def reloading() -> None:
        task = asyncio.create_task(daemon.reload())
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping)
    loop.add_signal_handler(signal.SIGHUP, reloading)
    ended = asyncio.create_task(_wait(stop))
    try:
        daemon.stack.push_async_callback(daemon.http.close)
        starting = asyncio.create_task(_start(daemon, compose))
        await asyncio.wait({starting, ended}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.wait({starting})
            return 0
        starting.result()
        _notify("READY=1")
        done, _ = await asyncio.wait({ended, *daemon.tasks}, return_when=asyncio.FIRST_COMPLETED)
        _notify("STOPPING=1")
        return _why(daemon, done - {ended})
    finally:
        ended.cancel()
        await _end(daemon)


async def _wait(stop: asyncio.Event) -> None:
    await stop.wait()


async def _start(daemon: Daemon, compose: Compose) -> None:
    log.info("%s %s starts", daemon.name, __version__)
    await compose(daemon)
    options = daemon.settings.kilonova
    if not daemon.listeners and options.health_port:
        health = standalone(daemon.checks, daemon.metrics)
        daemon.listeners.append(
            Listener("health", health, options.health_listen, options.health_port)
        )
    grace = float(daemon.settings.default.graceful_shutdown_timeout)
    if daemon.listeners:
        servers = await daemon.stack.enter_async_context(Servers(daemon.listeners, grace=grace))
        for name, url in servers.urls.items():
            log.info("%s is served at %s", name, url)
        daemon.run(servers.wait(), name="servers")
    steady()
    log.info("%s is ready", daemon.name)


async def _end(daemon: Daemon) -> None:
    """Close everything, the listeners first, within the grace time and a little more."""
    grace = daemon.settings.default.graceful_shutdown_timeout + REST_SECONDS
    try:
        async with asyncio.timeout(grace):
            await daemon.stack.aclose()
    except TimeoutError:
        log.warning("%s did not end within %g s and leaves work behind", daemon.name, grace)
    for task in daemon.tasks:
        task.cancel()
    if daemon.tasks:
        await asyncio.wait(daemon.tasks)
    log.info("%s has ended", daemon.name)


def _why(daemon: Daemon, done: set[asyncio.Task[None]]) -> int:
    """0 for a wanted end; 1 when a part of the daemon ended by itself."""
    for task in done:
        error = task.exception()
        log.critical("%s ended by itself", task.get_name(), exc_info=error)
        return fail(daemon.name, f"{task.get_name()} ended by itself ({error}).")
    return 0


def _verify(settings: Settings) -> bool | str:
    section = settings.keystone_authtoken
    return False if section.insecure else section.cafile or True


def _tls(settings: Settings) -> Tls:
    section = settings.wsgi
    if not section.ssl_cert_file or not section.ssl_key_file:
        raise Unconfigured(
            "TLS is asked for: set [wsgi] ssl_cert_file and [wsgi] ssl_key_file, too."
        )
    ca = Path(section.ssl_ca_file) if section.ssl_ca_file else None
    return Tls(Path(section.ssl_cert_file), Path(section.ssl_key_file), ca)


def _notify(state: str) -> None:
    """Tell systemd (sd_notify(3)); nothing happens under anything else."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    target = "\0" + address[1:] if address.startswith("@") else address
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock,
    ):
        sock.sendto(state.encode(), target)
