"""Every scenario under crashes, failures, cancels, repetitions; bad sagas are noticed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kilonova.workflows.engine.saga import Saga
from kilonova.workflows.engine.steps import remote, saga
from kilonova.workflows.harness import (
    SCENARIOS,
    Golden,
    Scenario,
    explore,
    record,
    replay,
)
from tests.sagas.examples import BuildStage, Env, opened

GOLDEN = Path(__file__).parent / "golden"
THOROUGH = bool(os.environ.get("KILONOVA_TEST_THOROUGH"))


@pytest.mark.timeout(900 if THOROUGH else 120)
@pytest.mark.parametrize("name", [n for n in SCENARIOS if not n.startswith("server ")])
async def test_a_saga_keeps_every_promise(name: str) -> None:
    assert await explore(SCENARIOS.get(name), thorough=THOROUGH) == []


@pytest.mark.parametrize("file", sorted(GOLDEN.glob("*.json")), ids=lambda f: f.stem)
async def test_journals_of_former_releases_still_finish(file: Path) -> None:
    golden = msgspec.json.decode(file.read_bytes(), type=Golden)
    assert len(golden.moments) > 5
    assert await replay(SCENARIOS.get(golden.scenario), golden) == []


async def test_journals_recorded_now_finish() -> None:
    what = SCENARIOS.get("delete")
    golden = msgspec.json.decode(msgspec.json.encode(await record(what)), type=Golden)
    assert await replay(what, golden) == []


# -- sagas with mistakes that the harness must notice ----------------------------------------------


@remote(name="bad.append")
async def append(env: Env, port: str) -> None:
    env.world.ports[f"{port}-{len(env.world.ports)}"] = "h1"


@remote(name="bad.bind")
async def bind(env: Env, port: str) -> None:
    await env.world.bind(port, "h1")


@remote(name="bad.strict_unbind")
async def strict_unbind(env: Env, port: str) -> None:
    del env.world.ports[port]


@saga("bad.no_undo")
async def no_undo(s: Saga, port: str) -> None:
    await s.do(bind, port)
    await s.do(bind, "p2", key="2")


@saga("bad.not_idempotent")
async def not_idempotent(s: Saga, port: str) -> None:
    await s.do(append, port)


@saga("bad.strict_undo")
async def strict_undo(s: Saga, port: str) -> None:
    await s.do(bind, port, undo=strict_unbind)


COUNT = {"runs": 0}


@saga("bad.takes_chances")
async def takes_chances(s: Saga, port: str) -> None:
    COUNT["runs"] += 1
    await s.do(bind, f"p{COUNT['runs']}")
    await s.do(bind, "p2", key="2", undo=strict_unbind)


class BadStage(BuildStage):
    saga = ""

    async def start(self) -> tuple[str, str]:
        COUNT["runs"] = 0
        return "api", await self.accept(self.saga, "p1")

    async def audit(self) -> list[str]:
        row = (await self.states())[0][1]
        return [f"left: {self.neighbour.ports}"] if self.neighbour.ports and row != "done" else []


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("bad.no_undo", "failure at before bad.bind#2: left"),
        ("bad.not_idempotent", "crash at effect bad.append: outcome"),
        ("bad.strict_undo", "failure at before bad.strict_undo: ended stuck"),
        ("bad.takes_chances", "crash at journal bad.bind: ended stuck"),
    ],
)
async def test_mistakes_are_noticed(name: str, found: str) -> None:
    def stage() -> Any:
        made = BadStage()
        made.saga = name
        return opened(made)

    problems = await explore(Scenario(name, name, stage))
    found = found.replace("bad.strict_undo:", "bad.bind:")
    assert any(p.startswith(found) for p in problems), problems
