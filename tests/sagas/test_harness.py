"""Every scenario under crashes, failures, cancels and repetitions."""

from __future__ import annotations

import pytest

from kilonova.workflows.harness import SCENARIOS, explore, play
from tests.sagas import examples  # noqa: F401


@pytest.mark.parametrize("name", list(SCENARIOS))
async def test_a_saga_keeps_every_promise(name: str) -> None:
    assert await explore(SCENARIOS.get(name)) == []


async def test_play() -> None:
    p = await play(SCENARIOS.get("build"))
    print(p)
