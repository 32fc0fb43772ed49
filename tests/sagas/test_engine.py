"""The five words, failure, cancel, fencing and stuck sagas, on every database engine."""

from __future__ import annotations

import asyncio
import datetime as dt

import msgspec
import pytest
import sqlalchemy as sa

from kilonova.base.errors import Conflict, Timeout
from kilonova.db.database import Tx
from kilonova.workflows import operate
from kilonova.workflows.engine import journal
from kilonova.workflows.engine.accept import accept, let_go, living
from kilonova.workflows.engine.errors import Busy
from kilonova.workflows.engine.kit import Limits
from kilonova.workflows.engine.runner import Runner
from kilonova.workflows.engine.saga import Saga
from kilonova.workflows.engine.steps import Asked, StepEnv, remote, saga, transaction
from kilonova.workflows.engine.waits import Wanted, signal
from kilonova.workflows.harness import Crash, Script, finish, states
from kilonova.workflows.reconcilers.journals import Journals
from tests.sagas.examples import Neighbour, World, drop, put, things

Env = StepEnv[Neighbour]
CALLS: list[str] = []


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    CALLS.clear()


class Made(msgspec.Struct, frozen=True):
    id: str
    at: dt.datetime
    sizes: tuple[int, ...]


@remote(name="t.make")
async def make(env: Env, name: str) -> Made:
    CALLS.append(f"make {name}")
    await env.world.bind(name, env.ids.uuid())
    return Made(env.world.ports[name], env.clock.now(), (1, 2))


@remote(name="t.unmake")
async def unmake(env: Env, name: str) -> None:
    CALLS.append(f"unmake {name}")
    await env.world.unbind(name)


@transaction(name="t.write")
def write(tx: Tx, env: Env, name: str, made: Made) -> str:
    assert things(tx).get(name) is None
    put(tx, name, made.id)
    return made.id


@transaction(name="t.erase")
def erase(tx: Tx, env: Env, name: str, made: Made) -> None:
    drop(tx, name)


@transaction(db="cell", name="t.write_cell")
def write_cell(tx: Tx, env: Env, name: str) -> None:
    assert things(tx).get(name) is None
    put(tx, name, "cell")


@transaction(db="cell", name="t.erase_cell")
def erase_cell(tx: Tx, env: Env, name: str) -> None:
    drop(tx, name)


@transaction(name="t.fail")
def fail(tx: Tx, env: Env, message: str) -> None:
    put(tx, "half", "done")
    raise Conflict(message)


@saga("t.two")
async def two(s: Saga, name: str) -> str:
    s.cell = "cell1"
    made = await s.do(make, name, undo=unmake, task="making")
    assert isinstance(made, Made)
    await s.do(write_cell, name, undo=erase_cell)
    return await s.do(write, name, made, undo=erase)


@saga("t.failing")
async def failing(s: Saga, name: str) -> None:
    s.cell = "cell1"
    made = await s.do(make, name, undo=unmake)
    await s.do(write_cell, name, undo=erase_cell)
    await s.do(write, name, made, undo=erase)
    await s.do(fail, "no more")


@saga("t.waiting")
async def waiting(s: Saga, within: float) -> str:
    await s.do(make, "w", undo=unmake)
    got = await s.wait(
        Wanted("s1", ("ready",), bad=("broken",)), within=within, at="cell1", key="it"
    )
    return str(got["ready"])


@saga("t.catching")
async def catching(s: Saga) -> str:
    try:
        await s.do(fail, "a reason")
    except Conflict as error:
        await s.do(make, "after", undo=unmake)
        return error.message
    return "?"


async def run(world: World, limits: Limits | None = None) -> None:
    await Runner(world.kit(**({"limits": limits} if limits else {}))).drain()


async def one(world: World, saga_id: str) -> operate.SagaDetail:
    return await operate.show_saga(world.databases, saga_id)


