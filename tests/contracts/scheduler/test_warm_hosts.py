"""Host states kept in memory say what the records say, whatever happens, on every engine."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Iterator

import msgspec
import pytest

from kilonova.base.clock import VirtualClock
from kilonova.db.cells import CELL0, Cell, Cells
from kilonova.db.database import Database, counted
from kilonova.db.tables import api, cell
from kilonova.domain.guest import HostReport
from kilonova.domain.states import VmState
from kilonova.scheduler.hosts import StoredHosts
from kilonova.scheduler.state import HostState
from kilonova.scheduler.warm import SWEEP_EVERY, WarmHosts
from kilonova.store import aggregates, nodes, servers, services
from tests.contracts.scheduler.test_stored_hosts import CELL, UUIDS, fill
from tests.support.compute import request, server_id


class Bench(msgspec.Struct):
    """The records, and both ways to look at them."""

    db: Database
    cells: Cells
    clock: VirtualClock
    warm: WarmHosts
    stored: StoredHosts

    async def same(self) -> dict[str, HostState]:
        uuids = [*UUIDS, *(f"new{n}" for n in range(3))]
        warm = {s.host: s for s in await self.warm.hosts(uuids)}
        assert warm == {s.host: s for s in await self.stored.hosts(uuids)}
        assert await self.warm.aggregates() == await self.stored.aggregates()
        return warm


@pytest.fixture
async def bench(database: Database) -> Bench:
    api.metadata.create_all(database.engine)
    # Both in one database: what each kind has of its own is there once.
    cell.metadata.create_all(database.engine)
    clock = VirtualClock()
    cells = Cells([Cell(CELL0, "cell0", database), Cell(CELL, "cell1", database)])
    await database.run(fill, clock.now())
    warm = WarmHosts(database, cells, clock, down_after=60, images=True)
    stored = StoredHosts(database, cells, clock, down_after=60, images=True)
    made = Bench(database, cells, clock, warm, stored)
    await made.same()
    return made


async def test_servers_come_work_move_and_go(bench: Bench) -> None:
    made, spec = request(7)
    await bench.db.run(servers.accept, [(made, spec)])
    now = bench.clock.now() + dt.timedelta(seconds=3)
    await bench.db.run(servers.move_to_cell, made, host="h2", node="h2", zone=None, now=now)
    states = await bench.same()
    assert (states["h2"].servers, states["h2"].io_ops) == (frozenset({server_id(7)}), 1)
    await bench.db.run(servers.finish, server_id(7), VmState.ACTIVE, power=1, now=now)
    assert (await bench.same())["h2"].io_ops == 0
    await bench.db.run(servers.update, server_id(7), now=now, host="h1", node="h1")
    states = await bench.same()
    assert server_id(7) in states["h1"].servers
    assert not states["h2"].servers
    await bench.db.run(servers.delete, server_id(7), now=now)
    assert server_id(7) not in (await bench.same())["h1"].servers


async def test_a_row_taken_back_is_found_by_the_sweep(bench: Bench) -> None:
    made, spec = request(8)
    await bench.db.run(servers.accept, [(made, spec)])
    now = bench.clock.now()
    await bench.db.run(servers.move_to_cell, made, host="h2", node="h2", zone=None, now=now)
    await bench.same()
    await bench.db.run(servers.leave_cell, server_id(8))
    await bench.clock.advance(SWEEP_EVERY)
    for name in ("h0", "h1", "h2"):
        await _beat(bench, name)
    assert not (await bench.same())["h2"].servers


async def _beat(bench: Bench, host: str) -> None:
    await bench.db.run(
        services.heartbeat, host, "nova-compute", uuid="", now=bench.clock.now(), version=7
    )


async def test_services_fall_silent_and_speak_again(bench: Bench) -> None:
    await bench.clock.advance(61)
    assert not any(state.up for state in (await bench.same()).values())
    await _beat(bench, "h0")
    states = await bench.same()
    assert [states[h].up for h in ("h0", "h1", "h2")] == [True, False, False]


async def test_services_are_disabled_and_forced_down(bench: Bench) -> None:
    found = await bench.db.read(services.find, "h2", "nova-compute")
    assert found is not None
    now = bench.clock.now()
    await bench.db.run(services.update, found.id, now=now, disabled=True, disabled_reason="rack")
    assert (await bench.same())["h2"].disabled_reason == "rack"
    await bench.db.run(
        services.update, found.id, now=now, disabled=False, disabled_reason=None, forced_down=True
    )
    assert not (await bench.same())["h2"].up


async def test_nodes_come_change_and_go(bench: Bench) -> None:
    now = bench.clock.now()
    report = HostReport("h9", "QEMU", 8_002_000, 2, 512, 10, host_ip="10.0.0.9")
    await bench.db.run(nodes.save, uuid="new1", host="h9", report=report, now=now)
    assert not (await bench.same())["h9"].up
    await _beat(bench, "h9")
    await bench.clock.advance(SWEEP_EVERY)
    await _beat(bench, "h9")
    assert (await bench.same())["h9"].up
    larger = msgspec.structs.replace(report, vcpus=64)
    await bench.db.run(nodes.save, uuid="new1", host="h9", report=larger, now=bench.clock.now())
    assert (await bench.same())["h9"].vcpus == 64
    await bench.db.run(nodes.delete_host, "h9")
    await bench.clock.advance(SWEEP_EVERY)
    assert "h9" not in await bench.same()


async def test_aggregates_change(bench: Bench) -> None:
    now = bench.clock.now() + dt.timedelta(seconds=1)
    made = await bench.db.run(
        aggregates.create, uuid=UUIDS[2], name="fast", metadata={"ssd": "yes"}, now=now
    )
    await bench.db.run(aggregates.add_host, made.id, "h1", now=now + dt.timedelta(seconds=1))
    assert (await bench.same())["h1"].aggregate_values("ssd") == {"yes"}
    later = now + dt.timedelta(seconds=2)
    await bench.db.run(aggregates.update, made.id, now=later, metadata={"ssd": "no"})
    assert (await bench.same())["h1"].aggregate_values("ssd") == {"no"}
    await bench.db.run(aggregates.remove_host, made.id, "h1", now=later)
    await bench.db.run(aggregates.delete, made.id)
    assert not (await bench.same())["h1"].aggregates


async def test_a_look_costs_a_few_statements_however_many_ask(bench: Bench) -> None:
    with counted() as statements:
        await bench.warm.hosts(UUIDS)
    assert len(statements) <= 4
    with counted() as statements:
        async with asyncio.TaskGroup() as group:
            for _ in range(10):
                group.create_task(bench.warm.hosts(UUIDS))
    assert len(statements) <= 12


async def test_what_was_done_before_the_question_is_in_the_answer(bench: Bench) -> None:
    """A look under way does not count for who comes after it began."""
    found = await bench.db.read(services.find, "h2", "nova-compute")
    assert found is not None

    async def disable_and_ask() -> None:
        now = bench.clock.now()
        await bench.db.run(services.update, found.id, now=now, disabled=True)
        assert [s.disabled for s in await bench.warm.hosts([UUIDS[2]])] == [True]

    async with asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(bench.warm.hosts(UUIDS))
        group.create_task(disable_and_ask())


@pytest.fixture
def lost() -> Iterator[Database]:
    db = Database("postgresql://nobody@127.0.0.1:1/none")
    yield db
    db.close()


async def test_hosts_of_a_cell_that_is_away_are_left_out(bench: Bench, lost: Database) -> None:
    bench.cells.replace([bench.cells.cell0, Cell(CELL, "cell1", lost)])
    assert await bench.warm.hosts(UUIDS) == []
    bench.cells.replace([bench.cells.cell0, Cell(CELL, "cell1", bench.db)])
    await bench.clock.advance(11)
    assert len(await bench.warm.hosts(UUIDS)) == 3
