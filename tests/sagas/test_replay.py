"""Replays are answered by name; code may change under a living saga, and misfits are caught."""

from __future__ import annotations

import pytest

from kilonova.db.database import Tx
from kilonova.workflows import operate
from kilonova.workflows.engine.runner import Runner
from kilonova.workflows.engine.saga import Saga
from kilonova.workflows.engine.steps import StepEnv, remote, saga, transaction
from kilonova.workflows.harness import Crash, Script, states
from tests.sagas.examples import Neighbour, World, put

Env = StepEnv[Neighbour]
CALLS: list[str] = []
MOOD = {"version": 1}


@pytest.fixture(autouse=True)
def _fresh() -> None:
    CALLS.clear()
    MOOD["version"] = 1


@remote(name="r.call")
async def call(env: Env, word: str) -> str:
    CALLS.append(word)
    await env.world.bind(word, "x")
    return word.upper()


@remote(name="r.uncall")
async def uncall(env: Env, word: str) -> None:
    await env.world.unbind(word)


@remote(name="r.say", formerly=("r.old_say",))
async def say(env: Env, word: str) -> str:
    CALLS.append(f"say {word}")
    return word


@transaction(name="r.note")
def note(tx: Tx, env: Env, word: str) -> None:
    CALLS.append(f"note {word}")


@remote(name="r.fresh")
async def fresh(env: Env, word: str) -> None:
    CALLS.append(f"{word} {'again' if env.again else 'first'}")


@transaction(db="cell", name="r.note_home")
def note_home(tx: Tx, env: Env, word: str) -> str:
    CALLS.append(f"home {word}")
    put(tx, word, "there")
    return word.upper()


@saga("r.fresh")
async def freshly(s: Saga) -> None:
    await s.do(fresh, "undone", undo=uncall)
    await s.do(fresh, "not undone", key="2")


@saga("r.home")
async def home(s: Saga) -> str:
    s.cell = "cell1"
    return await s.do(note_home, "word")


@saga("r.moody")
async def moody(s: Saga) -> None:
    await s.do(call, f"v{MOOD['version']}", undo=uncall)
    await s.do(note, "end")


@saga("r.double")
async def double(s: Saga) -> None:
    await s.do(call, "a", undo=uncall)
    await s.do(call, "b", undo=uncall)


@saga("r.chain")
async def chain(s: Saga) -> None:
    await s.do(call, "a", undo=uncall)
    await s.do(call, "b", undo=uncall, key="2")
    await s.do(say, "c")


@saga("r.renamed")
async def renamed(s: Saga) -> None:
    if MOOD["version"] == 1:
        await s.do(call, "x", undo=uncall, key="before")
        await s.attempt(old_part, "y", key="k")
    else:
        await s.do(call, "x", undo=uncall, key="after", formerly=["r.call#before"])
        await s.do(call, "new", undo=uncall, key="new")
        await s.attempt(new_part, "y", key="k", formerly=["old_part"])
    await s.do(note, "end")


async def old_part(s: Saga, word: str) -> None:
    await s.do(call, word, undo=uncall)
    await s.do(note, word)


async def new_part(s: Saga, word: str) -> None:
    await s.do(call, word, undo=uncall)
    await s.do(note, word)


async def crash(world: World, moment: str, step: str) -> None:
    with pytest.raises(Crash):
        await Runner(world.kit(Script(crash={(moment, step)}))).drain()


@pytest.mark.parametrize("moment", ["intent", "before", "effect", "journal"])
async def test_a_step_is_told_whether_it_may_have_begun_before(world: World, moment: str) -> None:
    await world.accept("r.fresh")
    await crash(world, moment, "r.fresh")
    begun = {"intent": [], "before": []}.get(moment, ["undone first"])
    assert begun == CALLS
    await Runner(world.kit()).drain()
    again = ["undone again"] if moment != "journal" else []
    # Without an undo nothing is written before it begins, so nobody can be certain.
    assert begun + again + ["not undone again"] == CALLS