async def test_effects_and_memory_are_committed_together(everywhere: World) -> None:
    world = everywhere
    saga_id = await world.accept("t.two", "a")
    await run(world)
    row = await world.databases["api"].read(journal.load, saga_id)
    assert row and row.state == "done" and row.living_for is None and row.owner is None
    here = await world.things()
    assert here == {"api": {"a": msgspec.json.decode(row.result or "")}, "cell1": {"a": "cell"}}
    assert here["api"]["a"] == world.neighbour.ports["a"]
    detail = await one(world, saga_id)
    assert [s.name for s in detail.steps] == ["t.make", "t.write_cell", "t.write"]
    assert [u.step for u in detail.undo] == ["t.write", "t.write_cell", "t.make"]


@pytest.mark.parametrize("moment", ["intent", "effect", "journal"])
async def test_a_crash_in_the_other_database_is_healed_by_its_receipt(
    everywhere: World, moment: str
) -> None:
    world = everywhere
    await world.accept("t.two", "a")
    script = Script(crash={(moment, "t.write_cell")})
    await finish_with(world, script)
    assert script.crashes == 1
    assert await states(world.databases) == [("t.two", "done")]
    assert (await world.things())["cell1"] == {"a": "cell"}
    assert CALLS == ["make a"]


async def finish_with(world: World, script: Script) -> None:
    await finish(world, script)  # type: ignore[arg-type]


async def test_a_failure_takes_everything_back_newest_first(everywhere: World) -> None:
    world = everywhere
    saga_id = await world.accept("t.failing", "a")
    await run(world)
    assert await world.things() == {"api": {}, "cell1": {}}
    assert world.neighbour.ports == {}
    detail = await one(world, saga_id)
    assert detail.saga.state == "undone"
    assert detail.saga.error == "no more" and detail.saga.step == "t.fail"


async def test_a_failure_that_was_caught_is_caught_again_in_a_replay(world: World) -> None:
    saga_id = await world.accept("t.catching")
    await finish_with(world, Script(crash={("effect", "t.make")}))
    row = await world.databases["api"].read(journal.load, saga_id)
    assert row and row.state == "done" and row.result == '"a reason"'


async def test_one_living_saga_per_server(everywhere: World) -> None:
    world = everywhere
    first = await world.accept("t.two", "a")
    with pytest.raises(Busy) as busy:
        await world.accept("t.two", "b")
    assert (busy.value.saga_id, busy.value.name, busy.value.status) == (first, "t.two", 409)
    await run(world)
    await world.accept("t.two", "b")


async def test_the_database_decides_a_race_for_a_server(everywhere: World) -> None:
    world = everywhere
    came = await asyncio.gather(
        *(world.accept("t.two", str(n)) for n in range(8)), return_exceptions=True
    )
    assert sum(isinstance(c, str) for c in came) == 1
    assert sum(isinstance(c, Busy) for c in came) == 7


async def test_a_delete_cancels_and_waits_its_turn(everywhere: World) -> None:
    world = everywhere
    await world.accept("t.waiting", 1e9)
    runner = Runner(world.kit())
    await runner.take()
    while "w" not in world.neighbour.ports:
        await asyncio.sleep(0.01)
    await world.accept("t.two", "after", cancels=True)
    with pytest.raises(Busy):
        await world.accept("t.two", "third", cancels=True)
    await runner.drain()
    assert await states(world.databases) == [("t.waiting", "cancelled"), ("t.two", "done")]
    assert list(world.neighbour.ports) == ["after"]


async def test_a_deletion_passes_by_another_one_that_waits(everywhere: World) -> None:
    world = everywhere
    await world.accept("t.waiting", 1e9)
    runner = Runner(world.kit())
    await runner.take()
    while "w" not in world.neighbour.ports:
        await asyncio.sleep(0.01)
    await world.accept("t.two", "soft", cancels=True)
    await world.accept("t.failing", "hard", cancels=True)
    with pytest.raises(Busy):
        await world.accept("t.failing", "again", cancels=True)
    await runner.drain()
    assert await states(world.databases) == [
        ("t.waiting", "cancelled"),
        ("t.two", "cancelled"),
        ("t.failing", "undone"),
    ]


