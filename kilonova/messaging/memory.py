"""The bus inside one process: same envelopes, no broker."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from kilonova.base import log as logs
from kilonova.messaging.bus import (
    Envelope,
    Handler,
    NoReply,
    Undelivered,
    answer,
    argument_type,
    pack,
    unwrap,
)

T = TypeVar("T")

log = logging.getLogger(__name__)


class MemoryBus:
    """Topics as lists of servers; several servers of a topic take turns."""

    def __init__(self) -> None:
        self._servers: dict[str, list[_Server]] = defaultdict(list)
        self._turn = itertools.count()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.published: list[tuple[str, bytes]] = []
        self.keep_published = 1000

    async def call(
        self,
        topic: str,
        method: str,
        args: msgspec.Struct | None = None,
        *,
        reply: type[T],
        seconds: float = 60.0,
    ) -> T:
        server = self._pick(topic)
        if server is None:
            raise Undelivered(f"Nobody serves {topic}.")
        task = self._start(server.handle(_request(method, args)))
        try:
            async with asyncio.timeout(seconds):
                return unwrap(await asyncio.shield(task), reply)
        except TimeoutError:
            raise NoReply(f"{topic} did not answer {method} within {seconds:g} s.") from None

    async def cast(self, topic: str, method: str, args: msgspec.Struct | None = None) -> None:
        server = self._pick(topic)
        if server is not None:
            self._start(server.handle(_request(method, args)))

    async def publish(self, topic: str, payload: bytes) -> None:
        self.published.append((topic, payload))
        del self.published[: -self.keep_published]

    async def serve(self, topic: str, methods: Mapping[str, Handler]) -> _Server:
        server = _Server(self, topic, methods)
        self._servers[topic].append(server)
        return server

    async def close(self) -> None:
        self._servers.clear()
        while self._tasks:
            await asyncio.wait(self._tasks)

    def leave(self, server: _Server) -> None:
        """Take a server off its topic."""
        if server in self._servers[server.topic]:
            self._servers[server.topic].remove(server)

    def _pick(self, topic: str) -> _Server | None:
        servers = self._servers.get(topic)
        return servers[next(self._turn) % len(servers)] if servers else None

    def _start(self, work: Any) -> asyncio.Task[Envelope]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


class _Server:
    def __init__(self, bus: MemoryBus, topic: str, methods: Mapping[str, Handler]) -> None:
        self.topic = topic
        self._bus = bus
        self._methods = {name: (fn, argument_type(fn)) for name, fn in methods.items()}
        self._running: set[asyncio.Task[Any]] = set()

    async def handle(self, request: Envelope) -> Envelope:
        task = asyncio.current_task()
        if task is not None:
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        logs.request_id.set(request.request_id)
        logs.global_request_id.set(request.global_request_id)
        handler, kind = self._methods.get(request.method, (None, None))
        reply = await answer(handler, request.method, kind, request.args)
        if reply.error == "RemoteError":
            log.error("%s of %s failed: %s", request.method, self.topic, reply.message)
        return reply

    async def close(self) -> None:
        self._bus.leave(self)
        running = {t for t in self._running if t is not asyncio.current_task()}
        if running:
            await asyncio.wait(running)


def _request(method: str, args: msgspec.Struct | None) -> Envelope:
    return Envelope(
        method=method,
        args=pack(args),
        request_id=logs.request_id.get(),
        global_request_id=logs.global_request_id.get(),
    )
