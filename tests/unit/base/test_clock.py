from __future__ import annotations

import asyncio

from kilonova.base.clock import VirtualClock, isoformat


async def test_sleepers_wake_in_order_at_their_own_time() -> None:
    clock = VirtualClock()
    seen: list[tuple[str, float]] = []

    async def sleeper(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        seen.append((name, clock.monotonic()))

    async with asyncio.TaskGroup() as group:
        group.create_task(sleeper("late", 5))
        group.create_task(sleeper("early", 2))
        await asyncio.sleep(0)
        await clock.advance(10)
    assert seen == [("early", 2.0), ("late", 5.0)]
    assert isoformat(clock.now()) == "2026-01-01T00:00:10Z"
