"""What every database engine must do under the transaction runner."""

from __future__ import annotations

import asyncio

import pytest
import sqlalchemy as sa

from kilonova.db.database import Database, Tx, counted

META = sa.MetaData()
COUNTER = sa.Table(
    "counter", META, sa.Column("name", sa.String(50), primary_key=True), sa.Column("n", sa.Integer)
)


@pytest.fixture
def ready(database: Database) -> Database:
    database.run_sync(META.create_all)
    database.run_sync(lambda tx: tx.execute(COUNTER.insert().values(name="a", n=0)))
    return database


def increase(tx: Tx) -> int:
    n: int = tx.execute(
        sa.select(COUNTER.c.n).where(COUNTER.c.name == "a").with_for_update()
    ).scalar_one()
    tx.execute(COUNTER.update().where(COUNTER.c.name == "a").values(n=n + 1))
    return n + 1


def read(tx: Tx) -> int:
    return int(tx.execute(sa.select(COUNTER.c.n).where(COUNTER.c.name == "a")).scalar_one())


async def test_concurrent_increments_lose_nothing(ready: Database) -> None:
    await asyncio.gather(*(ready.run(increase) for _ in range(40)))
    assert await ready.read(read) == 40


async def test_an_exception_rolls_everything_back(ready: Database) -> None:
    def half(tx: Tx) -> None:
        increase(tx)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await ready.run(half)
    assert await ready.read(read) == 0


async def test_statements_are_counted(ready: Database) -> None:
    with counted() as statements:
        await ready.run(increase)
    assert len(statements) == 2


async def test_a_cancelled_caller_leaves_no_transaction_behind(ready: Database) -> None:
    task = asyncio.create_task(ready.run(increase))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await ready.run(increase)
    assert await ready.read(read) in (1, 2)
