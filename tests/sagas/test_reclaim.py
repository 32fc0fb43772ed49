"""Soft-deleted servers are deleted for good, shelved ones taken off their hosts, in time."""

from __future__ import annotations

from kilonova.base.ids import RandomIds
from kilonova.db.cells import Cell
from kilonova.workflows.engine.runner import Runner
from kilonova.workflows.harness import states
from kilonova.workflows.reconcilers.reclaim import Reclaimer
from kilonova.workflows.reconcilers.shelved import Offloader
from tests.sagas.cloud import CELL, opened
from tests.sagas.resting import ShelveAndStay
from tests.sagas.scenarios import SoftDelete


async def test_what_nobody_restored_is_deleted() -> None:
    async with opened(SoftDelete()) as stage:
        cell = Cell(CELL, "cell1", stage.cell)
        reclaimer = Reclaimer(cell=cell, clock=stage.clock, ids=RandomIds(), seconds=60)
        await stage.start()  # type: ignore[attr-defined]
        await Runner(stage.kit()).drain()
        await reclaimer.reconcile()
        await stage.clock.sleep(30)
        await reclaimer.reconcile()
        assert (await stage.outcome())["server"][CELL]["states"][0] == "soft-delete"
        await stage.clock.sleep(31)
        for _ in range(2):
            await reclaimer.reconcile()
        await Runner(stage.kit()).drain()
        ended = [name for name, state in await states(stage.databases) if state == "done"]
        assert ended.count("server.delete") == 1
        end = await stage.outcome()
        assert (end["server"][CELL]["states"][0], end["holds"], end["ports"]) == ("deleted", {}, [])
        assert await stage.audit() == []


async def test_what_was_shelved_leaves_its_host_in_time() -> None:
    async with opened(ShelveAndStay()) as stage:
        cell = Cell(CELL, "cell1", stage.cell)
        offloader = Offloader(cell=cell, clock=stage.clock, ids=RandomIds(), seconds=60)
        await stage.start()  # type: ignore[attr-defined]
        await offloader.reconcile()
        await Runner(stage.kit()).drain()
        await stage.clock.sleep(30)
        await offloader.reconcile()
        here = (await stage.outcome())["server"][CELL]
        assert (here["states"][0], here["host"]) == ("shelved", "h1")
        await stage.clock.sleep(31)
        for _ in range(2):
            await offloader.reconcile()
        await Runner(stage.kit()).drain()
        end = await stage.outcome()
        gone = end["server"][CELL]
        assert (gone["states"][0], gone["host"]) == ("shelved_offloaded", None)
        assert "shelveOffload" in [action[0] for action in gone["actions"]]
        assert (end["holds"], end["guests"]["h1"]) == ({}, [])
        assert [port[2] for port in end["ports"]] == [""]
        assert await stage.audit() == []
