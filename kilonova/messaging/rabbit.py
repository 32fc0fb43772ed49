"""The bus over RabbitMQ: transient queues per topic, one reply queue per connection."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import urllib.parse
import uuid
from collections.abc import Mapping
from typing import Any, TypeVar

import aio_pika
import msgspec
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage

from kilonova.base import log as logs
from kilonova.base.aio import backoff
from kilonova.messaging.bus import (
    Envelope,
    Handler,
    NoReply,
    Undelivered,
    answer,
    argument_type,
    encode,
    pack,
    unwrap,
)

T = TypeVar("T")

log = logging.getLogger(__name__)

QUEUE_EXPIRES = 600_000  # ms a topic's queue outlives its last server
PREFETCH = 100
HEARTBEAT = 15  # s; a broker that is silent for two of these counts as gone
MOST_PAUSE = 5.0
CLOSE_SECONDS = 5.0


def amqp_urls(transport_url: str) -> list[str]:
    """AMQP URLs of an oslo transport URL (``rabbit://u:p@h1:5672,u:p@h2:5672/vhost``).

    ValueError when it is of another kind.
    """
    scheme, _, rest = transport_url.partition("://")
    if scheme not in ("rabbit", "amqp", "amqps", "kombu"):
        raise ValueError(
            f"transport_url speaks of {scheme!r}; rabbit://user:password@host:port/ is supported."
        )
    netloc, _, tail = rest.partition("/")
    vhost, _, query = tail.partition("?")
    options = dict(urllib.parse.parse_qsl(query))
    secure = scheme == "amqps" or options.get("ssl", "").lower() in ("1", "true", "yes")
    made = []
    for host in netloc.split(","):
        vpath = urllib.parse.quote(urllib.parse.unquote(vhost), safe="") or "%2F"
        made.append(f"{'amqps' if secure else 'amqp'}://{host}/{vpath}")
    return made


class RabbitBus:
    """A connection that comes back by itself and serves its topics again."""

    def __init__(self, transport_url: str) -> None:
        self._urls = itertools.cycle(amqp_urls(transport_url))
        self._connected = asyncio.Event()
        self._connection: AbstractConnection | None = None
        self._channel: AbstractChannel | None = None
        self._replies = ""
        self._waiting: dict[str, asyncio.Future[Envelope]] = {}
        self._servers: list[_Server] = []
        self._keeper: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    async def start(self, *, seconds: float = 30.0) -> None:
        """Connect; Unavailable (Undelivered) when no broker answers in time."""
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep(), name="rabbit")
        await self._ready(seconds)

    async def check(self) -> str | None:
        """For health checks: None while connected, else what is wrong."""
        return None if self._connected.is_set() else "the message broker is not reachable"

    async def call(
        self,
        topic: str,
        method: str,
        args: msgspec.Struct | None = None,
        *,
        reply: type[T],
        seconds: float = 60.0,
    ) -> T:
        loop = asyncio.get_running_loop()
        due = loop.time() + seconds
        channel = await self._ready(seconds)
        key = uuid.uuid4().hex
        future: asyncio.Future[Envelope] = loop.create_future()
        self._waiting[key] = future
        try:
            async with asyncio.timeout_at(due):
                await self._send(channel, topic, method, args, key, seconds, must_arrive=True)
                envelope = await future
        except TimeoutError:
            raise NoReply(f"{topic} did not answer {method} within {seconds:g} s.") from None
        finally:
            self._waiting.pop(key, None)
        return unwrap(envelope, reply)

    async def cast(self, topic: str, method: str, args: msgspec.Struct | None = None) -> None:
        try:
            channel = await self._ready(5.0)
            await self._send(channel, topic, method, args, "", 60.0, must_arrive=False)
        except Exception as error:
            # A lost nudge costs latency only: whoever should have heard it polls.
            log.warning("could not cast %s to %s: %s", method, topic, error)

    async def publish(self, topic: str, payload: bytes) -> None:
        channel = await self._ready(30.0)
        await channel.declare_queue(topic)
        message = aio_pika.Message(payload, content_type="application/json")
        await channel.default_exchange.publish(message, routing_key=topic)

    async def serve(self, topic: str, methods: Mapping[str, Handler]) -> _Server:
        channel = await self._ready(30.0)
        server = _Server(self, topic, methods)
        self._servers.append(server)
        await server.attach(channel)
        return server

    async def close(self) -> None:
        for server in list(self._servers):
            await server.close()
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        if self._connection is not None:
            await self._connection.close()

    def leave(self, server: _Server) -> None:
        """Forget a server that was closed."""
        if server in self._servers:
            self._servers.remove(server)

    def keep_task(self, task: asyncio.Task[Any]) -> None:
        """Hold a reference to a task until it ends."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def reply(self, message: AbstractIncomingMessage, envelope: Envelope) -> None:
        """Answer a call; an answer nobody waits for any more is dropped."""
        if not message.reply_to or self._channel is None:
            return
        out = aio_pika.Message(encode(envelope), correlation_id=message.correlation_id)
        with contextlib.suppress(Exception):
            await self._channel.default_exchange.publish(
                out, routing_key=message.reply_to, mandatory=False
            )

    async def _ready(self, seconds: float) -> AbstractChannel:
        try:
            async with asyncio.timeout(seconds):
                await self._connected.wait()
        except TimeoutError:
            raise Undelivered("The message broker is not reachable.") from None
        assert self._channel is not None
        return self._channel

    async def _send(
        self,
        channel: AbstractChannel,
        topic: str,
        method: str,
        args: msgspec.Struct | None,
        key: str,
        seconds: float,
        *,
        must_arrive: bool,
    ) -> None:
        body = encode(
            Envelope(
                method=method,
                args=pack(args),
                request_id=logs.request_id.get(),
                global_request_id=logs.global_request_id.get(),
            )
        )
        message = aio_pika.Message(
            body,
            correlation_id=key or None,
            reply_to=self._replies if key else None,
            expiration=seconds,
        )
        try:
            await channel.default_exchange.publish(
                message, routing_key=_queue(topic), mandatory=must_arrive
            )
        except aio_pika.exceptions.DeliveryError:
            raise Undelivered(f"Nobody serves {topic}.") from None
        except (aio_pika.exceptions.AMQPError, ConnectionError, RuntimeError) as error:
            raise Undelivered(f"The message broker went away: {error}") from error

    async def _keep(self) -> None:
        """Connect, serve until the connection is lost, and again."""
        pauses = backoff(0.2, most=MOST_PAUSE)
        while True:
            url = next(self._urls)
            try:
                gone = await self._connect(url)
                pauses = backoff(0.2, most=MOST_PAUSE)
                await gone.wait()
                log.warning("connection to the message broker was lost")
            except asyncio.CancelledError:
                raise
            except Exception as error:
                log.warning("message broker: %s", logs.mask(str(error)))
            await self._lost()
            await asyncio.sleep(next(pauses))

    async def _connect(self, url: str) -> asyncio.Event:
        """Connect and serve; what is given back is set when the connection or channel ends.

        ``closed()`` of the library does not tell of connections the other side ended.
        """
        gone = asyncio.Event()

        def ended(*_: object) -> None:
            gone.set()

        connection = await aio_pika.connect(f"{url}?heartbeat={HEARTBEAT}", timeout=10)
        self._connection = connection
        connection.close_callbacks.add(ended)
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        channel.close_callbacks.add(ended)
        await channel.set_qos(prefetch_count=PREFETCH)
        self._replies = f"nova.reply.{uuid.uuid4().hex}"
        queue = await channel.declare_queue(self._replies, exclusive=True, auto_delete=True)
        await queue.consume(self._on_reply, no_ack=True)
        self._channel = channel
        for server in self._servers:
            await server.attach(channel)
        self._connected.set()
        return gone

    async def _on_reply(self, message: AbstractIncomingMessage) -> None:
        future = self._waiting.get(message.correlation_id or "")
        if future is not None and not future.done():
            future.set_result(msgspec.msgpack.decode(message.body, type=Envelope))

    async def _lost(self) -> None:
        self._connected.clear()
        connection, self._connection, self._channel = self._connection, None, None
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(NoReply("The connection to the message broker was lost."))
        if connection is not None:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await connection.close()


class _Server:
    def __init__(self, bus: RabbitBus, topic: str, methods: Mapping[str, Handler]) -> None:
        self.topic = topic
        self._bus = bus
        self._methods = {name: (fn, argument_type(fn)) for name, fn in methods.items()}
        self._running: set[asyncio.Task[Any]] = set()
        self._queue: aio_pika.abc.AbstractQueue | None = None
        self._tag = ""

    async def attach(self, channel: AbstractChannel) -> None:
        self._queue = await channel.declare_queue(
            _queue(self.topic), durable=False, arguments={"x-expires": QUEUE_EXPIRES}
        )
        self._tag = await self._queue.consume(self._on_message)

    async def _on_message(self, message: AbstractIncomingMessage) -> None:
        # Acknowledged on arrival: what must not be lost is a row, not a message.
        await message.ack()
        task = asyncio.create_task(self._handle(message))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        self._bus.keep_task(task)

    async def _handle(self, message: AbstractIncomingMessage) -> None:
        try:
            request = msgspec.msgpack.decode(message.body, type=Envelope)
        except msgspec.MsgspecError:
            log.warning("dropped a message on %s that is none of ours", self.topic)
            return
        logs.request_id.set(request.request_id)
        logs.global_request_id.set(request.global_request_id)
        handler, kind = self._methods.get(request.method, (None, None))
        reply = await answer(handler, request.method, kind, request.args)
        if reply.error == "RemoteError":
            log.error("%s of %s failed: %s", request.method, self.topic, reply.message)
        await self._bus.reply(message, reply)

    async def close(self) -> None:
        self._bus.leave(self)
        if self._queue is not None:
            with contextlib.suppress(Exception):
                await self._queue.cancel(self._tag)
        running = {t for t in self._running if t is not asyncio.current_task()}
        if running:
            await asyncio.wait(running)


def _queue(topic: str) -> str:
    return f"nova.{topic}"
