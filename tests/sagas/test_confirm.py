"""Resizes that nobody confirms."""

from __future__ import annotations

from kilonova.base.ids import RandomIds
from kilonova.db.cells import Cell
from kilonova.workflows.engine.runner import Runner
from kilonova.workflows.harness import states
from kilonova.workflows.reconcilers.confirm import Confirmer
from tests.sagas.cloud import CELL, opened
from tests.sagas.moves import Resize


async def test_a_resize_is_confirmed_by_itself() -> None:
    async with opened(Resize()) as stage:
        cell = Cell(CELL, "cell1", stage.cell)
        confirmer = Confirmer(cell=cell, clock=stage.clock, ids=RandomIds(), seconds=60)
        await stage.start()  # type: ignore[attr-defined]
        await confirmer.reconcile()
        await Runner(stage.kit()).drain()
        await confirmer.reconcile()
        await stage.clock.sleep(30)
        await confirmer.reconcile()
        assert (await stage.outcome())["server"][CELL]["states"][0] == "resized"
        await stage.clock.sleep(31)
        for _ in range(2):
            await confirmer.reconcile()
        await Runner(stage.kit()).drain()
        ended = [name for name, state in await states(stage.databases) if state == "done"]
        assert ended.count("server.confirm_resize") == 1
        server = (await stage.outcome())["server"][CELL]
        assert server["states"][:2] == ["active", None]
        assert [action for action, *_ in server["actions"]][-2:] == ["confirmResize", "resize"]
        assert await stage.audit() == []
