"""CPU of reading servers over real HTTP: a page of 1,000 in detail, and one."""

from __future__ import annotations

import asyncio
import time

from benchmarks.cloud import Cloud, median, running
from benchmarks.figures import Figure
from benchmarks.servers import HOSTS, NO_QUOTA

SERVERS = 1000
PAGES = 30
SHOWS = 500
ROUNDS = 5
CONFIG = f"{NO_QUOTA}[api]\nmax_limit = {SERVERS}\n"


async def measure() -> list[Figure]:
    """Make 1,000 servers, let the cloud come to rest, read them."""
    async with running(hosts=HOSTS, config=CONFIG) as cloud:
        body = await cloud.server_body("bench", networks="none")
        await _fill(cloud, body)
        found = await cloud.ask("GET", "compute", f"/servers?limit={SERVERS}")
        server = found["servers"][0]["id"]
        if len(found["servers"]) != SERVERS:
            raise RuntimeError(f"{len(found['servers'])} servers instead of {SERVERS}")
        await asyncio.sleep(5)
        page, page_wall = await _cost(cloud, f"/servers/detail?limit={SERVERS}", PAGES)
        one, one_wall = await _cost(cloud, f"/servers/{server}", SHOWS)
    how = "CPU of the whole process, over HTTP on the loopback address, microversion 2.96"
    return [
        Figure(
            "GET /servers/detail of 1,000",
            page * 1000,
            "ms CPU",
            aim="≤ 15",
            how=f"{how}; median of {ROUNDS} × {PAGES} requests; {page_wall * 1000:.0f} ms wall",
        ),
        Figure(
            "GET /servers/{id}",
            one * 1000,
            "ms CPU",
            aim="≤ 1",
            how=f"{how}; median of {ROUNDS} × {SHOWS} requests; {one_wall * 1000:.1f} ms wall",
        ),
    ]


async def _fill(cloud: Cloud, body: dict[str, dict[str, object]]) -> None:
    many = {"server": {**body["server"], "min_count": 50, "max_count": 50}}
    for _ in range(SERVERS // 50):
        await cloud.ask("POST", "compute", "/servers", body=many)
    end = time.monotonic() + 600
    while True:
        path = "/servers?status=BUILD&limit=1"
        if not (await cloud.ask("GET", "compute", path))["servers"]:
            return
        if time.monotonic() > end:
            raise RuntimeError("the servers were not made in time")
        await asyncio.sleep(1)


async def _cost(cloud: Cloud, path: str, times: int) -> tuple[float, float]:
    """Seconds of the cloud's CPU and of wall time per request."""
    await cloud.ask("GET", "compute", path)
    cpu, wall = [], []
    for _ in range(ROUNDS):
        begun, started = cloud.cpu(), time.perf_counter()
        for _ in range(times):
            await cloud.ask("GET", "compute", path)
        cpu.append((cloud.cpu() - begun) / times)
        wall.append((time.perf_counter() - started) / times)
    return median(cpu), median(wall)
