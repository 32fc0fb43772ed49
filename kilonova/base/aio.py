"""Small helpers for asyncio: deadlines, back-off, bounded gathering, joining equal work."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Iterable, Iterator
from typing import Any, Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")
K = TypeVar("K", bound=Hashable)

log = logging.getLogger(__name__)


def backoff(first: float = 0.1, *, factor: float = 2.0, most: float = 30.0) -> Iterator[float]:
    """Seconds to wait before each further try: first, first·factor, … up to ``most``, for ever."""
    wait = first
    while True:
        yield wait
        wait = min(wait * factor, most)


async def gather_bounded(
    work: Callable[[T], Awaitable[R]], items: Iterable[T], *, limit: int = 16
) -> list[R]:
    """``work`` on every item, at most ``limit`` at once; results in the order of the items.

    The first failure cancels the rest and is raised (as itself, not as a group).
    """
    gate = asyncio.Semaphore(limit)

    async def one(item: T) -> R:
        async with gate:
            return await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(item)) for item in items]
    except BaseExceptionGroup as many:
        raise many.exceptions[0] from None
    return [task.result() for task in tasks]


class Joined(Generic[K, R]):
    """Equal work under way at the same time is done once and its result shared."""

    def __init__(self) -> None:
        self._running: dict[K, asyncio.Task[R]] = {}

    async def run(self, key: K, work: Callable[[], Coroutine[Any, Any, R]]) -> R:
        """The result of ``work``; a caller that goes away does not end it for the others."""
        task = self._running.get(key)
        if task is None:
            task = asyncio.create_task(work())
            self._running[key] = task
            task.add_done_callback(lambda _: self._running.pop(key, None))
        return await asyncio.shield(task)


class Signal:
    """A wake-up that is not lost when nobody waits yet; many sets make one wake-up."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        """Wake who waits, or whoever waits next."""
        self._event.set()

    async def wait(self, seconds: float | None = None) -> bool:
        """True when woken, False when ``seconds`` passed first; clears the signal."""
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True


async def forever(
    name: str,
    work: Callable[[], Awaitable[object]],
    *,
    every: float,
    after: float = 0.0,
    wake: Signal | None = None,
) -> None:
    """Run ``work`` ``after`` seconds from now, then each ``every`` seconds or when woken.

    A failure is logged, not fatal. After failures the pause grows up to ten times ``every``.
    """
    failures = 0
    signal = wake or Signal()
    if after:
        await signal.wait(after)
    while True:
        try:
            await work()
            failures = 0
        except Exception:
            failures += 1
            log.exception("%s failed (%d in a row)", name, failures)
        await signal.wait(every * min(1 + failures, 10))
