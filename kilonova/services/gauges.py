"""Figures for ``/metrics`` that are counted every few seconds; those of guests."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from prometheus_client import Gauge

from kilonova.base.clock import Clock
from kilonova.base.errors import Fault
from kilonova.web.health import Metrics

log = logging.getLogger(__name__)

LEAST_SECONDS = 5.0
SHARE = 20.0
"""Counting takes at most one part in this many of the time."""

Guests = Callable[[], Awaitable[Mapping[str, int]]]


class Rarely:
    """Work that many ask for and that is done once in a while, the rarer the longer it takes."""

    def __init__(self, work: Callable[[], Awaitable[None]], clock: Clock) -> None:
        self._work = work
        self._clock = clock
        self._next = clock.monotonic()
        self._lock = asyncio.Lock()

    async def __call__(self) -> None:
        """Do it unless it was done not long ago; what is being done is waited for."""
        async with self._lock:
            began = self._clock.monotonic()
            if began < self._next:
                return
            try:
                await self._work()
            except Fault as fault:
                log.warning("figures could not be counted: %s", fault.message)
            now = self._clock.monotonic()
            self._next = now + max(LEAST_SECONDS, SHARE * (now - began))


class GuestFigures:
    """A gauge of the guests on the hosts of this process, by power state."""

    def __init__(self, metrics: Metrics, guests: Guests, clock: Clock) -> None:
        self._guests = guests
        self._gauge = Gauge(
            "kilonova_guests",
            "Guests of this process's hosts",
            ("power",),
            registry=metrics.registry,
        )
        metrics.before.append(Rarely(self.count, clock))

    async def count(self) -> None:
        """Count now."""
        fill(self._gauge, await self._guests())


def fill(gauge: Gauge, values: Mapping[str, float]) -> None:
    """Let a gauge with one label show these values and no others."""
    gauge.clear()
    for label, value in values.items():
        gauge.labels(label).set(value)
