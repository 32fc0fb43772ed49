"""Random small sagas with random crashes, failures and cancels keep the invariants."""

from __future__ import annotations

import asyncio

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kilonova.db.database import Tx
from kilonova.workflows.engine import journal
from kilonova.workflows.engine.accept import cancel
from kilonova.workflows.engine.runner import Runner
from kilonova.workflows.engine.saga import Saga
from kilonova.workflows.engine.steps import StepEnv, Undo, remote, saga, transaction
from kilonova.workflows.harness import Crash
from tests.sagas.examples import DESTROY, SPAWN, Guest, Neighbour, World, drop, put, things

Env = StepEnv[Neighbour]


class Op(msgspec.Struct, frozen=True):
    """A line of a random saga: here, there, call, on, fail, or a part."""

    kind: str
    parts: tuple[Op, ...] = ()


@transaction(name="x.here")
def here(tx: Tx, env: Env, name: str) -> str:
    assert name not in things(tx), "a transaction step ran twice"
    put(tx, name, "here")
    return name


@transaction(name="x.not_here")
def not_here(tx: Tx, env: Env, name: str) -> None:
    drop(tx, name)


@transaction(db="cell", name="x.there")
def there(tx: Tx, env: Env, name: str) -> str:
    assert name not in things(tx), "a transaction step ran twice"
    put(tx, name, "there")
    return name


@transaction(db="cell", name="x.not_there")
def not_there(tx: Tx, env: Env, name: str) -> None:
    drop(tx, name)


@remote(name="x.call")
async def call(env: Env, name: str) -> str:
    await env.world.bind(name, "x")
    return env.ids.uuid()


@remote(name="x.uncall")
async def uncall(env: Env, name: str) -> None:
    await env.world.unbind(name)


@transaction(name="x.fail")
def fail(tx: Tx, env: Env, name: str) -> None:
    put(tx, name, "half")
    raise ValueError(name)


@saga("x.random")
async def play(s: Saga, ops: list[Op], path: str) -> None:
    s.cell = "cell1"
    for n, op in enumerate(ops):
        name = f"{path}.{n}"
        match op.kind:
            case "here":
                assert await s.do(here, name, undo=not_here, key=name) == name
            case "there":
                assert await s.do(there, name, undo=not_there, key=name) == name
            case "call":
                await s.do(call, name, undo=uncall, key=name)
            case "on":
                guest = Guest(name, "h1")
                await s.on("h1", SPAWN, guest, undo=Undo(DESTROY, guest), key=name)
            case "fail":
                await s.do(fail, name, key=name)
            case "part":
                await s.attempt(play, list(op.parts), name, key=name)


def model(ops: tuple[Op, ...], path: str) -> set[str] | None:
    """What a saga leaves; None when it fails."""
    left: set[str] = set()
    for n, op in enumerate(ops):
        name = f"{path}.{n}"
        if op.kind == "fail":
            return None
        if op.kind == "part":
            left |= model(op.parts, name) or set()
        else:
            left.add(name)
    return left


simple = st.sampled_from(["here", "there", "call", "on"]).map(Op)
failing = st.just(Op("fail"))


def lines(inner: st.SearchStrategy[Op]) -> st.SearchStrategy[tuple[Op, ...]]:
    return st.lists(inner, min_size=1, max_size=4).map(tuple)


part = lines(simple | failing).map(lambda ops: Op("part", ops))
nested = lines(simple | part | failing).map(lambda ops: Op("part", ops))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    ops=lines(simple | simple | part | nested | failing),
    crashes=st.sets(st.integers(0, 60), max_size=4),
    failing_undos=st.integers(0, 2),
    cancel_at=st.none() | st.integers(0, 3),
)
def test_random_sagas_end_well(
    ops: tuple[Op, ...], crashes: set[int], failing_undos: int, cancel_at: int | None
) -> None:
    asyncio.run(perform(ops, crashes, failing_undos, cancel_at))


async def perform(
    ops: tuple[Op, ...], crashes: set[int], failing_undos: int, cancel_at: int | None
) -> None:
    world = World()
    await world.open()
    world.neighbour.fails("unbind", failing_undos)
    count = [0]

    def hook(moment: str, step: str) -> None:
        count[0] += 1
        if count[0] in crashes:
            raise Crash(moment)

    try:
        saga_id = await world.accept("x.random", list(ops), "")
        crashed = 0
        while True:
            try:
                await Runner(world.kit(hook)).drain()
                break
            except Crash:
                if crashed == cancel_at:
                    await world.databases["api"].run(ask_to_stop, saga_id)
                crashed += 1
        row = await world.databases["api"].read(journal.load, saga_id)
        assert row is not None and row.living_for is None
        left = {n for rows in (await world.things()).values() for n in rows}
        left |= set(world.neighbour.ports) | set(world.guests)
        expected = model(ops, "")
        if row.state == "done":
            assert left == expected
        else:
            assert left == set()
            assert expected is None or row.state == "cancelled"
        assert all(n == 1 for agent in world.agents.values() for n in agent.runs.values())
    finally:
        await world.close()


def ask_to_stop(tx: Tx, saga_id: str) -> None:
    row = journal.load(tx, saga_id)
    if row is not None and row.state in journal.RUNNABLE:
        cancel(tx, row, row.updated_at)
