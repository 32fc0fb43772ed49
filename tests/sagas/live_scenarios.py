"""Scenarios of live migrations and evacuations."""

from __future__ import annotations

from typing import Any, ClassVar

from kilonova.base.errors import Timeout
from kilonova.db.database import Tx
from kilonova.domain.moves import Kind, Status
from kilonova.domain.resources import Migration
from kilonova.domain.sagas import (
    EVACUATE,
    LIVE_MIGRATE,
    PAUSE,
    STOP,
    EvacuateArgs,
    LiveArgs,
    ServerArgs,
)
from kilonova.domain.states import Task
from kilonova.store import migrations
from kilonova.workflows.engine.runner import Runner
from kilonova.workflows.harness import scenario
from tests.sagas.scenarios import There, ThereWithVolumes, stage


def _records(tx: Tx, server: str) -> list[list[Any]]:
    wanted = migrations.MigrationFilter(server_id=server)
    return [
        [m.type, m.status, m.source_host, m.dest_host, "admin_pass" in m.data]
        for m in migrations.page(tx, wanted)
    ]


class Moves(There):
    """A server that moves; its migration's record and what that holds belong to the outcome."""

    hosts: tuple[str, ...] = ("h1",)

    async def prepare(self) -> None:
        await super().prepare()
        self.hosts = ("h2",)

    async def open(self) -> None:
        await super().open()
        self.hosts = ("h2",)

    async def outcome(self) -> Any:
        found = await super().outcome()
        found["migrations"] = await self.cell.read(_records, self.server)
        found["waiting"] = sorted(self.network.waiting.items())
        found["kept"] = [
            (await self.placement.allocations_of(uuid)).allocations
            for uuid in await self.cell.read(migrations.holders)
        ]
        return found

    async def audit(self) -> list[str]:
        found = await super().audit()
        return [*found, *(f"binding left: {port}" for port in self.network.waiting)]


class Live(Moves):
    args: ClassVar[dict[str, Any]] = {}

    async def start(self) -> tuple[str, str]:
        args = LiveArgs(self.server, **self.args)
        return await self.act(LIVE_MIGRATE, args, "os-migrateLive", Task.MIGRATING)


class LiveToNamed(Live):
    args: ClassVar[dict[str, Any]] = {"host": "h2", "force": True}


class LivePaused(Live):
    async def prepare(self) -> None:
        await super().prepare()
        await self.act(PAUSE, ServerArgs(self.server), "pause", Task.PAUSING)
        await Runner(self.kit()).drain()


class LiveVolumes(Live, ThereWithVolumes):
    pass


class LiveNowhere(Live):
    async def open(self) -> None:
        await super().open()
        self.hosts = ()


class LiveUnsuited(Live):
    """The hosts share their storage, and block migration is asked for."""

    args: ClassVar[dict[str, Any]] = {"block": True}

    async def open(self) -> None:
        await super().open()
        self.fakes.shares_disks(True)


class LiveFails(Live):
    async def open(self) -> None:
        await super().open()
        self.fakes.fails("live_move", times=None, error=Timeout("too slow"))


class LiveFailsLate(Live):
    async def open(self) -> None:
        await super().open()
        self.fakes.fails("live_move", times=None, late=True)


class LiveLost(Live):
    """The memory is lost on the last metre: the server is in ERROR on its new host."""

    async def open(self) -> None:
        await super().open()
        self.fakes.fails("live_arrive", times=None)


class LiveDestinationDies(Live):
    async def open(self) -> None:
        await super().open()
        await self.dies("h2")


class Evacuated(Moves):
    """The host is down, and its guest goes on there, where nobody can reach it."""

    off = False

    async def open(self) -> None:
        await super().open()
        await self.dies("h1")

    async def start(self) -> tuple[str, str]:
        row = Migration(
            id=0,
            uuid="e0000000-0000-4000-8000-000000000001",
            server_id=self.server,
            type=Kind.EVACUATION,
            status=Status.ACCEPTED,
            project_id="p1",
            user_id="u1",
            source_host="h1",
            source_node="h1",
            dest_host=None,
            dest_node=None,
            old_flavor_id=1,
            new_flavor_id=1,
            created_at=self.clock.now(),
            updated_at=None,
            data={"admin_pass": "hunter2-hunter2"},
        )
        await self.cell.run(migrations.add, row)
        args = EvacuateArgs(self.server, row.uuid, off=self.off)
        return await self.act(EVACUATE, args, "evacuate", Task.REBUILDING)

    async def audit(self) -> list[str]:
        # What the dead host still has is nothing that can be seen or ended now.
        return [p for p in await super().audit() if "h1" not in p]


class EvacuatedOff(Evacuated):
    off = True


class EvacuatedStopped(Evacuated):
    async def prepare(self) -> None:
        await super().prepare()
        await self.act(STOP, ServerArgs(self.server), "os-stop", Task.POWERING_OFF)
        await Runner(self.kit()).drain()


class EvacuatedVolumes(Evacuated, ThereWithVolumes):
    pass


class EvacuatedNowhere(Evacuated):
    async def open(self) -> None:
        await super().open()
        self.hosts = ()


class EvacuatedInVain(Evacuated):
    async def open(self) -> None:
        await super().open()
        self.fakes.fails("spawn", on="h2", times=None, late=True)


for name, saga, kind, ends in (
    ("live migration", LIVE_MIGRATE.name, Live, "done"),
    ("live migration to a named host", LIVE_MIGRATE.name, LiveToNamed, "done"),
    ("live migration of a paused guest", LIVE_MIGRATE.name, LivePaused, "done"),
    ("live migration with volumes", LIVE_MIGRATE.name, LiveVolumes, "done"),
    ("live migration without a host", LIVE_MIGRATE.name, LiveNowhere, "undone"),
    ("live migration to a host that does not suit", LIVE_MIGRATE.name, LiveUnsuited, "undone"),
    ("live migration that fails", LIVE_MIGRATE.name, LiveFails, "undone"),
    ("live migration that fails at its end", LIVE_MIGRATE.name, LiveFailsLate, "undone"),
    ("live migration that loses the guest", LIVE_MIGRATE.name, LiveLost, "done"),
    ("live migration to a host that dies", LIVE_MIGRATE.name, LiveDestinationDies, "undone"),
    ("evacuation", EVACUATE.name, Evacuated, "done"),
    ("evacuation to be off", EVACUATE.name, EvacuatedOff, "done"),
    ("evacuation of a stopped server", EVACUATE.name, EvacuatedStopped, "done"),
    ("evacuation with volumes", EVACUATE.name, EvacuatedVolumes, "done"),
    ("evacuation without a host", EVACUATE.name, EvacuatedNowhere, "undone"),
    ("evacuation in vain", EVACUATE.name, EvacuatedInVain, "undone"),
):
    scenario(f"server {name}", saga, ends=ends)(stage(kind))
