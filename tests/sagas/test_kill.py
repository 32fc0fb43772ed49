"""A conductor is killed by the system, again and again, in the middle of its sagas."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from kilonova.base.clock import SystemClock
from kilonova.base.ids import RandomIds
from kilonova.db.database import Database, Tx
from kilonova.workflows.engine.accept import accept
from kilonova.workflows.engine.kit import Kit, Limits
from kilonova.workflows.engine.runner import Runner
from kilonova.workflows.engine.saga import Saga
from kilonova.workflows.engine.steps import Asked, StepEnv, remote, saga, transaction
from kilonova.workflows.harness import states
from tests.sagas.examples import META, drop, put, things

SAGAS = 30


@transaction(name="k.here")
def here(tx: Tx, env: StepEnv[Path], name: str) -> None:
    assert f"here:{name}" not in things(tx)
    put(tx, f"here:{name}", "1")


@transaction(name="k.not_here")
def not_here(tx: Tx, env: StepEnv[Path], name: str) -> None:
    drop(tx, f"here:{name}")


@transaction(db="cell", name="k.there")
def there(tx: Tx, env: StepEnv[Path], name: str) -> None:
    assert f"there:{name}" not in things(tx)
    put(tx, f"there:{name}", "1")


@transaction(db="cell", name="k.not_there")
def not_there(tx: Tx, env: StepEnv[Path], name: str) -> None:
    drop(tx, f"there:{name}")


@remote(name="k.touch")
async def touch(env: StepEnv[Path], name: str) -> None:
    (env.world / name).touch()
    await asyncio.sleep(0.01)


@remote(name="k.untouch")
async def untouch(env: StepEnv[Path], name: str) -> None:
    (env.world / name).unlink(missing_ok=True)


@transaction(name="k.last")
def last(tx: Tx, env: StepEnv[Path], name: str) -> None:
    if int(name) % 3 == 0:
        raise ValueError("every third fails at its end")


@saga("k.work")
async def work(s: Saga, name: str) -> None:
    s.cell = "cell"
    await s.do(here, name, undo=not_here)
    await s.do(touch, name, undo=untouch)
    await s.do(there, name, undo=not_there)
    await s.do(last, name)


def kit(where: Path) -> Kit:
    return Kit(
        databases={
            "own": Database(f"sqlite:///{where}/own.db"),
            "cell": Database(f"sqlite:///{where}/cell.db"),
        },
        clock=SystemClock(),
        world=where / "files",
        limits=Limits(lease=0.4, poll=0.05, concurrency=8, backoff_first=0.05),
    )


def test_a_killed_conductor_leaves_nothing_half_done(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    mine = kit(tmp_path)
    for db in mine.databases.values():
        db.run_sync(META.create_all)

    def fill(tx: Tx) -> None:
        for n in range(SAGAS):
            accept(
                tx,
                "k.work",
                [str(n)],
                server_id=f"s{n}",
                asked=Asked(),
                ids=RandomIds(),
                clock=mine.clock,
            )

    mine.databases["own"].run_sync(fill)
    chance = random.Random(4)
    for _ in range(5):
        child = subprocess.Popen(
            [sys.executable, "-c", f"from {__name__} import main; main()", str(tmp_path)],
            cwd=Path(__file__).parents[2],
            env=os.environ | {"PYTHONPATH": "."},
            stdout=subprocess.PIPE,
        )
        assert child.stdout is not None and child.stdout.readline() == b"up\n"
        time.sleep(chance.uniform(0.02, 0.12))
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()

    async def rest() -> list[tuple[str, str]]:
        async with asyncio.timeout(30):
            await Runner(mine).drain()
        return await states(mine.databases)

    ends = asyncio.run(rest())
    for db in mine.databases.values():
        left = {k.split(":")[1] for k in db.run_sync(things)}
        assert left == {str(n) for n in range(SAGAS) if n % 3}
        db.close()
    assert {f.name for f in (tmp_path / "files").iterdir()} == left
    assert sorted(s for _, s in ends) == ["done"] * 20 + ["undone"] * 10


def main() -> None:
    """The conductor that is killed."""
    print("up", flush=True)
    asyncio.run(Runner(kit(Path(sys.argv[1]))).run())
