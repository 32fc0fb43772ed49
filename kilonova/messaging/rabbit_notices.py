"""Notifications to RabbitMQ, as oslo.messaging publishes them, each confirmed by the broker.

A connection of its own: a broker that is full blocks whoever publishes, and calls to agents must
not wait for that.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Sequence

import aio_pika
from aio_pika.abc import AbstractConnection, AbstractExchange

from kilonova.base import log as logs
from kilonova.messaging.notices import Notice
from kilonova.messaging.rabbit import HEARTBEAT, amqp_urls

log = logging.getLogger(__name__)

CONNECT_SECONDS = 10.0
CONFIRM_SECONDS = 20.0
CLOSE_SECONDS = 3.0


class RabbitSink:
    """Publishes to the topic exchange ``exchange``; the queue ``<topic>.<priority>`` is made.

    ``enveloped`` False is the ``messaging`` driver. ``durable`` must be what listeners say.
    """

    def __init__(
        self, transport_url: str, *, exchange: str, durable: bool = False, enveloped: bool = True
    ) -> None:
        self._urls = itertools.cycle(amqp_urls(transport_url))
        self._name = exchange
        self._durable = durable
        self._enveloped = enveloped
        self._connection: AbstractConnection | None = None
        self._exchange: AbstractExchange | None = None
        self._bound: set[str] = set()

    async def send(self, notices: Sequence[Notice]) -> int:
        try:
            exchange = await self._ready(notices)
        except Exception as error:
            log.warning("notifications wait, no broker takes them: %s", logs.mask(_words(error)))
            await self.close()
            return 0
        results = await asyncio.gather(
            *(self._one(exchange, notice) for notice in notices), return_exceptions=True
        )
        for place, result in enumerate(results):
            if isinstance(result, BaseException):
                log.warning("notifications wait, the broker does not take them: %s", _words(result))
                await self.close()
                return place
        return len(notices)

    async def close(self) -> None:
        connection, self._connection, self._exchange = self._connection, None, None
        self._bound.clear()
        if connection is not None:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await connection.close()

    async def _ready(self, notices: Sequence[Notice]) -> AbstractExchange:
        async with asyncio.timeout(CONNECT_SECONDS):
            exchange = self._exchange
            if exchange is None:
                url = f"{next(self._urls)}?heartbeat={HEARTBEAT}"
                self._connection = await aio_pika.connect(url, timeout=CONNECT_SECONDS)
                channel = await self._connection.channel(publisher_confirms=True)
                exchange = self._exchange = await channel.declare_exchange(
                    self._name, aio_pika.ExchangeType.TOPIC, durable=self._durable
                )
            keys = {f"{topic}.{n.priority}" for n in notices for topic in n.topics}
            for key in sorted(keys - self._bound):
                channel = exchange.channel
                queue = await channel.declare_queue(key, durable=self._durable, auto_delete=False)
                await queue.bind(exchange, routing_key=key)
                self._bound.add(key)
            return exchange

    async def _one(self, exchange: AbstractExchange, notice: Notice) -> None:
        mode = aio_pika.DeliveryMode.PERSISTENT if self._durable else None
        for topic in notice.topics:
            message = aio_pika.Message(
                notice.body if self._enveloped else notice.text.encode(),
                content_type="application/json",
                content_encoding="utf-8",
                delivery_mode=mode,
            )
            async with asyncio.timeout(CONFIRM_SECONDS):
                await exchange.publish(
                    message, routing_key=f"{topic}.{notice.priority}", mandatory=False
                )


def _words(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    return str(error) or type(error).__name__
