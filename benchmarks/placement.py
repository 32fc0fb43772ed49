"""Placement at 1,000, 10,000 and 100,000 providers: candidates, claims, memory, growth.

Run alone for other sizes: ``python -m benchmarks.placement 1000 50000``. Requests go through the
whole application (not through a socket), over an SQLite file; CPU is that of this process.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from rich.console import Console
from starlette.types import ASGIApp

from benchmarks.figures import Figure, show
from kilonova.base.clock import SystemClock
from kilonova.base.ids import RandomIds
from kilonova.db.database import Database, Tx
from kilonova.placement.policies import Enforcer
from kilonova.placement.service import application, prepare
from kilonova.placement.store import tables as t

SIZES = (1_000, 10_000, 100_000)
NESTED = 5
"""Every so many hosts one has network cards."""
CARDS = 4
CLAIMS = 600
ROUNDS = 15
_TRAITS = (
    "COMPUTE_NODE", "COMPUTE_TRUSTED_CERTS", "COMPUTE_ACCELERATORS", "COMPUTE_RESCUE_BFV",
    "COMPUTE_VOLUME_EXTEND", "COMPUTE_NET_ATTACH_INTERFACE", "COMPUTE_IMAGE_TYPE_QCOW2",
    "COMPUTE_IMAGE_TYPE_RAW", "HW_CPU_X86_SSE42", "HW_CPU_X86_AVX", "HW_CPU_X86_AVX2",
)  # fmt: skip
_RARE = "HW_CPU_X86_AVX512F"
_CARD_CLASS = "CUSTOM_CARD"
_BASE = "resources=VCPU:4,MEMORY_MB:8192,DISK_GB:40"
_GROUPS = f"{_BASE}&resources1={_CARD_CLASS}:1&resources2={_CARD_CLASS}:1&group_policy=isolate"
_AMOUNTS = {"VCPU": (64, 4.0), "MEMORY_MB": (262_144, 1.0), "DISK_GB": (4_000, 1.0)}
_LITTLE = 196_608 - 8_192 + 1
"""MEMORY_MB that every host has free, but not beside the usual request."""
_FULL = {"VCPU": 256, "MEMORY_MB": 65_536, "DISK_GB": 1_000}
_SOME = {"VCPU": 32, "MEMORY_MB": 65_536, "DISK_GB": 1_000}


def _uuid(kind: int, number: int) -> str:
    text = f"{kind:08x}{number:024x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def fill(tx: Tx, size: int) -> None:
    """Make ``size`` providers: hosts in racks and zones, a third of them full, every fifth with
    network cards below it, a tenth with a rare trait."""
    now = SystemClock().now().replace(tzinfo=None)
    tx.execute(sa.insert(t.classes), [{"name": _CARD_CLASS, "updated_at": now}])
    rows: dict[sa.Table, list[dict[str, Any]]] = {
        table: []
        for table in (
            t.providers, t.inventories, t.provider_traits, t.provider_aggregates, t.consumers,
            t.allocations,
        )
    }  # fmt: skip
    ids = itertools.count(1)
    host = 0
    while (id_ := next(ids)) <= size:
        host += 1
        _provider(rows, id_, None, id_, now)
        for name, (total, ratio) in _AMOUNTS.items():
            _inventory(rows, id_, name, total, ratio, now)
        traits = (*_TRAITS, _RARE) if host % 10 == 0 else _TRAITS
        rows[t.provider_traits] += [{"provider_id": id_, "trait": name} for name in traits]
        places = (_uuid(1, host % 3), _uuid(2, host // 40))
        rows[t.provider_aggregates] += [{"provider_id": id_, "aggregate": a} for a in places]
        rows[t.consumers].append(
            {"id": id_, "uuid": _uuid(3, id_), "project_id": "p", "user_id": "u", "generation": 1,
             "type": "INSTANCE"}
        )  # fmt: skip
        rows[t.allocations] += [
            {"consumer_id": id_, "provider_id": id_, "resource_class": name, "used": used,
             "updated_at": now}
            for name, used in (_FULL if host % 3 == 0 else _SOME).items()
        ]  # fmt: skip
        for _ in range(CARDS if host % NESTED == 0 else 0):
            if (card := next(ids)) <= size:
                _provider(rows, card, id_, id_, now)
                _inventory(rows, card, _CARD_CLASS, 8, 1.0, now)
    for table, made in rows.items():
        tx.execute(sa.insert(table), made)


def _provider(rows: Any, id_: int, parent: int | None, root: int, now: Any) -> None:
    rows[t.providers].append(
        {"id": id_, "uuid": _uuid(4, id_), "name": f"provider-{id_}", "generation": 1,
         "parent_id": parent, "root_id": root, "updated_at": now}
    )  # fmt: skip


def _inventory(rows: Any, id_: int, name: str, total: int, ratio: float, now: Any) -> None:
    rows[t.inventories].append(
        {"provider_id": id_, "resource_class": name, "total": total, "reserved": 0, "min_unit": 1,
         "max_unit": total, "step_size": 1, "allocation_ratio": ratio, "updated_at": now}
    )  # fmt: skip


class _Door:
    """Asks the application without a socket."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        raw = b"" if body is None else msgspec.json.encode(body)
        path, _, query = path.partition("?")
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method,
            "scheme": "http", "path": path, "raw_path": path.encode(), "root_path": "",
            "query_string": query.encode(), "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8778), "state": {},
            "headers": [
                (b"x-auth-token", b"admin"), (b"openstack-api-version", b"placement 1.39"),
                (b"content-type", b"application/json"),
                (b"content-length", str(len(raw)).encode()),
            ],
        }  # fmt: skip
        status, parts = 0, []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": raw, "more_body": False}

        async def send(message: Any) -> None:
            nonlocal status
            status = message.get("status", status)
            parts.append(message.get("body", b""))

        await self._app(scope, receive, send)
        return status, b"".join(parts)


