"""Time as something given: a real clock and one that tests and simulations turn by hand."""

from __future__ import annotations

import asyncio
import datetime as dt
import heapq
import itertools
import time
from typing import Protocol

UTC = dt.UTC


class Clock(Protocol):
    """What tells the time and waits."""

    def now(self) -> dt.datetime:
        """The time in UTC, aware, with microseconds."""

    def monotonic(self) -> float:
        """Seconds that never run backwards."""

    async def sleep(self, seconds: float) -> None:
        """Wait that many seconds."""


class SystemClock:
    """The clock of the machine."""

    def now(self) -> dt.datetime:
        return dt.datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class VirtualClock:
    """A clock that moves only when ``advance`` is called; sleepers wake in order."""

    def __init__(self, start: dt.datetime | None = None) -> None:
        self._now = start or dt.datetime(2026, 1, 1, tzinfo=UTC)
        self._mono = 0.0
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> dt.datetime:
        return self._now

    def monotonic(self) -> float:
        return self._mono

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._mono + seconds, next(self._order), future))
        await future

    async def advance(self, seconds: float) -> None:
        """Move on by ``seconds``, letting each sleeper run at its own moment."""
        end = self._mono + seconds
        while self._sleepers and self._sleepers[0][0] <= end:
            due, _, future = heapq.heappop(self._sleepers)
            self._move(due)
            if not future.done():
                future.set_result(None)
            for _ in range(10):
                await asyncio.sleep(0)
        self._move(end)

    def _move(self, to: float) -> None:
        self._now += dt.timedelta(seconds=max(0.0, to - self._mono))
        self._mono = max(self._mono, to)


def isoformat(when: dt.datetime) -> str:
    """``2026-01-31T12:00:00Z``: the form most OpenStack views use (seconds, UTC)."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def isoformat_micro(when: dt.datetime) -> str:
    """``2026-01-31T12:00:00.000000``: the form of event and usage times (no zone letter)."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")
