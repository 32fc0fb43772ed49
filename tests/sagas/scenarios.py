"""Scenarios of the server sagas."""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec

from kilonova.db.database import Tx
from kilonova.domain.sagas import (
    ATTACH_INTERFACE,
    CRASH_DUMP,
    DETACH_INTERFACE,
    PAUSE,
    REBOOT,
    RESTORE,
    SOFT_DELETE,
    START,
    STOP,
    UNPAUSE,
    AttachArgs,
    PortArgs,
    RebootArgs,
    ServerArgs,
)
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


class Pause(There):
    async def start(self) -> tuple[str, str]:
        return await self.act(PAUSE, ServerArgs(self.server), "pause", Task.PAUSING)


class Unpause(There):
    async def prepare(self) -> None:
        await super().prepare()
        await self.act(PAUSE, ServerArgs(self.server), "pause", Task.PAUSING)
        await Runner(self.kit()).drain()

    async def start(self) -> tuple[str, str]:
        return await self.act(UNPAUSE, ServerArgs(self.server), "unpause", Task.UNPAUSING)


class SoftDelete(There):
    async def start(self) -> tuple[str, str]:
        return await self.act(SOFT_DELETE, ServerArgs(self.server), "delete", Task.SOFT_DELETING)


class Restore(There):
    async def prepare(self) -> None:
        await super().prepare()
        await self.act(SOFT_DELETE, ServerArgs(self.server), "delete", Task.SOFT_DELETING)
        await Runner(self.kit()).drain()

    async def start(self) -> tuple[str, str]:
        return await self.act(RESTORE, ServerArgs(self.server), "restore", Task.RESTORING)


class CrashDump(There):
    async def start(self) -> tuple[str, str]:
        def work(tx: Tx) -> None:
            self._record(tx, CRASH_DUMP.action)
            self._accept(tx, CRASH_DUMP, ServerArgs(self.server), f"req-{CRASH_DUMP.action}")

        await self.cell.run(work)
        return await self.saga()


class Attach(There):
    card = WantedNic("9", network_id="n2", tag="third")

    async def start(self) -> tuple[str, str]:
        return await self.plug_card(ATTACH_INTERFACE, AttachArgs(self.server, self.card))


class AttachGiven(Attach):
    card = WantedNic("9", port_id=GIVEN)

    async def open(self) -> None:
        await super().open()
        self.network.table[GIVEN] = Port(GIVEN, "n1", "p1", "fa:16:3e:00:00:99")


class AttachRefused(Attach):
    async def open(self) -> None:
        await super().open()
        self.fakes.fails("attach_nic", times=None, late=True)


class Detach(There):
    async def start(self) -> tuple[str, str]:
        (port,) = self.network.table
        return await self.plug_card(DETACH_INTERFACE, PortArgs(self.server, port))


class DetachGiven(Detach):
    async def prepare(self) -> None:
        self.network.table[GIVEN] = Port(GIVEN, "n1", "p1", "fa:16:3e:00:00:99")
        await super().prepare()

    nics = (WantedNic("0", port_id=GIVEN),)


class DetachRefused(Detach):
    async def open(self) -> None:
        await super().open()
        self.fakes.fails("detach_nic", times=None)


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
    ("pause", "server.pause", Pause, "done"),
    ("unpause", "server.unpause", Unpause, "done"),
    ("soft delete", "server.soft_delete", SoftDelete, "done"),
    ("restore", "server.restore", Restore, "done"),
    ("crash dump", "server.crash_dump", CrashDump, "done"),
    ("attach of a card", "server.attach_interface", Attach, "done"),
    ("attach of a given port", "server.attach_interface", AttachGiven, "done"),
    ("attach that fails", "server.attach_interface", AttachRefused, "undone"),
    ("detach of a card", "server.detach_interface", Detach, "done"),
    ("detach of a given port", "server.detach_interface", DetachGiven, "done"),
    ("detach that fails", "server.detach_interface", DetachRefused, "undone"),
    ("failing reboot", "server.reboot", FailingReboot, "undone"),
):
    scenario(f"server {name}", saga, ends=ends)(stage(kind))
