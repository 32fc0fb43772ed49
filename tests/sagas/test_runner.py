"""The conductor's loop: wake-ups, leases, bounds, absent databases, shutdown, the visible side."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from sqlalchemy import exc

from kilonova.base.clock import SystemClock
from kilonova.base.errors import Unavailable
from kilonova.db.database import Database, Tx
from kilonova.workflows import operate
from kilonova.workflows.engine import journal
from kilonova.workflows.engine.kit import Happening, Limits
from kilonova.workflows.engine.runner import Runner, nudge
from kilonova.workflows.engine.saga import Saga
from kilonova.workflows.engine.steps import StepEnv, remote, saga, transaction
from kilonova.workflows.engine.waits import Wanted
from kilonova.workflows.harness import states
from tests.sagas.examples import Neighbour, World, put

Env = StepEnv[Neighbour]
NOW: dict[str, int] = {"running": 0, "most": 0}


@remote(name="n.busy")
async def busy(env: Env, seconds: float) -> None:
    NOW["running"] += 1
    NOW["most"] = max(NOW["most"], NOW["running"])
    await asyncio.sleep(seconds)
    NOW["running"] -= 1


@transaction(name="n.put")
def put_it(tx: Tx, env: Env, word: str) -> None:
    put(tx, word, "1")


@saga("n.busy", action="busy")
async def keep_busy(s: Saga, seconds: float) -> None:
    await s.do(busy, seconds, task="busying")
    await s.do(put_it, s.id, task="putting")


@saga("n.wait")
async def wait(s: Saga, subject: str) -> None:
    await s.wait(Wanted(subject, ("go",)), within=1e9)


class Loop:
    """A runner at work on the system's clock."""

    def __init__(self, world: World, **more: Any) -> None:
        world.clock = SystemClock()  # type: ignore[assignment]
        self.runner = Runner(world.kit(**more))

    async def __aenter__(self) -> Runner:
        self.task = asyncio.create_task(self.runner.run(grace=0.05))
        return self.runner

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def ended(world: World, count: int, seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while sum(s == "done" for _, s in await states(world.databases)) < count:
            await asyncio.sleep(0.01)


async def test_a_nudge_starts_a_saga_at_once(world: World) -> None:
    async with Loop(world, limits=Limits(poll=60)) as runner:
        await world.bus.serve("conductor", runner.methods())
        await asyncio.sleep(0.05)
        await world.accept("n.busy", 0.0)
        begun = time.monotonic()
        await nudge(world.bus)
        await ended(world, 1)
        assert time.monotonic() - begun < 1


async def test_without_a_nudge_the_poll_finds_it(world: World) -> None:
    async with Loop(world, limits=Limits(poll=0.1)):
        await asyncio.sleep(0.05)
        await world.accept("n.busy", 0.0)
        await ended(world, 1)


async def test_concurrency_is_bounded_and_waiting_ones_do_not_count(world: World) -> None:
    NOW["most"] = 0
    for n in range(6):
        await world.accept("n.wait", f"w{n}", server_id=f"w{n}")
    for n in range(9):
        await world.accept("n.busy", 0.02, server_id=f"b{n}")
    async with Loop(world, limits=Limits(concurrency=3, poll=0.05)):
        await ended(world, 9)
    assert NOW["most"] == 3


async def test_leases_are_renewed(world: World) -> None:
    await world.accept("n.busy", 0.8)
    async with Loop(world, limits=Limits(lease=0.3, poll=0.05)):
        await asyncio.sleep(0.5)
        other = Runner(world.kit())
        assert await other.take() == 0
        await ended(world, 1)
    (view,) = await operate.list_sagas(world.databases, ended=True)
    assert view.epoch == 1


async def test_a_stopped_conductor_gives_its_sagas_back(world: World) -> None:
    NOW["running"] = 0
    await world.accept("n.busy", 30.0)
    async with Loop(world):
        async with asyncio.timeout(5):
            while not NOW["running"]:
                await asyncio.sleep(0.01)
    (view,) = await operate.list_sagas(world.databases)
    assert (view.owner, view.state) == (None, "running")
    assert await Runner(world.kit()).take() == 1


class Flaky:
    """A database that is away for a while."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.away = 0

    async def run(self, work: Any, *args: Any, **kwargs: Any) -> Any:
        self._check()
        return await self._db.run(work, *args, **kwargs)

    async def read(self, work: Any, *args: Any, **kwargs: Any) -> Any:
        self._check()
        return await self._db.read(work, *args, **kwargs)

    def _check(self) -> None:
        if self.away > 0:
            self.away -= 1
            raise Unavailable("not reachable") from exc.OperationalError("", None, Exception())


@pytest.mark.parametrize("which", ["api", "cell1"])
async def test_an_absent_database_only_delays(world: World, which: str) -> None:
    flaky = {name: Flaky(db) for name, db in world.databases.items()}
    await world.accept("example.build", "s1", ["p1"])
    absences = [3]

    def hook(moment: str, step: str) -> None:
        if absences and step == "build_on#h1/example.enter" and moment == "intent":
            flaky[which].away = absences.pop()

    await Runner(world.kit(hook, databases=flaky)).drain()
    assert await states(world.databases) == [("example.build", "done")]


class Shown:
    """Keeps what it is told, in the order of time."""

    tells_ends = True

    def __init__(self) -> None:
        self.told: list[tuple[str, str, str]] = []

    def step_started(self, tx: Tx, what: Happening) -> None:
        self.told.append(("started", what.step, what.task))

    def step_finished(self, tx: Tx, what: Happening) -> None:
        self.told.append(("finished", what.step, what.error.message if what.error else ""))

    def saga_ended(self, tx: Tx, what: Happening) -> None:
        self.told.append(("ended", what.state, what.kind.action))


async def test_the_visible_side_is_told_in_order(world: World) -> None:
    shown = Shown()
    await world.accept("n.busy", 0.0)
    await Runner(world.kit(visible=shown)).drain()
    assert shown.told == [
        ("started", "n.busy", "busying"),
        ("finished", "n.busy", ""),
        ("started", "n.put", "putting"),
        ("finished", "n.put", ""),
        ("ended", "done", "busy"),
    ]


async def test_the_visible_side_is_told_of_failures_in_another_database(world: World) -> None:
    shown = Shown()
    world.broken_hosts |= {"h1", "h2"}
    await world.accept("example.build", "s1", ["p1"])
    await Runner(world.kit(visible=shown)).drain()
    assert ("finished", "build_on#h1/example.spawn", "h1 has no memory") in shown.told
    assert shown.told[-1] == ("ended", "undone", "create")


async def test_a_restart_takes_over_from_its_dead_predecessor_at_once(world: World) -> None:
    saga_id = await world.accept("n.busy", 0.0)
    dead = Runner(world.kit())
    await dead.kit.databases["api"].run(
        journal.claim, ["n.busy"], dead.owner, dead.kit.now(), 1e6, 1
    )
    async with Loop(world):
        async with asyncio.timeout(5):
            while [state for _, state in await states(world.databases)] != ["done"]:
                await asyncio.sleep(0.01)
    row = await world.databases["api"].read(journal.load, saga_id)
    assert row is not None and row.epoch == 2


@pytest.mark.parametrize("column", ["request", "args"])
async def test_a_saga_that_cannot_be_read_ends_or_is_stuck_with_the_reason(
    world: World, column: str
) -> None:
    await world.accept("n.busy", 0.0)
    broken = journal.SAGAS.update().values({column: "{broken"})
    await world.databases["api"].run(lambda tx: tx.execute(broken))
    runner = Runner(world.kit())
    await runner.drain()
    (view,) = await operate.list_sagas(world.databases, ended=True)
    if column == "args":
        # Nothing was done that would have to be taken back.
        assert view.state == "undone"
        return
    assert view.state == "stuck"
    assert "cannot be read" in view.error
    await operate.retry_saga(world.databases, view.id, world.clock)
    await runner.drain()
    (view,) = await operate.list_sagas(world.databases, stuck=True)
    mended = journal.SAGAS.update().values(request="{}")
    await world.databases["api"].run(lambda tx: tx.execute(mended))
    await operate.retry_saga(world.databases, view.id, world.clock)
    await runner.drain()
    assert [state for _, state in await states(world.databases)] == ["done"]
