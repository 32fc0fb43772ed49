"""A cloud that has nothing to do: its memory, its CPU, and how fast it starts again."""

from __future__ import annotations

import asyncio
import time

from benchmarks.cloud import command, median, running
from benchmarks.figures import Figure

REST = 5.0
WATCH = 30.0
STARTS = 5


async def measure() -> list[Figure]:
    """Wait until the start is over, then look; then stop it and start it again."""
    async with running(hosts=1) as cloud:
        await asyncio.sleep(REST)
        begun = cloud.cpu()
        await asyncio.sleep(WATCH)
        busy = (cloud.cpu() - begun) / WATCH
        memory = cloud.memory()
        starts = []
        for _ in range(STARTS):
            await asyncio.to_thread(command, "down", cloud.state_dir)
            started = time.perf_counter()
            await asyncio.to_thread(command, "up", cloud.state_dir, *cloud.options)
            starts.append(time.perf_counter() - started)
    how = f"one simulated host, {REST:.0f} s after the start"
    return [
        Figure("idle memory, RSS", memory["Rss"], "MiB", how=how),
        Figure("idle memory, PSS", memory["Pss"], "MiB", how=how),
        Figure("idle CPU", busy * 100, "%", how=f"of one core, over {WATCH:.0f} s"),
        Figure(
            "second start",
            median(starts),
            "s",
            aim="< 1.5",
            how=f"median of {STARTS} of `up --detach` until every endpoint answers",
        ),
    ]
