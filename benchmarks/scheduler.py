"""A decision of the scheduler: CPU over 1,000 and 10,000 hosts, with and without a large group."""

from __future__ import annotations

import datetime as dt
import gc
import resource
import statistics
import tempfile
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.figures import Figure
from kilonova.base.clock import SystemClock
from kilonova.clients import placement as client
from kilonova.config.scheduler import Scheduler as Options
from kilonova.db.cells import CELL0, Cell, Cells
from kilonova.db.database import Database, Tx
from kilonova.db.tables import api, cell
from kilonova.domain.guest import FlavorSpec, HostReport
from kilonova.domain.request import RequestSpec, ServerGroup
from kilonova.interfaces.placement import Candidates
from kilonova.scheduler.service import Scheduler
from kilonova.scheduler.warm import WarmHosts

CELL = "11111111-1111-1111-1111-111111111111"
FLAVOR = FlavorSpec(1, "1", "m1", vcpus=2, memory_mb=2048, root_gb=20)
SIZES = (1_000, 10_000)
SERVERS_PER_HOST = 5
MEMBERS = 1_000
LIMIT = 1_000
ROUNDS = 15
YESTERDAY = dt.timedelta(days=1)
CPU = {"arch": "x86_64", "features": [f"feature{n}" for n in range(80)], "model": "EPYC"}


def uuid_of(number: int) -> str:
    """The node's and provider's id."""
    return f"22222222-2222-2222-2222-{number:012d}"


async def measure() -> list[Figure]:
    """All figures of both sizes."""
    figures = []
    for count in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            figures += await _measure(Path(folder), count)
    return figures


async def _measure(folder: Path, count: int) -> list[Figure]:
    clock = SystemClock()
    shared = Database(f"sqlite:///{folder}/api.db")
    own = Database(f"sqlite:///{folder}/cell.db")
    shared.run_sync(api.metadata.create_all)
    own.run_sync(cell.metadata.create_all)
    own.run_sync(_fill, count, clock)
    cells = Cells([Cell(CELL0, "cell0", shared), Cell(CELL, "cell1", own)])
    gc.collect()
    before = _resident()
    warm = WarmHosts(shared, cells, clock, down_after=3600)
    begun = time.process_time()
    await warm.hosts([])
    loading = time.process_time() - begun
    size = f"{count:,} hosts"
    figures = []
    for limit in (LIMIT, count) if count > LIMIT else (LIMIT,):
        placement = Answers(min(count, limit))
        for group in (None, _group(count)):
            scheduler = Scheduler(
                placement, warm, clock, options=Options(max_placement_results=limit)
            )
            spent, reading = await _decide(scheduler, placement, group)
            what = f"decision, {size}, {min(count, limit):,} candidates"
            what += f", group of {MEMBERS:,}" if group else ""
            aim = "20 ms" if limit == LIMIT else ""
            how = f"median CPU of {ROUNDS}; of it Placement's answer read in {reading:.1f} ms"
            figures.append(Figure(what, spent, "ms", aim, how))
    await warm.hosts([uuid_of(n) for n in range(count)])
    gc.collect()
    held = (_resident() - before) / 1024
    how = f"resident memory with {count * SERVERS_PER_HOST:,} servers known"
    figures.append(Figure(f"host states, {size}", held, "MiB", how=how))
    how = "CPU of reading every node, service and server once"
    figures.append(Figure(f"start, {size}", loading, "s", how=how))
    shared.close()
    own.close()
    return figures


async def _decide(
    scheduler: Scheduler, placement: Answers, group: ServerGroup | None
) -> tuple[float, float]:
    """Median CPU (ms) of one decision, and of reading Placement's answer, which is part of it."""
    spent, reading = [], []
    for number in range(ROUNDS):
        request = RequestSpec((f"s{number}",), "p", "u", FLAVOR, group=group, dry_run=True)
        gc.collect()
        placement.spent = 0.0
        begun = time.process_time()
        chosen = await scheduler.select_destinations(request)
        spent.append((time.process_time() - begun) * 1000)
        reading.append(placement.spent * 1000)
        if not chosen.servers:
            raise RuntimeError(chosen.reason)
    return statistics.median(spent), statistics.median(reading)


