"""Guests that are put on a host at once never hold the same CPU, page or device."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator

import pytest

from kilonova.base.clock import SystemClock
from kilonova.db.database import Database, Tx
from kilonova.db.tables import cell
from kilonova.domain.fit.host import Wanted
from kilonova.domain.fit.shapes import (
    Device,
    DeviceRequest,
    DeviceSpec,
    GuestCell,
    GuestTopology,
    Held,
    HostCell,
    HostShape,
    NoFit,
    Pages,
)
from kilonova.domain.guest import HostReport
from kilonova.store import holds, nodes

NODE = str(uuid.UUID(int=1))
NOW = SystemClock().now()
SHAPE = HostShape(
    cells=tuple(
        HostCell(
            n,
            1024,
            pcpus=frozenset(range(n * 8, n * 8 + 8)),
            pages=(Pages(4, 1 << 17), Pages(2048, 200)),
        )
        for n in range(2)
    ),
    devices=tuple(Device(f"0000:00:01.{n}", "8086", "1", numa_node=n % 2) for n in range(6)),
)
WANTED = Wanted(
    GuestTopology((GuestCell(0, 64, pcpus=frozenset({0, 1}), page_kb=2048),), policy="dedicated"),
    (DeviceRequest("pci0", 1, (DeviceSpec("8086", "1"),)),),
)


@pytest.fixture
def db(database: Database) -> Iterator[Database]:
    for table in (cell.compute_nodes, cell.guest_holds):
        table.create(database.engine)
    database.run_sync(node, SHAPE)
    yield database


def node(tx: Tx, shape: HostShape | None) -> None:
    report = HostReport("h1", "QEMU", 7002000, 16, 4096, 100, shape=shape)
    nodes.save(tx, uuid=NODE, host="h1", report=report, now=NOW)


async def take(db: Database, server_id: str) -> Held | NoFit:
    def work(tx: Tx) -> Held | NoFit:
        return holds.take(tx, server_id, WANTED, host="h1", node="h1", now=NOW)

    return await db.run(work)


async def test_racing_guests(db: Database) -> None:
    found = await asyncio.gather(*(take(db, f"s{n}") for n in range(20)))
    held = [one for one in found if isinstance(one, Held)]
    # Six devices, three at each cell; three guests' pages and CPUs fit there.
    assert len(held) == 6
    devices = [address for one in held for address in one.devices["pci0"]]
    cpus = [cpu for one in held if one.topology for c in one.topology.cells for _, cpu in c.pins]
    assert len(set(devices)) == 6
    assert len(set(cpus)) == len(cpus) == 12
    assert len((await db.read(holds.of_hosts, ["h1", "h2"]))["h1"]) == 6


async def test_what_is_held_is_given_again_and_back(db: Database) -> None:
    first = await take(db, "s1")
    assert await take(db, "s1") == first
    assert await db.read(holds.get, "s1", "h1") == first
    assert await db.read(holds.get, "s1", "h2") is None

    def leave(tx: Tx, host: str | None) -> None:
        holds.leave(tx, "s1", now=NOW, host=host)

    await db.run(leave, "h2")
    assert await db.read(holds.get, "s1", "h1") == first
    await db.run(leave, None)
    await db.run(leave, None)
    assert await db.read(holds.of_hosts, ["h1"]) == {}


async def test_hosts_that_are_not_there_or_tell_nothing(db: Database) -> None:
    def elsewhere(tx: Tx) -> Held | NoFit:
        return holds.take(tx, "s1", WANTED, host="h2", node="h2", now=NOW)

    assert isinstance(await db.run(elsewhere), NoFit)
    await db.run(node, None)
    assert isinstance(await take(db, "s1"), NoFit)

    def cells_only(tx: Tx) -> Held | NoFit:
        wanted = Wanted(WANTED.topology)
        return holds.take(tx, "s1", wanted, host="h1", node="h1", now=NOW)

    assert await db.run(cells_only) == Held()
    assert await db.read(holds.of_hosts, ["h1"]) == {}
