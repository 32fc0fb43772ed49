"""Where notifications go: what sends them, and the ways that need no broker."""

from __future__ import annotations

import collections
import logging
from collections.abc import Sequence
from typing import Protocol

import msgspec

from kilonova.messaging.bus import Bus

log = logging.getLogger(__name__)

KEPT = 10_000
LOGGER = "oslo.messaging.notification"


class Notice(msgspec.Struct, frozen=True):
    """A notification to send. ``text`` is the message without envelope, ``body`` with it."""

    topics: tuple[str, ...]
    event: str
    priority: str
    text: str
    body: bytes


class Sink(Protocol):
    """Something that takes notifications."""

    async def send(self, notices: Sequence[Notice]) -> int:
        """Send them in order; how many, from the first on, are safe now.

        Fewer than given when the broker did not take one. Never raises for an absent broker.
        """

    async def close(self) -> None:
        """Let go of connections."""


class MemorySink:
    """Driver ``test``: keeps the last ones in ``sent``, as (topic, body)."""

    def __init__(self) -> None:
        self.sent: collections.deque[tuple[str, bytes]] = collections.deque(maxlen=KEPT)

    async def send(self, notices: Sequence[Notice]) -> int:
        self.sent.extend(
            (f"{topic}.{notice.priority}", notice.body)
            for notice in notices
            for topic in notice.topics
        )
        return len(notices)

    async def close(self) -> None:
        """Nothing to let go of."""


class LogSink:
    """Driver ``log``: a line for each, by the logger ``oslo.messaging.notification.<event>``."""

    async def send(self, notices: Sequence[Notice]) -> int:
        for notice in notices:
            level = logging.getLevelNamesMapping().get(notice.priority.upper(), logging.INFO)
            logging.getLogger(f"{LOGGER}.{notice.event}").log(level, "%s", notice.text)
        return len(notices)

    async def close(self) -> None:
        """Nothing to let go of."""


class BusSink:
    """The bus of this process, which has no broker: published to whoever looks."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def send(self, notices: Sequence[Notice]) -> int:
        for notice in notices:
            for topic in notice.topics:
                await self._bus.publish(f"{topic}.{notice.priority}", notice.body)
        return len(notices)

    async def close(self) -> None:
        """The bus belongs to others."""
