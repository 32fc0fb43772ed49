"""Scenarios of servers that rest: suspended, shelved."""

from __future__ import annotations

from kilonova.domain.sagas import RESUME, SUSPEND, ServerArgs
from kilonova.domain.states import Task
from kilonova.workflows.engine.runner import Runner
from kilonova.workflows.harness import scenario
from tests.sagas.scenarios import There, stage


class Suspend(There):
    async def start(self) -> tuple[str, str]:
        return await self.act(SUSPEND, ServerArgs(self.server), "suspend", Task.SUSPENDING)


class SuspendInVain(Suspend):
    async def open(self) -> None:
        await super().open()
        self.fakes.fails("suspend", times=None)


class Resume(There):
    async def prepare(self) -> None:
        await super().prepare()
        await self.act(SUSPEND, ServerArgs(self.server), "suspend", Task.SUSPENDING)
        await Runner(self.kit()).drain()

    async def start(self) -> tuple[str, str]:
        return await self.act(RESUME, ServerArgs(self.server), "resume", Task.RESUMING)


class ResumeInVain(Resume):
    async def open(self) -> None:
        await super().open()
        self.fakes.fails("wake", times=None)


for name, saga, kind, ends in (
    ("suspend", "server.suspend", Suspend, "done"),
    ("suspend in vain", "server.suspend", SuspendInVain, "undone"),
    ("resume", "server.resume", Resume, "done"),
    ("resume in vain", "server.resume", ResumeInVain, "undone"),
):
    scenario(f"server {name}", saga, ends=ends)(stage(kind))
