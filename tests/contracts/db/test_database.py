"""What every database engine must do under the transaction runner."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from kilonova.db.database import Database, Tx, counted
from kilonova.db.inline import HEAVY_SECONDS, known_as
from kilonova.db.prepared import Prepared

META = sa.MetaData()
COUNTER = sa.Table(
    "counter", META, sa.Column("name", sa.String(50), primary_key=True), sa.Column("n", sa.Integer)
)


@pytest.fixture
def ready(database: Database) -> Database:
    database.run_sync(META.create_all)
    database.run_sync(lambda tx: tx.execute(COUNTER.insert().values(name="a", n=0)))
    return database


PREPARED_INCREASE = Prepared(
    COUNTER.update().where(COUNTER.c.name == sa.bindparam("named")).values(n=COUNTER.c.n + 1)
)


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


@pytest.mark.parametrize("prepared_first", [True, False])
async def test_prepared_and_other_statements_are_one_transaction(
    ready: Database, prepared_first: bool
) -> None:
    def both(tx: Tx) -> None:
        if prepared_first:
            PREPARED_INCREASE.run(tx, {"named": "a"})
        increase(tx)
        if not prepared_first:
            PREPARED_INCREASE.run(tx, {"named": "a"})

    def broken(tx: Tx) -> None:
        both(tx)
        raise ValueError("no")

    def prepared_alone(tx: Tx) -> None:
        PREPARED_INCREASE.run(tx, {"named": "a"})
        raise ValueError("no")

    for work in (broken, prepared_alone):
        with pytest.raises(ValueError, match="no"):
            await ready.run(work)
        assert await ready.read(read) == 0
    await ready.run(both)
    assert await ready.read(read) == 2
    await ready.run(lambda tx: PREPARED_INCREASE.run(tx, {"named": "a"}))
    assert await ready.read(read) == 3


async def test_long_transactions_are_known_by_what_they_wrap(ready: Database) -> None:
    if ready.dialect != "sqlite":
        pytest.skip("all transactions hop to a thread there")

    def wrapped(work: Callable[[], None]) -> Callable[[Tx], bool]:
        def outer(_tx: Tx) -> bool:
            work()
            return threading.current_thread() is threading.main_thread()

        known_as(outer, work)
        return outer

    def long() -> None:
        end = time.thread_time() + 1.5 * HEAVY_SECONDS
        while time.thread_time() < end:
            pass

    def short() -> None:
        pass

    assert await ready.run(wrapped(long))
    assert not await ready.run(wrapped(long))
    assert await ready.run(wrapped(short))
