"""How fast servers are made on simulated hosts: POST /servers until ACTIVE."""

from __future__ import annotations

import asyncio
import time

from benchmarks.cloud import Cloud, median, running
from benchmarks.figures import Figure

ONE_AFTER_ANOTHER = 20
MANY = 50
AT_ONCE = 10
BURSTS = 3
POLL_ONE = 0.004
POLL_MANY = 0.02
"""At 100 ms a burst of a second mostly waits to be seen: ten places, freed in five waves."""
PATIENCE = 120.0
HOSTS = 10
NO_QUOTA = "[quota]\ninstances = -1\ncores = -1\nram = -1\n"


async def measure() -> list[Figure]:
    """One server at a time, and many at once, each on an automatic network."""
    async with running(hosts=HOSTS, config=NO_QUOTA) as cloud:
        body = await cloud.server_body("bench")
        warm = [await _build(cloud, body, POLL_ONE) for _ in range(3)]
        await cloud.delete(server for server, _ in warm)
        begun = cloud.cpu()
        ones = [await _build(cloud, body, POLL_ONE) for _ in range(ONE_AFTER_ANOTHER)]
        cpu_one = (cloud.cpu() - begun) / ONE_AFTER_ANOTHER
        await cloud.delete(server for server, _ in ones)
        rates, cpus = [], []
        for _ in range(BURSTS):
            begun, started = cloud.cpu(), time.perf_counter()
            made = await _burst(cloud, body)
            rates.append(MANY / (time.perf_counter() - started))
            cpus.append((cloud.cpu() - begun) / MANY)
            await cloud.delete(made)
    return [
        Figure(
            "one server: POST to ACTIVE",
            median(seconds for _, seconds in ones) * 1000,
            "ms",
            aim="≤ 60",
            how=f"median of {ONE_AFTER_ANOTHER} one after another, fake driver, asked each "
            f"{POLL_ONE * 1000:.0f} ms; {cpu_one * 1000:.0f} ms CPU each",
        ),
        Figure(
            f"{MANY} servers, {AT_ONCE} at once",
            median(rates),
            "/s",
            aim="≥ 50",
            how=f"median of {BURSTS} bursts, fake driver, a list of the ACTIVE ones each "
            f"{POLL_MANY * 1000:.0f} ms; {median(cpus) * 1000:.0f} ms CPU a server",
        ),
    ]


async def _build(cloud: Cloud, body: object, every: float) -> tuple[str, float]:
    started = time.perf_counter()
    server = (await cloud.ask("POST", "compute", "/servers", body=body))["server"]["id"]
    await cloud.active(server, every=every)
    return server, time.perf_counter() - started


async def _burst(cloud: Cloud, body: object) -> list[str]:
    """Make many; one list tells of all of them, so that asking costs the cloud next to nothing."""
    gate = asyncio.Semaphore(AT_ONCE)
    waiting: dict[str, asyncio.Event] = {}

    async def one() -> str:
        async with gate:
            made = await cloud.ask("POST", "compute", "/servers", body=body)
            server: str = made["server"]["id"]
            there = waiting[server] = asyncio.Event()
            async with asyncio.timeout(PATIENCE):
                await there.wait()
            return server

    async def watch() -> None:
        while True:
            await asyncio.sleep(POLL_MANY)
            seen = await cloud.ask("GET", "compute", "/servers?status=ACTIVE")
            for server in seen["servers"]:
                if (there := waiting.get(server["id"])) is not None:
                    there.set()

    watching = asyncio.create_task(watch())
    try:
        return list(await asyncio.gather(*(one() for _ in range(MANY))))
    finally:
        watching.cancel()
