"""Operations on hosts: joined, answered again, refused when stale, failed with a dead agent."""

from __future__ import annotations

import asyncio

import pytest

from kilonova.base.errors import Conflict
from kilonova.workflows import operate
from kilonova.workflows.engine.kit import Limits
from kilonova.workflows.engine.runner import Runner
from kilonova.workflows.engine.saga import Saga
from kilonova.workflows.engine.steps import Undo, saga
from kilonova.workflows.harness import Crash, Script, states
from tests.sagas.examples import DESTROY, RESUME, SPAWN, Guest, World


@saga("h.spawn")
async def spawn(s: Saga, server_id: str) -> str:
    guest = Guest(server_id, "h1")
    made = await s.on("h1", SPAWN, guest, undo=Undo(DESTROY, guest))
    await s.on("h1", RESUME, guest)
    return made.host


async def until(condition: object, seconds: float = 5.0) -> None:
    assert callable(condition)
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


async def error_of(world: World, saga_id: str) -> str:
    return (await operate.show_saga(world.databases, saga_id)).saga.error


async def test_a_new_conductor_joins_the_work_of_the_old_one(world: World) -> None:
    gate = asyncio.Event()
    agent = world.agents["h1"]
    real = agent.work[SPAWN.name]

    async def slow(guest: Guest) -> Guest:
        await gate.wait()
        result: Guest = await real(guest)
        return result

    agent.work[SPAWN.name] = slow
    agent.patience = 0.02
    saga_id = await world.accept("h.spawn", "s1")
    first, second = Runner(world.kit()), Runner(world.kit())
    await first.take()
    await until(lambda: agent.running)
    await world.clock.sleep(31)
    assert await second.take() == 1
    await asyncio.sleep(0.1)
    gate.set()
    await second.settle()
    await first.settle()
    assert await states(world.databases) == [("h.spawn", "done")]
    assert agent.runs == {f"{saga_id}/example.spawn": 1, f"{saga_id}/example.resume": 1}


async def test_a_sleeping_conductor_is_fenced_everywhere(world: World) -> None:
    """It wakes in the middle of a step, after another conductor has taken everything back."""
    asleep, wake = asyncio.Event(), asyncio.Event()
    real = world.neighbour.bind

    async def sleepy(port: str, host: str) -> None:
        asleep.set()
        await wake.wait()
        await real(port, host)

    world.neighbour.bind = sleepy  # type: ignore[method-assign]
    await world.accept("example.build", "s1", ["p1"])
    first = Runner(world.kit())
    await first.take()
    await asleep.wait()
    await world.clock.sleep(31)
    world.neighbour.bind = real  # type: ignore[method-assign]
    await world.accept("t.other", "x", cancels=True)
    await Runner(world.kit()).drain()
    things = await world.things()
    wake.set()
    await first.settle()
    assert await states(world.databases) == [("example.build", "cancelled"), ("t.other", "done")]
    assert await world.things() == things
    assert world.guests == {}


@saga("t.other")
async def other(s: Saga, word: str) -> None:
    pass


async def test_a_late_request_of_an_old_epoch_is_refused_by_the_agent(world: World) -> None:
    await world.accept("h.spawn", "s1")
    with pytest.raises(Crash):
        await Runner(world.kit(Script(crash={("intent", "example.spawn")}))).drain()
    await world.accept("t.other", "x", cancels=True)
    await Runner(world.kit()).drain()
    assert await states(world.databases) == [("h.spawn", "cancelled"), ("t.other", "done")]
    import msgspec

    from kilonova.domain.operations import OperationId, OperationRequest
    from tests.sagas.examples import Guest as G

    saga_id = next(iter(world.agents["h1"].epochs))
    late = OperationRequest(
        OperationId(saga_id, "example.spawn", 1),
        SPAWN.name,
        "s1",
        msgspec.msgpack.encode(G("s1", "h1")),
        10,
    )
    reply = await world.agents["h1"].operate(late)
    assert (reply.state, reply.error) == ("failed", "Stale")
    assert world.guests == {}


