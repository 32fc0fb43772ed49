"""Rescues end by themselves, where the operator wants that."""

from __future__ import annotations

from kilonova.base.ids import RandomIds
from kilonova.db.cells import Cell
from kilonova.domain.sagas import UNRESCUE, ServerArgs
from kilonova.domain.states import Task
from kilonova.workflows.engine.runner import Runner
from kilonova.workflows.harness import states
from kilonova.workflows.reconcilers.rescued import RescueEnder
from tests.sagas.cloud import CELL, opened
from tests.sagas.remaking import Rescue


async def test_a_rescue_ends_in_time() -> None:
    async with opened(Rescue()) as stage:
        assert isinstance(stage, Rescue)
        cell = Cell(CELL, "cell1", stage.cell)
        ender = RescueEnder(cell=cell, clock=stage.clock, ids=RandomIds(), seconds=60)
        await stage.start()
        await ender.reconcile()
        await Runner(stage.kit()).drain()
        await ender.reconcile()
        await stage.clock.sleep(30)
        await ender.reconcile()
        assert (await stage.outcome())["server"][CELL]["states"][0] == "rescued"
        await stage.clock.sleep(31)
        for _ in range(2):
            await ender.reconcile()
        await Runner(stage.kit()).drain()
        ended = [name for name, state in await states(stage.databases) if state == "done"]
        assert ended.count("server.unrescue") == 1
        end = await stage.outcome()
        assert end["server"][CELL]["states"][:2] == ["active", None]
        shown = ["unrescue", None, True, [["compute_unrescue_instance", "Success"]]]
        assert shown in end["server"][CELL]["actions"]
        assert await stage.audit() == []


async def test_an_owner_who_is_faster() -> None:
    async with opened(Rescue()) as stage:
        assert isinstance(stage, Rescue)
        cell = Cell(CELL, "cell1", stage.cell)
        ender = RescueEnder(cell=cell, clock=stage.clock, ids=RandomIds(), seconds=60)
        await stage.start()
        await Runner(stage.kit()).drain()
        await stage.clock.sleep(100)
        await stage.act(UNRESCUE, ServerArgs(stage.server), "unrescue", Task.UNRESCUING)
        await ender.reconcile()
        names = [name for name, _ in await states(stage.databases)]
        assert names.count("server.unrescue") == 1
