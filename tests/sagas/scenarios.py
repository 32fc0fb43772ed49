"""Scenarios of the server sagas."""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec

from kilonova.domain.sagas import REBOOT, START, STOP, RebootArgs, ServerArgs
from kilonova.domain.server import WantedNic
from kilonova.domain.states import Task
from kilonova.interfaces.network import Port
from kilonova.workflows.engine.runner import Runner
from kilonova.workflows.harness import scenario
from tests.sagas.cloud import GIVEN, CloudStage, opened


def stage(kind: type[CloudStage]) -> Any:
    """What opens a stage of that kind."""

    def enter() -> contextlib.AbstractAsyncContextManager[CloudStage]:
        return opened(kind())

    return enter


class Build(CloudStage):
    async def start(self) -> tuple[str, str]:
        return await self.create()


class GivenPort(Build):
    nics = (WantedNic("0", port_id=GIVEN),)
    owner = ""

    async def open(self) -> None:
        await super().open()
        self.network.table[GIVEN] = Port(
            GIVEN, "n1", "p1", "fa:16:3e:00:00:01", device_id=self.owner
        )


class TakenPort(GivenPort):
    owner = "00000000-0000-4000-8000-00000000beef"

    async def audit(self) -> list[str]:
        left = [p for p in await super().audit() if not p.startswith(f"port.orphan {GIVEN}")]
        port = self.network.table[GIVEN]
        return left if port.device_id == self.owner else [*left, "somebody's port was taken away"]


class AutoNetwork(Build):
    nics = (WantedNic("0", auto=True),)


class FirstHostBroken(Build):
    async def open(self) -> None:
        await super().open()
        self.fakes.fails("spawn", on="h1", times=None, late=True)


class FirstHostDies(Build):
    async def open(self) -> None:
        await super().open()
        await self.dies("h1")


class NoHost(Build):
    hosts = ()


class NeverOpened(Build):
    nics = (WantedNic("0", network_id="n1"),)
    hosts = ("h1",)

    async def open(self) -> None:
        await super().open()
        self.network.opens = False
        default = msgspec.structs.replace(self.settings.default, vif_plugging_timeout=3)
        self.settings = msgspec.structs.replace(self.settings, default=default)


class There(CloudStage):
    """A server is there already."""

    nics = (WantedNic("0", network_id="n1"),)

    async def prepare(self) -> None:
        await super().prepare()
        await self.create()
        await Runner(self.kit()).drain()


class Delete(There):
    async def start(self) -> tuple[str, str]:
        return await self.delete()


class DeleteBuried(Delete):
    hosts = ()


class DeleteOnDeadHost(Delete):
    async def start(self) -> tuple[str, str]:
        await self.dies("h1")
        return await self.delete()


class Stop(There):
    async def start(self) -> tuple[str, str]:
        return await self.act(STOP, ServerArgs(self.server), "os-stop", Task.POWERING_OFF)


class Start(There):
    async def prepare(self) -> None:
        await super().prepare()
        await self.act(STOP, ServerArgs(self.server), "os-stop", Task.POWERING_OFF)
        await Runner(self.kit()).drain()

    async def start(self) -> tuple[str, str]:
        return await self.act(START, ServerArgs(self.server), "os-start", Task.POWERING_ON)


class SoftReboot(There):
    hard = False

    async def start(self) -> tuple[str, str]:
        return await self.act(
            REBOOT, RebootArgs(self.server, self.hard), "reboot-soft", Task.REBOOTING
        )


class HardReboot(SoftReboot):
    hard = True


class FailingReboot(HardReboot):
    async def open(self) -> None:
        await super().open()
        self.fakes.fails("reboot", times=None)


for name, saga, kind, ends in (
    ("build", "server.build", Build, "done"),
    ("build with a given port", "server.build", GivenPort, "done"),
    ("build with a port that is taken", "server.build", TakenPort, "undone"),
    ("build on an automatic network", "server.build", AutoNetwork, "done"),
    ("build, first host broken", "server.build", FirstHostBroken, "done"),
    ("build, first host dies", "server.build", FirstHostDies, "done"),
    ("build without a valid host", "server.build", NoHost, "undone"),
    ("build, ports never opened", "server.build", NeverOpened, "undone"),
    ("delete", "server.delete", Delete, "done"),
    ("delete in cell0", "server.delete", DeleteBuried, "done"),
    ("delete on a dead host", "server.delete", DeleteOnDeadHost, "done"),
    ("stop", "server.stop", Stop, "done"),
    ("start", "server.start", Start, "done"),
    ("soft reboot", "server.reboot", SoftReboot, "done"),
    ("hard reboot", "server.reboot", HardReboot, "done"),
    ("failing reboot", "server.reboot", FailingReboot, "undone"),
):
    scenario(f"server {name}", saga, ends=ends)(stage(kind))
