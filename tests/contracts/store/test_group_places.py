"""Members of a group that take their places at once never break its rule, on every engine."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator

import pytest

from kilonova.base.clock import SystemClock
from kilonova.db.database import Database, Tx
from kilonova.db.tables import api
from kilonova.domain.resources import Group
from kilonova.store import groups

HOSTS = [f"h{number}" for number in range(10)]


@pytest.fixture
def db(database: Database) -> Iterator[Database]:
    api.metadata.create_all(database.engine)
    yield database


def _group(tx: Tx, policy: str, rules: dict[str, int]) -> None:
    now = SystemClock().now()
    groups.create(tx, Group("g1", "g", "p1", "u1", policy, rules), now=now, limit=9)


async def _race(db: Database, builds: int, seed: int) -> dict[str, int]:
    """So many members that try every host in an order of their own until one takes them."""
    chance = random.Random(seed)

    async def build(number: int, order: list[str]) -> None:
        for host in order:
            if await db.run(groups.take_place, "g1", f"s{number}", host) is None:
                return

    async with asyncio.TaskGroup() as work:
        for number in range(builds):
            work.create_task(build(number, chance.sample(HOSTS, len(HOSTS))))
    return await db.read(groups.counts, "g1")


@pytest.mark.parametrize("seed", range(3))
async def test_anti_affinity(db: Database, seed: int) -> None:
    await db.run(_group, "anti-affinity", {})
    assert await _race(db, 30, seed) == dict.fromkeys(HOSTS, 1)


async def test_some_may_share_a_host(db: Database) -> None:
    await db.run(_group, "anti-affinity", {"max_server_per_host": 3})
    assert await _race(db, 40, 7) == dict.fromkeys(HOSTS, 3)


async def test_affinity(db: Database) -> None:
    await db.run(_group, "affinity", {})
    counts = await _race(db, 30, 5)
    assert list(counts.values()) == [30]


async def test_soft_groups_are_counted(db: Database) -> None:
    await db.run(_group, "soft-anti-affinity", {})
    assert sum((await _race(db, 30, 5)).values()) == 30


async def test_a_place_is_taken_once_and_given_back(db: Database) -> None:
    await db.run(_group, "anti-affinity", {})
    assert await db.run(groups.take_place, "g1", "s1", "h1") is None
    assert await db.run(groups.take_place, "g1", "s1", "h1") is None
    assert await db.run(groups.take_place, "g1", "s2", "h1") is not None
    assert await db.read(groups.counts, "g1", but=("s1",)) == {}
    await db.run(groups.leave_place, "s1", "h1")
    await db.run(groups.leave_place, "s1", "h1")
    assert await db.run(groups.take_place, "g1", "s2", "h1") is None
    await db.run(groups.delete, "g1")
    assert await db.run(groups.take_place, "g1", "s3", "h1") is None
    assert await db.read(groups.counts, "g1") == {}
