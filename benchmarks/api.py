"""What the Compute API costs: CPU of one server, of a page of 1,000, and of accepting a server.

Run: ``python -m benchmarks.api [--servers 1000] [--rounds 7]``. Medians; CPU time of the whole
process (event loop and database threads), the API on SQLite files in a temporary directory.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from kilonova.db.database import Tx
from kilonova.domain.guest import PowerState
from kilonova.domain.states import VmState
from kilonova.store import mappings, servers
from tests.support.cloud import CELL1, PROJECT, Cloud, body
from tests.support.compute import NIC, NOW, request, server_id


def fill(cloud: Cloud, count: int) -> None:
    """That many ACTIVE servers with a card each."""
    rows = [
        request(number, project_id=PROJECT, user_id="fake", tags=("a",))
        for number in range(1, count + 1)
    ]

    def accepted(tx: Tx) -> None:
        servers.accept(tx, rows)
        for made, _ in rows:
            mappings.place(tx, made.server.id, CELL1)
            mappings.forget_request(tx, made.server.id)

    def placed(tx: Tx) -> None:
        for made, _ in rows:
            servers.move_to_cell(tx, made, host="h1", node="n1", zone="nova", now=NOW)
            servers.set_nics(tx, made.server.id, [NIC], now=NOW)
            servers.finish(tx, made.server.id, VmState.ACTIVE, power=PowerState.RUNNING, now=NOW)

    cloud.db.run_sync(accepted)
    cloud.cell1.db.run_sync(placed)


async def cost(
    ask: Callable[[], Awaitable[Any]], *, times: int, rounds: int
) -> tuple[float, float]:
    """Milliseconds of CPU and of wall time per call, medians over the rounds."""
    for _ in range(3):
        await ask()
    cpu, wall = [], []
    for _ in range(rounds):
        cpu_begun, begun = time.process_time(), time.perf_counter()
        for _ in range(times):
            await ask()
        cpu.append((time.process_time() - cpu_begun) / times * 1000)
        wall.append((time.perf_counter() - begun) / times * 1000)
    return statistics.median(cpu), statistics.median(wall)


async def main() -> None:
    """Print a line for each kind of request."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--servers", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory() as folder:
        cloud = Cloud(folder=Path(folder))
        fill(cloud, options.servers)
        one = f"/v2.1/servers/{server_id(1)}"
        for title, path, token, version, times in (
            ("GET /servers/{id} 2.1", one, "member", "2.1", 100),
            ("GET /servers/{id} 2.104", one, "member", "2.104", 100),
            ("GET /servers/{id} 2.104 admin", one, "admin", "2.104", 100),
            ("GET /servers", "/v2.1/servers", "member", "2.1", 3),
            ("GET /servers/detail 2.1", "/v2.1/servers/detail", "member", "2.1", 3),
            ("GET /servers/detail 2.104", "/v2.1/servers/detail", "member", "2.104", 3),
            ("GET /servers/detail 2.104 admin", "/v2.1/servers/detail", "admin", "2.104", 3),
        ):
            client = cloud.client(token, version)
            cpu, wall = await cost(
                lambda client=client, path=path: client.get(path),  # type: ignore[misc]
                times=times,
                rounds=options.rounds,
            )
            print(f"{title:34} {cpu:8.3f} ms CPU {wall:8.3f} ms")
        client = cloud.client("other")
        cpu, wall = await cost(
            lambda: client.post("/v2.1/servers", json=body(networks=[])),
            times=1,
            rounds=options.rounds,
        )
        print(f"{'POST /servers':34} {cpu:8.3f} ms CPU {wall:8.3f} ms")
        cloud.close()


if __name__ == "__main__":
    asyncio.run(main())