def _group(count: int) -> ServerGroup:
    """Members on the first hosts, at most five on each."""
    counts = {f"h{n % min(count, 700)}": 0 for n in range(MEMBERS)}
    for n in range(MEMBERS):
        counts[f"h{n % min(count, 700)}"] += 1
    return ServerGroup("g", "anti-affinity", {"max_server_per_host": 2}, counts)


class Answers:
    """A Placement whose answer, as bytes, is read by the real client's code each time."""

    def __init__(self, candidates: int) -> None:
        stock = {"VCPU": (64, 10), "MEMORY_MB": (262144, 10240), "DISK_GB": (4000, 100)}
        asked = {"VCPU": 2, "MEMORY_MB": 2048, "DISK_GB": 20}
        uuids = [uuid_of(n) for n in range(candidates)]
        self._bytes = msgspec.json.encode(
            {
                "allocation_requests": [
                    {"allocations": {uuid: {"resources": asked}}, "mappings": {"": [uuid]}}
                    for uuid in uuids
                ],
                "provider_summaries": {
                    uuid: {
                        "resources": {
                            name: {"capacity": total, "used": used + n % 7}
                            for name, (total, used) in stock.items()
                        },
                        "traits": [f"COMPUTE_TRAIT_{n}" for n in range(60)],
                        "parent_provider_uuid": None,
                        "root_provider_uuid": uuid,
                    }
                    for n, uuid in enumerate(uuids)
                },
            }
        )
        self.spent = 0.0

    async def candidates(self, _query: Collection[tuple[str, str]]) -> Candidates:
        """All of them."""
        begun = time.process_time()
        found = client.read_candidates(self._bytes)
        self.spent += time.process_time() - begun
        return found

    def __getattr__(self, name: str) -> Any:
        """Nothing else is asked."""
        raise AttributeError(name)


def _fill(tx: Tx, count: int, clock: SystemClock) -> None:
    now = clock.now()
    tx.execute(
        cell.services.insert(),
        [
            {
                "uuid": uuid_of(n),
                "host": f"h{n}",
                "binary": "nova-compute",
                "topic": "compute",
                "last_seen_up": now,
                "created_at": now,
                "version": 70,
            }
            for n in range(count)
        ],
    )
    supported = (("x86_64", "kvm", "hvm"), ("i686", "kvm", "hvm"))
    traits = tuple(f"COMPUTE_TRAIT_{n}" for n in range(60))
    tx.execute(
        cell.compute_nodes.insert(),
        [
            {
                "uuid": uuid_of(n),
                "host": f"h{n}",
                "node": f"h{n}",
                "created_at": now - YESTERDAY,
                "updated_at": now - YESTERDAY,
                "report": HostReport(
                    f"h{n}",
                    "QEMU",
                    8_002_000,
                    64,
                    262144,
                    4000,
                    cpu_info=CPU,
                    supported=supported,
                    traits=traits,
                ),
            }
            for n in range(count)
        ],
    )
    for first in range(0, count, 1_000):
        some = range(first, first + 1_000)
        rows = [_server(n, k, now) for n in some for k in range(SERVERS_PER_HOST)]
        tx.execute(cell.instances.insert(), rows)


def _server(number: int, index: int, now: Any) -> dict[str, Any]:
    own = f"33333333-{index:04d}-4000-8000-{number:012d}"
    return {
        "uuid": own,
        "project_id": "p",
        "user_id": "u",
        "name": "s",
        "hostname": "s",
        "vm_state": "active",
        "host": f"h{number}",
        "node": f"h{number}",
        "flavor_id": "1",
        "metadata": {},
        "reservation_id": "r-1",
        "created_at": now,
        "updated_at": now - YESTERDAY,
        "server": b"{}",
        "system": {},
    }


def _resident() -> float:
    """KiB of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1024
