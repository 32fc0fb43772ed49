"""Speed of the saga engine on SQLite: sagas per second and CPU per step.

python benchmarks/sagas.py [SAGAS]
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time

import sqlalchemy as sa

from kilonova.base.clock import SystemClock
from kilonova.base.ids import RandomIds
from kilonova.db.database import Database, Tx
from kilonova.workflows.engine.accept import accept
from kilonova.workflows.engine.kit import Kit, Limits
from kilonova.workflows.engine.runner import Runner
from kilonova.workflows.engine.saga import Saga
from kilonova.workflows.engine.steps import Asked, StepEnv, remote, saga, transaction
from kilonova.workflows.engine.tables import tables

META = sa.MetaData()
tables(META)
WORK = sa.Table("work", META, sa.Column("id", sa.String(80), primary_key=True))
STEPS = 3


@transaction(name="bench.write")
def write(tx: Tx, env: StepEnv[None], name: str) -> str:
    """A step with an effect in the saga's own database."""
    tx.execute(WORK.insert(), {"id": name})
    return name


@transaction(name="bench.erase")
def erase(tx: Tx, env: StepEnv[None], name: str) -> None:
    """Its undo."""
    tx.execute(WORK.delete().where(WORK.c.id == name))


@remote(name="bench.call")
async def call(env: StepEnv[None], name: str) -> str:
    """A step that talks to somebody who answers at once."""
    return name


@remote(name="bench.uncall")
async def uncall(env: StepEnv[None], name: str) -> None:
    """Its undo."""


@saga("bench.local")
async def local(s: Saga) -> None:
    """Three transaction steps."""
    for n in range(STEPS):
        await s.do(write, f"{s.id}/{n}", undo=erase, key=str(n))


@saga("bench.far")
async def far(s: Saga) -> None:
    """Three remote steps."""
    for n in range(STEPS):
        await s.do(call, f"{s.id}/{n}", undo=uncall, key=str(n))


async def measure(name: str, count: int, concurrency: int) -> None:
    """Accept and run ``count`` sagas and print how it went."""
    with tempfile.TemporaryDirectory() as where:
        db = Database(f"sqlite:///{where}/bench.db")
        db.run_sync(META.create_all)
        clock, ids = SystemClock(), RandomIds()

        def fill(tx: Tx) -> None:
            for _ in range(count):
                accept(tx, name, [], server_id=ids.uuid(), asked=Asked(), ids=ids, clock=clock)

        await db.run(fill)
        runner = Runner(
            Kit(databases={"api": db}, clock=clock, limits=Limits(concurrency=concurrency))
        )
        wall, cpu = time.perf_counter(), time.process_time()
        await runner.drain()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        print(
            f"{name:12} concurrency {concurrency:3}: {count / wall:7.0f} sagas/s,"
            f" {cpu * 1000 / count / STEPS:6.2f} ms CPU per step"
        )
        db.close()


async def main(count: int) -> None:
    """All four figures; the first round only warms up."""
    await measure("bench.local", 20, 1)
    for name in ("bench.local", "bench.far"):
        for concurrency in (1, 50):
            await measure(name, count, concurrency)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 500))