async def test_a_saga_cancelled_before_it_ran_does_nothing(world: World) -> None:
    await world.accept("t.two", "a")
    await world.accept("t.two", "b", cancels=True)
    await run(world)
    assert await states(world.databases) == [("t.two", "cancelled"), ("t.two", "done")]
    assert CALLS == ["make b"]


async def test_a_wait_ends_with_the_signal(everywhere: World) -> None:
    world = everywhere
    saga_id = await world.accept("t.waiting", 1e9)
    runner = Runner(world.kit())
    await runner.take()
    while "w" not in world.neighbour.ports:
        await asyncio.sleep(0.01)

    def write(tx: Tx) -> None:
        signal(tx, "s1", "ready", "yes", ids=world.ids, clock=world.clock)

    await world.databases["cell1"].run(write)
    runner.wake()
    await runner.settle()
    row = await world.databases["api"].read(journal.load, saga_id)
    assert row and row.result == '"yes"'


async def test_a_wait_fails_at_its_deadline_and_by_a_bad_signal(world: World) -> None:
    late = await world.accept("t.waiting", 30.0)
    await run(world)
    detail = await one(world, late)
    assert detail.saga.state == "undone" and "did not come in time" in detail.saga.error
    bad = await world.accept("t.waiting", 1e9)

    def write(tx: Tx) -> None:
        signal(tx, "s1", "broken", ids=world.ids, clock=world.clock)

    await world.databases["cell1"].run(write)
    await run(world)
    assert "broken was reported" in (await one(world, bad)).saga.error
    assert world.neighbour.ports == {}


async def test_the_deadline_of_a_wait_survives_a_crash(world: World) -> None:
    await world.accept("t.waiting", 50.0)
    begun = world.clock.now()
    script = Script(crash={("before", "wait#it")})
    with pytest.raises(Crash):
        await Runner(world.kit(script)).drain()
    await world.clock.sleep(45)
    await run(world)
    assert await states(world.databases) == [("t.waiting", "undone")]
    assert (world.clock.now() - begun).total_seconds() < 60


async def test_signals_before_the_saga_do_not_count(world: World) -> None:
    def write(tx: Tx) -> None:
        signal(tx, "s1", "ready", ids=world.ids, clock=world.clock)

    await world.databases["cell1"].run(write)
    await world.accept("t.waiting", 5.0)
    await run(world)
    assert await states(world.databases) == [("t.waiting", "undone")]


async def test_an_undo_that_keeps_failing_is_stuck_until_somebody_helps(
    everywhere: World,
) -> None:
    world = everywhere
    saga_id = await world.accept("t.failing", "a")
    world.neighbour.fails("unbind", 1000)
    await run(world)
    (stuck,) = await operate.list_sagas(world.databases, stuck=True)
    assert (stuck.id, stuck.step, stuck.error) == (saga_id, "undo of t.make", "unbind refused")
    with pytest.raises(Busy):
        await world.accept("t.two", "b")
    await operate.retry_saga(world.databases, saga_id, world.clock)
    await run(world)
    assert await states(world.databases) == [("t.failing", "stuck")]
    world.neighbour.fails("unbind", 0)
    await operate.retry_saga(world.databases, saga_id, world.clock)
    await run(world)
    assert await states(world.databases) == [("t.failing", "undone")]
    assert world.neighbour.ports == {}
    detail = await one(world, saga_id)
    assert detail.saga.error == "no more"
    with pytest.raises(Conflict):
        await operate.retry_saga(world.databases, saga_id, world.clock)


async def test_a_stuck_undo_can_be_skipped(world: World) -> None:
    saga_id = await world.accept("t.failing", "a")
    world.neighbour.fails("unbind", 1000)
    await run(world)
    assert await operate.skip_saga(world.databases, saga_id, world.clock) == "undo of t.make"
    await run(world)
    assert await states(world.databases) == [("t.failing", "undone")]
    assert list(world.neighbour.ports) == ["a"]
    assert (await one(world, saga_id)).undo[-1].state == "skipped"


