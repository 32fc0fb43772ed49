"""Lists of a cloud of 100,000 servers in three cells: pages in detail, searched and sorted."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from benchmarks.figures import Figure
from kilonova.config.settings import Settings
from kilonova.web.testing import Client
from tests.support.cloud import PROJECT
from tests.support.crowd import CELLS, Crowd

SERVERS = int(os.environ.get("KILONOVA_BENCH_SERVERS", "100000"))
PAGE = 1000
TIMES = 5
VERSION = "2.104"
START = "start=2025-01-01T00:00:00"
ALL = "/servers/detail?all_tenants=1"
LOOKS = (
    ("everything, first page", f"{ALL}&limit={PAGE}"),
    ("ids and names only", f"/servers?all_tenants=1&limit={PAGE}"),
    ("one project of half of them", f"/servers/detail?limit={PAGE}"),
    ("by display_name", f"{ALL}&limit={PAGE}&sort_key=display_name&sort_dir=asc"),
    (
        "by vm_state, then display_name",
        f"{ALL}&limit={PAGE}&sort_key=vm_state&sort_dir=asc&sort_key=display_name&sort_dir=desc",
    ),
    ("name like web-0", f"{ALL}&limit={PAGE}&name=web-0"),
    ("name by regular expression", f"{ALL}&limit={PAGE}&name=^(db|web)-00[0-4]"),
    ("a name nobody has", f"{ALL}&limit={PAGE}&name=nobody"),
    ("status ERROR", f"{ALL}&limit={PAGE}&status=ERROR"),
    ("one address", f"{ALL}&limit={PAGE}&ip=^10\\.0\\.200\\.7$"),
    ("part of an address", f"{ALL}&limit={PAGE}&ip=10.1.2"),
    ("changed in the last day", f"{ALL}&limit={PAGE}&changes-since=2026-01-30T12:00:00Z"),
    ("changed in the last half year", f"{ALL}&limit={PAGE}&changes-since=2025-08-01T00:00:00Z"),
    ("two tags", f"{ALL}&limit={PAGE}&tags=blue,red"),
    ("neither tag", f"{ALL}&limit={PAGE}&not-tags-any=blue,red"),
    ("a host", f"{ALL}&limit={PAGE}&host=h1-7"),
    ("a flavor", f"{ALL}&limit={PAGE}&flavor=3"),
    ("an image", f"{ALL}&limit={PAGE}&image=00000000-0000-4000-8000-000000000002"),
    ("deleted ones", f"{ALL}&limit={PAGE}&deleted=true"),
    ("a zone", f"{ALL}&limit={PAGE}&availability_zone=az1"),
    ("a user", f"{ALL}&limit={PAGE}&user_id=user7"),
    ("a small project", f"{ALL}&limit={PAGE}&project_id={1:032x}"),
    ("limits", "/limits"),
    ("quota with usage", f"/os-quota-sets/{PROJECT}/detail"),
    ("usage of a project, a page", f"/os-simple-tenant-usage/{PROJECT}?limit={PAGE}&{START}"),
    ("usage of all, a page", f"/os-simple-tenant-usage?detailed=1&limit={PAGE}&{START}"),
)  # fmt: skip


async def measure() -> list[Figure]:
    """Fill the databases, then ask."""
    settings = Settings()
    with tempfile.TemporaryDirectory(prefix="kilonova-cells-") as folder:
        begun = time.perf_counter()
        crowd = Crowd(Path(folder), SERVERS, keep=False, settings=settings)
        filled = time.perf_counter() - begun
        try:
            client = Client(crowd.bare(), token="admin", version=VERSION)
            figures = [Figure(f"{SERVERS:,} servers written", filled, "s", how="bulk inserts")]
            for what, path in LOOKS:
                figures.append(await _look(client, what, path))
            figures += await _through(client)
            crowd.lose(2)
            path = f"{ALL}&limit={PAGE}"
            figures.append(await _look(client, "everything, one cell down", path))
        finally:
            crowd.close()
    return figures


async def _look(client: Client, what: str, path: str) -> Figure:
    cpu, wall, rows = [], [], 0
    for _ in range(TIMES + 1):
        spent, took, body = await _ask(client, f"/v2.1{path}")
        cpu.append(spent)
        wall.append(took)
        rows = len(next(iter(body.values())))
    return Figure(
        what,
        statistics.median(cpu[1:]) * 1000,
        "ms CPU",
        how=f"median of {TIMES}; {statistics.median(wall[1:]) * 1000:.0f} ms wall, the first "
        f"{wall[0] * 1000:.0f} ms; {rows} rows",
    )


async def _through(client: Client) -> list[Figure]:
    """Every page to the last, by links, each asked once."""
    figures = []
    for what, query in (("by created_at", ""), ("by display_name", "&sort_key=display_name")):
        path: str | None = f"/v2.1{ALL}&limit={PAGE}{query}"
        costs: list[float] = []
        seen = 0
        while path is not None:
            spent, _, body = await _ask(client, path)
            costs.append(spent)
            seen += len(body["servers"])
            links = body.get("servers_links")
            parts = urlsplit(links[0]["href"]) if links else None
            path = f"{parts.path}?{parts.query}" if parts else None
        figures += _pages(what, costs, seen)
    return figures


def _pages(what: str, costs: Sequence[float], seen: int) -> list[Figure]:
    tenth = max(1, len(costs) // 10)
    # The last page is not a full one.
    whole = costs[1:-1] or costs
    return [
        Figure(
            f"a page of all, {what}",
            statistics.median(whole) * 1000,
            "ms CPU",
            aim=f"≤ {25 * len(CELLS)}",
            how=f"median of {len(costs)} pages met once each, {seen} servers",
        ),
        Figure(
            "the last tenth of them",
            statistics.median(whole[-tenth:]) * 1000,
            "ms CPU",
            aim="as the first",
            how=f"the first tenth {statistics.median(whole[:tenth]) * 1000:.0f} ms",
        ),
    ]


async def _ask(client: Client, path: str) -> tuple[float, float, Any]:
    """Seconds of CPU of the process, seconds, and the answer."""
    cpu, begun = time.process_time(), time.perf_counter()
    answer = await client.get(path)
    spent, took = time.process_time() - cpu, time.perf_counter() - begun
    if answer.status != 200:
        raise RuntimeError(f"{path}: {answer.status} {answer.text[:300]}")
    return spent, took, msgspec.json.decode(answer.body)
