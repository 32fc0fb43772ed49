"""Host states put together from the records, on every engine."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import pytest

from kilonova.base.clock import VirtualClock
from kilonova.db.cells import CELL0, Cell, Cells
from kilonova.db.database import Database, Tx, counted
from kilonova.db.tables import api, cell
from kilonova.domain.guest import HostReport
from kilonova.domain.request import request_of
from kilonova.domain.resources import Group
from kilonova.scheduler.hosts import StoredHosts
from kilonova.store import aggregates, groups, mappings, nodes, servers, services
from tests.support.compute import request, server_id

CELL = "11111111-1111-1111-1111-111111111111"
UUIDS = [f"22222222-2222-2222-2222-22222222222{n}" for n in range(3)]


@pytest.fixture
def db(database: Database) -> Iterator[Database]:
    api.metadata.create_all(database.engine)
    # Both in one database: what each kind has of its own is there once.
    cell.metadata.create_all(database.engine)
    yield database


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def stored(db: Database, clock: VirtualClock) -> StoredHosts:
    cells = Cells([Cell(CELL0, "cell0", db), Cell(CELL, "cell1", db)])
    return StoredHosts(db, cells, clock, down_after=60, images=True)


def fill(tx: Tx, now: dt.datetime) -> None:
    for number, uuid in enumerate(UUIDS):
        name = f"h{number}"
        report = HostReport(
            name, "QEMU", 8_002_000, 8, 4096, 100, host_ip="10.0.0.9", metrics={"cpu.percent": 7.5}
        )
        nodes.save(tx, uuid=uuid, host=name, report=report, now=now)
        services.heartbeat(tx, name, "nova-compute", uuid=uuid, now=now, version=7)
        mappings.map_host(tx, name, CELL)
    found = services.find(tx, "h1", "nova-compute")
    assert found is not None
    services.update(tx, found.id, now=now, disabled=True, disabled_reason="fan")
    zone = aggregates.create(
        tx, uuid=UUIDS[0], name="east", metadata={"availability_zone": "east"}, now=now
    )
    aggregates.add_host(tx, zone.id, "h0", now=now)
    for number, host in ((1, "h0"), (2, "h0"), (3, "h1")):
        made, spec = request(number)
        servers.accept(tx, [(made, spec)])
        servers.move_to_cell(tx, made, host=host, node=host, zone=None, now=now)
    members = (server_id(1), server_id(3))
    groups.create(tx, Group("g1", "g", "p1", "u1", "anti-affinity", {}), now=now, limit=9)
    groups.add_members(tx, "g1", list(members), limit=9)
    assert groups.take_place(tx, "g1", members[0], "h0") is None
    assert groups.take_place(tx, "g1", members[1], "h1") is None


async def test_a_state_has_all_that_is_recorded(
    db: Database, stored: StoredHosts, clock: VirtualClock
) -> None:
    await db.run(fill, clock.now())
    with counted() as statements:
        states = {s.host: s for s in await stored.hosts([*UUIDS, "unknown"])}
    assert len(statements) <= 5
    first = states["h0"]
    assert (first.node, first.provider, first.cell_id) == ("h0", UUIDS[0], CELL)
    assert (first.up, first.disabled, first.service_version) == (True, False, 7)
    assert (first.vcpus, first.memory_mb, first.disk_gb) == (8, 4096, 100)
    assert first.servers == {server_id(1), server_id(2)}
    assert first.io_ops == 2
    assert first.metrics == {"cpu.percent": 7.5}
    assert [a.availability_zone for a in first.aggregates] == ["east"]
    assert (states["h1"].disabled, states["h1"].disabled_reason) == (True, "fan")
    assert states["h2"].servers == frozenset()
    await clock.advance(61)
    assert not any(state.up for state in await stored.hosts(UUIDS))


async def test_nodes_zones_and_groups(
    db: Database, stored: StoredHosts, clock: VirtualClock
) -> None:
    await db.run(fill, clock.now())
    assert await stored.providers_of("h1", None) == [UUIDS[1]]
    assert await stored.providers_of("h1", "other") == []
    assert await stored.providers_of(None, "h2") == [UUIDS[2]]
    assert [a.name for a in await stored.aggregates()] == ["east"]
    group = await stored.group("g1")
    assert group is not None
    assert (group.policy, group.counts) == ("anti-affinity", {"h0": 1, "h1": 1})
    rest = await stored.group("g1", but=[server_id(3)])
    assert rest is not None
    assert rest.counts == {"h0": 1}
    assert await stored.group("none") is None


def test_a_request_is_made_from_a_servers_records() -> None:
    made, spec = request(1)
    asked = request_of(made.server, spec, ignore_hosts=("h9",))
    assert asked.servers == (made.server.id,)
    assert asked.flavor == made.server.flavor
    assert asked.ignore_hosts == (*spec.ignore_hosts, "h9")
    assert asked.availability_zone == spec.zone