@pytest.mark.parametrize(
    ("moment", "step", "written"),
    [
        # The end of a step goes with the beginning of the next, and nothing is between the two.
        ("intent", "r.call#2", ["done", "started"]),
        ("effect", "r.call#2", ["done", "started"]),
        # What begins without a word begins after the end of the step before it.
        ("before", "r.say", ["done", "done"]),
    ],
)
async def test_the_end_of_a_remote_step_is_written_before_the_next_begins(
    world: World, moment: str, step: str, written: list[str]
) -> None:
    saga_id = await world.accept("r.chain")
    await crash(world, moment, step)
    found = await operate.show_saga(world.databases, saga_id)
    assert [one.status for one in found.steps] == written
    await Runner(world.kit()).drain()
    again = ["b"] if moment == "effect" else []
    assert ["a", "b", *again, "say c"] == CALLS


async def test_a_step_at_home_without_an_undo_is_written_once(world: World) -> None:
    saga_id = await world.accept("r.home")
    await crash(world, "effect", "r.note_home")
    assert (await operate.show_saga(world.databases, saga_id)).steps == []
    await Runner(world.kit()).drain()
    assert CALLS == ["home word"]
    found = await operate.show_saga(world.databases, saga_id)
    assert [(step.name, step.status) for step in found.steps] == [("r.note_home", "done")]


async def test_other_arguments_park_the_saga_with_a_reason(world: World) -> None:
    saga_id = await world.accept("r.moody")
    await crash(world, "journal", "r.call")
    MOOD["version"] = 2
    await Runner(world.kit()).drain()
    (stuck,) = await operate.list_sagas(world.databases, stuck=True)
    assert "r.call is asked with other arguments" in stuck.error
    MOOD["version"] = 1
    await operate.retry_saga(world.databases, saga_id, world.clock)
    await Runner(world.kit()).drain()
    assert await states(world.databases) == [("r.moody", "done")]
    assert CALLS == ["v1", "note end"]


async def test_a_saga_that_does_not_fit_can_be_taken_back(world: World) -> None:
    saga_id = await world.accept("r.moody")
    await crash(world, "journal", "r.call")
    MOOD["version"] = 2
    await Runner(world.kit()).drain()
    await operate.skip_saga(world.databases, saga_id, world.clock)
    await Runner(world.kit()).drain()
    assert await states(world.databases) == [("r.moody", "cancelled")]
    assert world.neighbour.ports == {}


async def test_the_same_name_twice_is_said_clearly(world: World) -> None:
    await world.accept("r.double")
    await Runner(world.kit()).drain()
    (stuck,) = await operate.list_sagas(world.databases, stuck=True)
    assert stuck.error == "step r.call comes twice; give each its key="


@pytest.mark.parametrize(
    "step", ["r.call#before", "old_part#k/r.call", "old_part#k/r.note", "old_part#k"]
)
async def test_renamed_steps_and_parts_are_recognized(world: World, step: str) -> None:
    await world.accept("r.renamed")
    await crash(world, "journal", step)
    MOOD["version"] = 2
    await Runner(world.kit()).drain()
    assert await states(world.databases) == [("r.renamed", "done")]
    assert sorted(CALLS) == ["new", "note end", "note y", "x", "y"]


async def test_a_renamed_part_is_taken_back_with_its_old_steps(world: World) -> None:
    await world.accept("r.renamed")
    await crash(world, "journal", "old_part#k/r.call")
    MOOD["version"] = 2
    await Runner(world.kit(Script(fail={("before", "new_part#k/r.note")}))).drain()
    assert await states(world.databases) == [("r.renamed", "done")]
    assert set(world.neighbour.ports) == {"x", "new"}


async def test_a_step_known_by_its_former_name_runs_undo_and_saga() -> None:
    from kilonova.workflows.engine.steps import STEPS

    assert STEPS.get("r.old_say") is STEPS.get("r.say")
