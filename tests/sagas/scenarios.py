"""Scenarios of the server sagas."""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec

from kilonova.db.database import Tx
from kilonova.domain.request import RequestSpec, Selection
from kilonova.domain.resources import Group
from kilonova.domain.sagas import REBOOT, START, STOP, RebootArgs, ServerArgs
from kilonova.domain.server import BuildRequest, BuildSpec, WantedNic
from kilonova.domain.states import Task
from kilonova.interfaces.network import Port
from kilonova.store import groups
from kilonova.workflows.engine.runner import Runner
from kilonova.workflows.harness import scenario
from tests.sagas.cloud import GIVEN, CloudStage, opened
from tests.support import compute


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


class InGroup(Build):
    """An anti-affinity group whose other members came while the scheduler did not look."""

    others: tuple[str, ...] = ("h1",)

    async def prepare(self) -> None:
        await super().prepare()
        await self.api.run(self._join)

    def _join(self, tx: Tx) -> None:
        group = Group("g1", "g", "p1", "u1", "anti-affinity", {})
        groups.create(tx, group, now=self.clock.now(), limit=9)
        groups.add_members(tx, "g1", [self.server], limit=9)
        for number, host in enumerate(self.others, 2):
            assert groups.take_place(tx, "g1", compute.server_id(number), host) is None

    async def open(self) -> None:
        await super().open()
        self.looked = False

    def request(self) -> tuple[BuildRequest, BuildSpec]:
        request, spec = super().request()
        return request, msgspec.structs.replace(spec, group_id="g1")

    async def select(self, request: RequestSpec) -> Selection:
        assert request.group is not None
        chosen = await super().select(request)
        stale, self.looked = not self.looked, True
        if stale:
            return Selection((chosen.servers[0][:1],))
        counts = request.group.counts
        left = tuple(ref for ref in chosen.servers[0] if not counts.get(ref.host))
        return Selection((left,) if left else ())

    async def outcome(self) -> Any:
        return await super().outcome() | {"counts": await self.api.read(groups.counts, "g1")}

    async def audit(self) -> list[str]:
        # The other members are places only, without servers.
        there = {compute.server_id(number) for number, _ in enumerate(self.others, 2)}
        return [p for p in await super().audit() if p.split()[1].rstrip(":") not in there]


class FullGroup(InGroup):
    others = ("h1", "h2")


class BrokenInGroup(InGroup):
    others = ()

    async def open(self) -> None:
        await super().open()
        self.fakes.fails("spawn", on="h1", times=None)

    async def select(self, request: RequestSpec) -> Selection:
        return await CloudStage.select(self, request)


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


class DeleteInGroup(InGroup, Delete):
    others = ()

    async def prepare(self) -> None:
        await CloudStage.prepare(self)
        await self.api.run(self._join)
        self.looked = False
        await self.create()
        await Runner(self.kit()).drain()

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
    ("build in a group, a race lost", "server.build", InGroup, "done"),
    ("build in a group that is full", "server.build", FullGroup, "undone"),
    ("build in a group, first host broken", "server.build", BrokenInGroup, "done"),
    ("delete", "server.delete", Delete, "done"),
    ("delete in a group", "server.delete", DeleteInGroup, "done"),
    ("delete in cell0", "server.delete", DeleteBuried, "done"),
    ("delete on a dead host", "server.delete", DeleteOnDeadHost, "done"),
    ("stop", "server.stop", Stop, "done"),
    ("start", "server.start", Start, "done"),
    ("soft reboot", "server.reboot", SoftReboot, "done"),
    ("hard reboot", "server.reboot", HardReboot, "done"),
    ("failing reboot", "server.reboot", FailingReboot, "undone"),
):
    scenario(f"server {name}", saga, ends=ends)(stage(kind))