async def _cpu(door: _Door, path: str, aim: int) -> float:
    """Milliseconds of CPU of one request, the median of several."""
    taken = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        status, body = await door("GET", path)
        taken.append((time.process_time() - begun) * 1e3)
    found = len(msgspec.json.decode(body)["allocation_requests"])
    if status != 200 or found != aim:
        raise RuntimeError(f"{status}: {found} candidates instead of {aim}: {body[:300]!r}")
    return statistics.median(taken)


async def _claims(
    door: _Door, consumers: Iterator[int], hosts: int, workers: int
) -> tuple[float, str]:
    """Claims per second of so many that claim at the same time, and the CPU of one."""
    left = itertools.count()

    async def work() -> None:
        while next(left) < CLAIMS:
            number = next(consumers)
            # Of the hosts that are not full, in no order; the first provider is one of them.
            host = _host_id(number * 7919 % hosts // 3 * 3 + 1)
            body = {
                "allocations": {_uuid(4, host): {"resources": {"VCPU": 1, "MEMORY_MB": 64}}},
                "project_id": "p", "user_id": "u", "consumer_generation": None,
                "consumer_type": "INSTANCE",
            }  # fmt: skip
            status, answer = await door("PUT", f"/allocations/{_uuid(5, number)}", body)
            if status != 204:
                raise RuntimeError(f"{status}: {answer!r}")

    begun, spent = time.perf_counter(), time.process_time()
    async with asyncio.TaskGroup() as group:
        for _ in range(workers):
            group.create_task(work())
    each = (time.process_time() - spent) / CLAIMS * 1e3
    return CLAIMS / (time.perf_counter() - begun), f"{each:.2f} ms CPU each"


def _host_id(host: int) -> int:
    """The provider id of the host of that number, from 1 on."""
    return host + (host - 1) // NESTED * CARDS


async def _placed(door: _Door, consumers: Iterator[int]) -> float:
    """Milliseconds of CPU of candidates (limit 10) and the claim of the first one."""
    query = f"/allocation_candidates?{_BASE}&limit=10"
    await door("GET", query)
    begun = time.process_time()
    for _ in range(ROUNDS):
        _, raw = await door("GET", query)
        first = msgspec.json.decode(raw)["allocation_requests"][0]
        body = {**first, "project_id": "p", "user_id": "u", "consumer_generation": None,
                "consumer_type": "INSTANCE"}  # fmt: skip
        status, answer = await door("PUT", f"/allocations/{_uuid(5, next(consumers))}", body)
        if status != 204:
            raise RuntimeError(f"{status}: {answer!r}")
    return (time.process_time() - begun) / ROUNDS * 1e3


def _memory() -> float:
    """MiB this process has in memory."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


async def at_size(size: int, where: Path) -> list[Figure]:
    """The figures of one size."""
    db = Database(f"sqlite:///{where}/placement{size}.db")
    prepare(db, SystemClock())
    db.run_sync(fill, size)
    app = application(db, policy=Enforcer(), clock=SystemClock(), ids=RandomIds(), auth=None)
    door = _Door(app)
    before = _memory()
    begun = time.process_time()
    await door("GET", f"/allocation_candidates?{_BASE}&limit=1")
    loaded = time.process_time() - begun
    title = f"{size:,} providers"
    figures = [
        Figure(f"{title}: first load", loaded, "s CPU"),
        Figure(f"{title}: memory of the index", _memory() - before, "MiB"),
    ]
    many = min(1_000, size * 10 // 36)
    for what, query, found, aim in (
        ("limit 10", f"{_BASE}&limit=10", 10, "5 at 10,000"),
        ("limit 1,000", f"{_BASE}&limit={many}", many, "60 at 10,000"),
        ("required trait, limit 10", f"{_BASE}&required={_RARE}&limit=10", 10, ""),
        ("aggregate, limit 10", f"{_BASE}&member_of={_uuid(1, 1)}&limit=10", 10, ""),
        ("two granular groups, limit 10", f"{_GROUPS}&limit=10", 10, ""),
        ("two granular groups, limit 1,000", f"{_GROUPS}&limit={many}", many, ""),
        ("nothing fits", "resources=VCPU:64,MEMORY_MB:262144&limit=10", 0, ""),
        ("nothing fits by a little", f"{_BASE}&resources_m=MEMORY_MB:{_LITTLE}&limit=10", 0, ""),
    ):
        spent = await _cpu(door, f"/allocation_candidates?{query}", found)
        figures.append(Figure(f"{title}: candidates, {what}", spent, "ms CPU", aim))
    consumers = itertools.count(1)
    hosts = size * NESTED // (NESTED + CARDS) - NESTED
    for workers in (1, 16):
        rate, how = await _claims(door, consumers, hosts, workers)
        figures.append(Figure(f"{title}: claims, {workers} at a time", rate, "/s", "500", how))
    spent = await _placed(door, consumers)
    figures.append(Figure(f"{title}: candidates and a claim", spent, "ms CPU"))
    db.close()
    return figures


def growth(all_of: list[list[Figure]]) -> list[Figure]:
    """How many times more each thing costs at the largest size than at the smallest."""
    return [
        Figure(f"growth of {first.what.partition(': ')[2]}", last.value / first.value, "times")
        for first, last in zip(all_of[0], all_of[-1], strict=True)
        if first.value and "CPU" in first.unit
    ]


async def measure(sizes: tuple[int, ...] = SIZES) -> list[Figure]:
    """Every size, and what grows."""
    logging.getLogger("kilonova.web").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="kilonova-bench-") as where:
        made = [await at_size(size, Path(where)) for size in sizes]
    return [*itertools.chain.from_iterable(made), *(growth(made) if len(made) > 1 else ())]


if __name__ == "__main__":
    show(asyncio.run(measure(tuple(map(int, sys.argv[1:])) or SIZES)), Console())