async def test_an_agent_that_restarts_is_asked_again(world: World) -> None:
    agent = world.agents["h1"]
    real = agent.work[SPAWN.name]
    begun = asyncio.Event()

    async def hangs(guest: Guest) -> Guest:
        begun.set()
        await asyncio.sleep(60)
        return guest

    agent.work[SPAWN.name] = hangs
    agent.patience = 0.02
    await world.accept("h.spawn", "s1")
    runner = Runner(world.kit())
    await runner.take()
    await begun.wait()
    await agent.stop()
    agent.work[SPAWN.name] = real
    await asyncio.sleep(0.02)
    await agent.start()
    await runner.drain()
    assert world.guests == {"s1": "h1"}


async def test_a_dead_agent_fails_the_operation(world: World) -> None:
    await world.agents["h1"].stop()
    world.dead_hosts.add("h1")
    saga_id = await world.accept("h.spawn", "s1")
    await Runner(world.kit(limits=Limits(undo_tries=2))).drain()
    assert await states(world.databases) == [("h.spawn", "stuck")]
    (stuck,) = await operate.list_sagas(world.databases, stuck=True)
    assert stuck.step == "undo of example.spawn" and "does not answer" in stuck.error
    await world.agents["h1"].start()
    await operate.retry_saga(world.databases, saga_id, world.clock)
    await Runner(world.kit()).drain()
    assert await states(world.databases) == [("h.spawn", "undone")]
    assert "agent on h1" in await error_of(world, saga_id)


async def test_an_operation_ends_at_its_deadline(world: World) -> None:
    await world.agents["h1"].stop()
    saga_id = await world.accept("h.spawn", "s1")
    runner = Runner(world.kit(limits=Limits(undo_tries=1)))
    await runner.drain()
    assert await states(world.databases) == [("h.spawn", "stuck")]
    detail = await operate.show_saga(world.databases, saga_id)
    (spawned,) = detail.steps
    assert "did not end within 600 s" in (spawned.error or "")


async def test_the_fault_of_an_agent_keeps_its_class_and_words(world: World) -> None:
    world.broken_hosts |= {"h1", "h2"}
    saga_id = await world.accept("example.build", "s1", ["p1"])
    await Runner(world.kit()).drain()
    assert await error_of(world, saga_id) == "No host for s1: h2 has no memory"
    assert (await world.things())["api"]["fault:s1"] == "No host for s1: h2 has no memory"


async def test_a_cancel_does_not_wait_for_a_long_operation(world: World) -> None:
    agent = world.agents["h1"]
    begun = asyncio.Event()

    async def long(guest: Guest) -> Guest:
        begun.set()
        await asyncio.sleep(0.3)
        world.guests["s1"] = "h1"
        return guest

    agent.work[SPAWN.name] = long
    await world.accept("h.spawn", "s1")
    runner = Runner(world.kit())
    task = asyncio.create_task(runner.run(grace=0))
    await begun.wait()
    await world.accept("t.other", "x", cancels=True)
    runner.wake()
    async with asyncio.timeout(5):
        while await states(world.databases) != [("h.spawn", "cancelled"), ("t.other", "done")]:
            await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert world.guests == {}


async def test_a_host_that_fails_is_left_for_the_next(world: World) -> None:
    world.broken_hosts.add("h1")
    await world.accept("example.build", "s1", ["p1", "p2"])
    await Runner(world.kit()).drain()
    assert world.guests == {"s1": "h2"}
    assert world.neighbour.ports == {"p1": "h2", "p2": "h2"}


def test_conflict_is_known_by_name() -> None:
    from kilonova.workflows.engine.errors import StepFailed, fault_named

    assert isinstance(fault_named("Conflict", "x"), Conflict)
    assert isinstance(fault_named("ValueError", "x"), StepFailed)