async def test_a_delete_gives_a_stuck_saga_another_chance(world: World) -> None:
    await world.accept("t.failing", "a")
    world.neighbour.fails("unbind", 4)
    await run(world)
    assert await states(world.databases) == [("t.failing", "stuck")]
    await world.accept("t.two", "b", cancels=True)
    await run(world)
    assert await states(world.databases) == [("t.failing", "undone"), ("t.two", "done")]


async def test_an_undo_backs_off_and_then_works(world: World) -> None:
    await world.accept("t.failing", "a")
    world.neighbour.fails("unbind", 2)
    begun = world.clock.now()
    await run(world)
    assert await states(world.databases) == [("t.failing", "undone")]
    assert (world.clock.now() - begun).total_seconds() >= 3


async def test_a_forward_saga_tries_again_and_is_never_unwound(world: World) -> None:
    saga_id = await world.accept("example.delete", "s1", ["p1"], "h1", cell="cell1")
    world.neighbour.ports["p1"] = "h1"
    world.neighbour.fails("unbind", 2)
    await run(world)
    assert await states(world.databases) == [("example.delete", "done")]
    saga_id = await world.accept("example.delete", "s1", ["p1"], "h1", cell="cell1")
    world.neighbour.fails("unbind", 1000)
    await run(world)
    (stuck,) = await operate.list_sagas(world.databases, stuck=True)
    assert stuck.step == "example.delete_port#p1"
    skipped = await operate.skip_saga(world.databases, saga_id, world.clock)
    assert skipped == "example.delete_port#p1"
    await run(world)
    assert (await one(world, saga_id)).saga.state == "done"


async def test_a_hold_in_the_cell_keeps_other_sagas_away(world: World) -> None:
    world.broken_hosts.add("h1")
    await world.accept("example.build", "s1", ["p1"])
    with pytest.raises(Crash):
        await Runner(world.kit(Script(crash={("journal", "build_on#h2/example.enter")}))).drain()

    def stop(tx: Tx) -> str:
        asked = Asked()
        return accept(
            tx, "t.two", ["x"], server_id="s1", asked=asked, ids=world.ids, clock=world.clock
        )

    with pytest.raises(Busy) as busy:
        await world.databases["cell1"].run(stop)
    assert (busy.value.name, busy.value.state) == ("example.build", "elsewhere")
    await run(world)
    assert await world.databases["cell1"].read(living, "s1") is None
    await world.databases["cell1"].run(stop)
    await world.databases["cell1"].run(let_go, "nothing")


async def test_old_sagas_are_forgotten_with_their_receipts(world: World) -> None:
    await world.accept("t.two", "a")
    await run(world)
    journals = Journals(world.databases, world.clock, keep=60.0)
    await journals.reconcile()
    assert len(await states(world.databases)) == 1
    assert await _receipts(world) == 2
    await world.clock.sleep(61)
    await world.accept("t.two", "b", server_id="s2")
    await journals.reconcile()
    assert [state for _, state in await states(world.databases)] == ["queued"]
    assert await _receipts(world) == 0


async def test_receipts_of_living_sagas_stay(world: World) -> None:
    await world.accept("t.two", "a")
    await run(world)
    api = world.databases["api"]
    await api.run(lambda tx: tx.execute(journal.SAGAS.update().values(ended_at=None)))
    await world.clock.sleep(61)
    await Journals(world.databases, world.clock, keep=60.0).reconcile()
    assert await _receipts(world) == 2


async def _receipts(world: World) -> int:
    query = sa.select(sa.func.count()).select_from(journal.RECEIPTS)
    return int(await world.databases["cell1"].read(lambda tx: tx.execute(query).scalar_one()))


async def test_timeouts_of_remote_steps(world: World) -> None:
    await world.accept("t.slow")
    await run(world)
    (seen,) = await operate.list_sagas(world.databases, ended=True)
    assert seen.state == "undone" and "did not end within" in seen.error


@remote(name="t.hang", seconds=0.05)
async def hang(env: Env) -> None:
    await asyncio.sleep(60)


@saga("t.slow")
async def slow(s: Saga) -> None:
    try:
        await s.do(hang)
    except Timeout:
        await s.do(fail, "hang did not end within its time")
