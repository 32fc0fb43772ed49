"""Every store of idempotency keys keeps the same promises."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from kilonova.base.clock import VirtualClock
from kilonova.db import idempotency
from kilonova.db.database import Database
from kilonova.web.idempotency import (
    Fresh,
    IdempotencyStore,
    InProgress,
    MemoryIdempotencyStore,
    Mismatch,
    Stored,
)
from tests.conftest import new_database


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture(params=["memory", "sqlite", "postgres", "mariadb"])
async def store(
    request: pytest.FixtureRequest, clock: VirtualClock, tmp_path: Path
) -> AsyncIterator[IdempotencyStore]:
    if request.param == "memory":
        yield MemoryIdempotencyStore(clock, keep=100, lease=10)
        return
    url = f"sqlite:///{tmp_path}/keys.db"
    if request.param != "sqlite":
        url = new_database(request.getfixturevalue(request.param))
    database = Database(url)
    metadata = sa.MetaData()
    keys = idempotency.table(metadata)
    metadata.create_all(database.engine)
    yield idempotency.SqlIdempotencyStore(database, keys, clock, keep=100, lease=10)
    database.close()


async def test_life_of_a_key(store: IdempotencyStore, clock: VirtualClock) -> None:
    first = await store.begin("k", "f")
    assert isinstance(first, Fresh)
    assert await store.begin("k", "f") == InProgress()
    assert await store.begin("k", "g") == Mismatch()
    await store.finish("k", b"answer")
    assert await store.begin("k", "f") == Stored(b"answer")
    assert await store.begin("k", "g") == Mismatch()
    await clock.advance(99)
    assert await store.begin("k", "f") == Stored(b"answer")
    await clock.advance(2)
    later = await store.begin("k", "g")
    assert isinstance(later, Fresh) and later.seed != first.seed


async def test_release(store: IdempotencyStore, clock: VirtualClock) -> None:
    first = await store.begin("k", "f")
    await clock.advance(1)
    await store.release("k")
    assert await store.begin("k", "g") == first
    await store.finish("k", b"answer")
    await store.release("k")
    assert await store.begin("k", "g") == Stored(b"answer")


async def test_a_dead_claim_is_taken_over(store: IdempotencyStore, clock: VirtualClock) -> None:
    first = await store.begin("k", "f")
    await clock.advance(11)
    assert isinstance(first, Fresh)
    assert await store.begin("k", "f") == first
    assert await store.begin("k", "f") == InProgress()


async def test_only_one_of_many_wins(store: IdempotencyStore) -> None:
    results = await asyncio.gather(*(store.begin("k", "f") for _ in range(20)))
    assert sum(isinstance(result, Fresh) for result in results) == 1
    assert results.count(InProgress()) == 19


async def test_old_rows_are_pruned(store: IdempotencyStore, clock: VirtualClock) -> None:
    for number in range(5):
        await store.begin(f"k{number}", "f")
        await store.finish(f"k{number}", b"answer")
    await store.begin("dead", "f")
    await clock.advance(101)
    if isinstance(store, idempotency.SqlIdempotencyStore):
        assert await store.prune() == 5
    await clock.advance(500)
    await store.begin("new", "f")
    if isinstance(store, idempotency.SqlIdempotencyStore):
        assert await store.prune() == 0


async def test_a_renewed_claim_holds_and_a_dead_one_does_not(
    store: IdempotencyStore, clock: VirtualClock
) -> None:
    first = await store.begin("k", "f")
    for _ in range(3):
        await clock.advance(0.8 * store.lease)
        await store.renew("k")
    assert await store.begin("k", "f") == InProgress()
    await clock.advance(1.1 * store.lease)
    assert await store.begin("k", "f") == first, "the work draws the ids of the first try"
    await store.finish("k", b"answer")
    await store.renew("k")
    await clock.advance(2 * store.lease)
    assert await store.begin("k", "f") == Stored(b"answer")
