"""What Placement's store must do on every database engine."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import uuid

import pytest
import sqlalchemy as sa

from kilonova.base.clock import SystemClock
from kilonova.base.errors import BadRequest, Conflict, NotFound
from kilonova.db import migrate
from kilonova.db.database import Database, Tx, counted
from kilonova.placement.api.common import Follower
from kilonova.placement.index import Index
from kilonova.placement.rows import Allocation, Inventory
from kilonova.placement.service import HISTORY, prepare
from kilonova.placement.store import (
    allocations,
    inventories,
    names,
    providers,
    reshape,
    snapshot,
)
from kilonova.placement.store.allocations import Claim
from kilonova.placement.store.tables import metadata, provider_changes

NOW = SystemClock().now()
A, B, C = (str(uuid.UUID(int=n)) for n in (10, 11, 12))
ME, YOU = (str(uuid.UUID(int=n)) for n in (20, 21))


@pytest.fixture
def db(database: Database) -> Database:
    prepare(database, SystemClock())
    return database


def host(tx: Tx, uuid_: str, *, vcpus: int = 4, parent: str | None = None) -> None:
    providers.create(tx, uuid=uuid_, name=f"host {uuid_}", parent_uuid=parent, now=NOW)
    wanted = {"VCPU": Inventory(vcpus, max_unit=vcpus), "DISK_GB": Inventory(100)}
    inventories.replace(tx, uuid_, wanted, generation=0, now=NOW)


def claim(consumer: str, generation: int | None = None, /, **amounts: int) -> Claim:
    return Claim(consumer, {A: amounts} if amounts else {}, "p", "u", generation, "INSTANCE")


def used(tx: Tx, uuid_: str) -> dict[str, int]:
    return inventories.usage(tx, providers.find(tx, uuid_).id)


def test_the_migration_makes_the_tables_as_declared(db: Database) -> None:
    assert migrate.differences(db, metadata) == []
    assert migrate.upgrade(db, HISTORY) is False
    prepare(db, SystemClock())


def test_a_claim_takes_frees_and_counts_generations(db: Database) -> None:
    db.run_sync(host, A)
    db.run_sync(allocations.replace, [claim(ME, VCPU=3, DISK_GB=10)], NOW)
    assert db.run_sync(used, A) == {"VCPU": 3, "DISK_GB": 10}
    held = db.run_sync(allocations.of_consumer, ME)
    assert {(a.resource_class, a.used, a.consumer.generation) for a in held} == {
        ("VCPU", 3, 1),
        ("DISK_GB", 10, 1),
    }
    db.run_sync(allocations.replace, [claim(ME, 1, VCPU=4)], NOW)
    assert db.run_sync(used, A) == {"VCPU": 4, "DISK_GB": 0}
    with pytest.raises(Conflict, match="expected 2 but got 1"):
        db.run_sync(allocations.replace, [claim(ME, 1, VCPU=1)], NOW)
    db.run_sync(allocations.release, ME)
    assert db.run_sync(used, A) == {"VCPU": 0, "DISK_GB": 0}
    with pytest.raises(NotFound):
        db.run_sync(allocations.release, ME)


def test_a_claim_is_refused_whole(db: Database) -> None:
    db.run_sync(host, A)
    with pytest.raises(Conflict, match="exceed the capacity"):
        db.run_sync(allocations.replace, [claim(ME, VCPU=2), claim(YOU, VCPU=3)], NOW)
    with pytest.raises(Conflict, match="violate inventory constraints"):
        db.run_sync(allocations.replace, [claim(ME, VCPU=5)], NOW)
    with pytest.raises(Conflict, match="there is none"):
        db.run_sync(allocations.replace, [claim(ME, VGPU=1)], NOW)
    with pytest.raises(BadRequest, match="No such resource class NOTHING"):
        db.run_sync(allocations.replace, [claim(ME, NOTHING=1)], NOW)
    with pytest.raises(BadRequest, match="does not exist"):
        db.run_sync(allocations.replace, [Claim(ME, {B: {"VCPU": 1}}, "p", "u")], NOW)
    assert db.run_sync(used, A)["VCPU"] == 0
    assert db.run_sync(allocations.of_consumer, ME) == []


def test_moving_between_consumers_needs_no_free_room(db: Database) -> None:
    db.run_sync(host, A)
    db.run_sync(allocations.replace, [claim(ME, VCPU=4)], NOW)
    db.run_sync(allocations.replace, [claim(ME, 1), claim(YOU, VCPU=4)], NOW)
    assert db.run_sync(allocations.of_consumer, ME) == []
    assert [a.used for a in db.run_sync(allocations.of_consumer, YOU)] == [4]


def test_reshaping_moves_inventory_and_use_at_once(db: Database) -> None:
    db.run_sync(host, A)
    db.run_sync(providers.create, uuid=B, name="numa", parent_uuid=A, now=NOW)
    db.run_sync(allocations.replace, [claim(ME, VCPU=4)], NOW)
    shapes = {
        A: reshape.Shape(2, {"DISK_GB": Inventory(100)}),
        B: reshape.Shape(0, {"VCPU": Inventory(4)}),
    }
    moved = [Claim(ME, {B: {"VCPU": 4}}, "p", "u", 1)]
    with pytest.raises(Conflict, match="in use"):
        db.run_sync(reshape.reshape, shapes, [], NOW)
    db.run_sync(reshape.reshape, shapes, moved, NOW)
    assert db.run_sync(used, A) == {"DISK_GB": 0}
    assert db.run_sync(used, B) == {"VCPU": 4}
    with pytest.raises(Conflict, match="generation conflict: actual"):
        db.run_sync(reshape.reshape, shapes, moved, NOW)


def test_trees_are_moved_whole_and_never_looped(db: Database) -> None:
    for uuid_, parent in ((A, None), (B, A), (C, B)):
        db.run_sync(providers.create, uuid=uuid_, name=uuid_, parent_uuid=parent, now=NOW)

    def move(tx: Tx, uuid_: str, parent: str | None) -> None:
        providers.move(tx, providers.lock(tx, uuid_), parent, NOW)

    with pytest.raises(BadRequest, match="loop"):
        db.run_sync(move, A, C)
    db.run_sync(move, B, None)
    assert db.run_sync(providers.find, C).root_uuid == B
    with pytest.raises(Conflict, match="child"):
        db.run_sync(providers.delete, B)


def test_names_in_use_stay(db: Database) -> None:
    db.run_sync(host, A)
    db.run_sync(names.ensure_class, "CUSTOM_IRON", NOW)
    db.run_sync(names.ensure_trait, "CUSTOM_FAST", NOW)
    db.run_sync(inventories.add, A, "CUSTOM_IRON", Inventory(1), NOW)
    db.run_sync(names.set_provider_traits, A, ["CUSTOM_FAST"], generation=2, now=NOW)
    with pytest.raises(Conflict):
        db.run_sync(names.delete_class, "CUSTOM_IRON")
    with pytest.raises(Conflict):
        db.run_sync(names.delete_trait, "CUSTOM_FAST")
    db.run_sync(names.rename_class, "CUSTOM_IRON", "CUSTOM_STEEL", NOW)
    assert "CUSTOM_STEEL" in db.run_sync(used, A)
    with pytest.raises(BadRequest):
        db.run_sync(names.delete_class, "VCPU")


async def test_the_index_follows_every_change_with_few_statements(db: Database) -> None:
    index = Index(Follower(db, SystemClock()))
    assert (await index.world()).stocks == {}
    await db.run(host, A)
    await db.run(host, B)
    world = await index.world()
    assert {s.uuid for s in world.stocks.values()} == {A, B}
    with counted() as statements:
        await index.world()
    assert len(statements) == 1
    await db.run(allocations.replace, [claim(ME, VCPU=3)], NOW)
    with counted() as statements:
        world = await index.world()
    assert len(statements) <= 9
    assert world.stocks[world.ids[A]].used == {"VCPU": 3}
    await db.run(allocations.release, ME)
    await db.run(names.set_provider_aggregates, A, [C], generation=None, now=NOW)
    world = await index.world()
    assert world.stocks[world.ids[A]].used == {}
    assert world.stocks[world.ids[A]].aggregates == {C}
    await db.run(providers.delete, A)
    await db.run(providers.create, uuid=C, name="new", parent_uuid=None, now=NOW)
    world = await index.world()
    assert {s.uuid for s in world.stocks.values()} == {B, C}


async def test_the_index_sees_what_was_begun_earlier_and_committed_later(db: Database) -> None:
    if db.dialect == "sqlite":
        pytest.skip("has one writer at a time")
    for one in (A, B):
        await db.run(host, one)
    index = Index(Follower(db, SystemClock()))
    await index.world()
    with db.engine.connect() as late, late.begin():
        names.set_provider_aggregates(late, A, [C], generation=None, now=NOW)
        await db.run(names.set_provider_aggregates, B, [C], generation=None, now=NOW)
        world = await index.world()
        assert [s.uuid for s in world.stocks.values() if s.aggregates] == [B]
    world = await index.world()
    assert {s.uuid for s in world.stocks.values() if s.aggregates} == {A, B}
    assert await db.read(snapshot.moved, index.mark) is False


async def test_who_is_further_behind_than_the_log_loads_everything(db: Database) -> None:
    await db.run(host, A)
    index, late = (Index(Follower(db, SystemClock())) for _ in range(2))
    await late.world()
    many = [{"provider_id": 10**6}] * (snapshot.KEPT + 10)
    await db.run(lambda tx: tx.execute(sa.insert(provider_changes), many))
    await db.run(names.set_provider_aggregates, A, [C], generation=None, now=NOW)
    await db.run(snapshot.prune)
    count = sa.select(sa.func.count()).select_from(provider_changes)
    assert await db.read(lambda tx: tx.execute(count).scalar()) == snapshot.KEPT
    for one in (index, late):
        assert [stock.aggregates for stock in (await one.world()).stocks.values()] == [{C}]


def _writers(url: str, mode: str, tries: int) -> tuple[int, int]:
    """Four processes of 16 threads; how many tries came through, and how many were refused."""
    argv = [sys.executable, "-m", "tests.support.claiming", url, mode, "16", str(tries), A, B]
    racers = [
        subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    accepted = refused = 0
    for racer in racers:
        out, err = racer.communicate(timeout=100)
        assert racer.returncode == 0, err[-2000:]
        good, bad = map(int, out.split())
        accepted, refused = accepted + good, refused + bad
    return accepted, refused


def test_parallel_writers_never_overcommit(db: Database, database_url: str) -> None:
    """They race for two providers; every unit is given exactly once."""
    db.run_sync(host, A, vcpus=60)
    db.run_sync(host, B, vcpus=60)
    accepted, refused = _writers(database_url, "race", 48)
    held = [a for u in (A, B) for a in db.run_sync(_held, u)]
    assert len({a.consumer.uuid for a in held}) == accepted
    assert db.run_sync(used, A)["VCPU"] <= 60
    assert db.run_sync(used, B)["VCPU"] <= 60
    # Odd claims take one unit of both; so the race ends when one provider is full.
    assert 60 in (db.run_sync(used, A)["VCPU"], db.run_sync(used, B)["VCPU"])
    assert refused == 4 * 48 - accepted
    assert db.run_sync(providers.find, A).generation == 1 + db.run_sync(used, A)["VCPU"]


async def test_parallel_writers_lose_nothing_and_are_not_refused_what_fits(
    db: Database, database_url: str
) -> None:
    """They take, move and give back with room for all: none is refused, half stay, and an index
    that follows meanwhile ends with the truth."""
    await db.run(host, A, vcpus=64)
    await db.run(host, B, vcpus=64)
    index = Index(Follower(db, SystemClock()))
    job = asyncio.create_task(asyncio.to_thread(_writers, database_url, "churn", 16))
    while not job.done():
        await index.world()
        await asyncio.sleep(0.05)
    assert await job == (64, 0)
    stocks = (await index.world()).stocks.values()
    assert sorted(stock.used.get("VCPU", 0) for stock in stocks) == [0, 32]
    for stock in stocks:
        held = await db.read(_held, stock.uuid)
        assert len({a.consumer.uuid for a in held}) == stock.used.get("VCPU", 0)
        assert stock.generation == 1 + 64


def _held(tx: Tx, uuid_: str) -> list[Allocation]:
    return allocations.of_provider(tx, providers.find(tx, uuid_).id)
