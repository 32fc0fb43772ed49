"""Scenarios of resizes and cold migrations."""

from __future__ import annotations

from typing import Any

import msgspec

from kilonova.db.database import Tx
from kilonova.domain.guest import FlavorSpec
from kilonova.domain.request import HostRef, RequestSpec, Selection
from kilonova.domain.resources import Group
from kilonova.domain.sagas import (
    CONFIRM_RESIZE,
    MIGRATE,
    RESIZE,
    REVERT_RESIZE,
    SOFT_DELETE,
    STOP,
    MigrateArgs,
    ResizeArgs,
    ServerArgs,
)
from kilonova.domain.server import BuildRequest, BuildSpec
from kilonova.domain.states import Task
from kilonova.scheduler.demand import takes
from kilonova.store import groups, migrations, quotas
from kilonova.workflows.engine.runner import Runner
from kilonova.workflows.harness import scenario
from tests.sagas.cloud import CELL, SERVER, provider
from tests.sagas.scenarios import There, ThereWithVolumes, stage

BIG = FlavorSpec(2, "2", "big", vcpus=2, memory_mb=1024, root_gb=2)


class Mover(There):
    """A server on h1 that may go to h2; ports open when its guest arrives."""

    same = False

    def __init__(self) -> None:
        super().__init__()
        default = msgspec.structs.replace(
            self.settings.default, allow_resize_to_same_host=self.same
        )
        self.settings = msgspec.structs.replace(self.settings, default=default)

    async def select(self, request: RequestSpec) -> Selection:
        left = [
            host
            for host in self.hosts
            if host not in request.ignore_hosts and request.requested_host in (None, host)
        ]
        amount = takes(request.flavor, request.image, boot_from_volume=request.boot_from_volume)
        refs = tuple(HostRef(h, h, provider(h), CELL, {provider(h): dict(amount)}) for h in left)
        return Selection((refs,) if refs else ())

    async def outcome(self) -> Any:
        rows = await self.cell.read(_moves)
        held = {u: (await self.placement.allocations_of(u)).allocations for _, u, *_ in rows}
        return await super().outcome() | {
            "moves": [[kind, *more] for kind, _, *more in rows],
            "held": list(held.values()),
            "aside": {host: sorted(self.fakes.aside(host)) for host in ("h1", "h2")},
            "used": msgspec.to_builtins(await self.api.read(quotas.usage, "p1")),
        }


def _moves(tx: Tx) -> list[list[Any]]:
    found = migrations.page(tx, migrations.MigrationFilter(server_id=SERVER))
    return [[m.type, m.uuid, m.status, m.source_host, m.dest_host] for m in found]


class Resize(Mover):
    async def start(self) -> tuple[str, str]:
        args = ResizeArgs(self.server, BIG)
        return await self.act(RESIZE, args, "resize", Task.RESIZE_PREP)


class ResizeHere(Resize):
    same = True
    hosts = ("h1",)


class Nowhere(Resize):
    hosts = ("h1",)


class Migrate(Mover):
    async def start(self) -> tuple[str, str]:
        args = MigrateArgs(self.server, "h2")
        return await self.act(MIGRATE, args, "migrate", Task.RESIZE_PREP)


class MigrateStopped(Migrate):
    async def prepare(self) -> None:
        await super().prepare()
        await self.act(STOP, ServerArgs(self.server), "os-stop", Task.POWERING_OFF)
        await Runner(self.kit()).drain()


class BrokenThere(Migrate):
    async def open(self) -> None:
        await super().open()
        self.fakes.fails("arrive", on="h2", times=None, late=True)


class BrokenHere(Migrate):
    async def open(self) -> None:
        await super().open()
        self.fakes.fails("depart", on="h1", times=None, late=True)


class MigrateInGroup(Migrate):
    """An anti-affinity group of one."""

    async def prepare(self) -> None:
        await self.api.run(self._join)
        await super().prepare()

    def _join(self, tx: Tx) -> None:
        group = Group("g1", "g", "p1", "u1", "anti-affinity", {})
        groups.create(tx, group, now=self.clock.now(), limit=9)
        groups.add_members(tx, "g1", [self.server], limit=9)

    def request(self) -> tuple[BuildRequest, BuildSpec]:
        request, spec = super().request()
        return request, msgspec.structs.replace(spec, group_id="g1")

    async def outcome(self) -> Any:
        return await super().outcome() | {"counts": await self.api.read(groups.counts, "g1")}


class MigrateWithVolumes(ThereWithVolumes, Mover):
    async def start(self) -> tuple[str, str]:
        args = MigrateArgs(self.server, "h2")
        return await self.act(MIGRATE, args, "migrate", Task.RESIZE_PREP)


class Resized(Resize):
    """It waits in VERIFY_RESIZE."""

    async def prepare(self) -> None:
        await super().prepare()
        await Resize.start(self)
        await Runner(self.kit()).drain()


class Confirm(Resized):
    async def start(self) -> tuple[str, str]:
        args = ServerArgs(self.server)
        return await self.act(CONFIRM_RESIZE, args, "confirmResize", Task.RESIZE_CONFIRMING)


class ConfirmOnDeadHost(Confirm):
    async def open(self) -> None:
        await super().open()
        await self.dies("h1")


class Revert(Resized):
    async def start(self) -> tuple[str, str]:
        args = ServerArgs(self.server)
        return await self.act(REVERT_RESIZE, args, "revertResize", Task.RESIZE_REVERTING)


class ConfirmHere(Confirm):
    same = True
    hosts = ("h1",)


class RevertHere(Revert):
    same = True
    hosts = ("h1",)


class RevertWithVolumes(MigrateWithVolumes):
    async def prepare(self) -> None:
        await super().prepare()
        await MigrateWithVolumes.start(self)
        await Runner(self.kit()).drain()

    async def start(self) -> tuple[str, str]:
        args = ServerArgs(self.server)
        return await self.act(REVERT_RESIZE, args, "revertResize", Task.RESIZE_REVERTING)


class RevertDark(Revert):
    """The guest does not start on its old host."""

    async def open(self) -> None:
        await super().open()
        self.fakes.fails("resume", on="h1", times=None)


class DeleteResized(Resized):
    async def start(self) -> tuple[str, str]:
        return await self.delete()


class DeleteResizedHere(DeleteResized):
    same = True
    hosts = ("h1",)


class SoftDeleteResized(Resized):
    async def start(self) -> tuple[str, str]:
        return await self.act(SOFT_DELETE, ServerArgs(self.server), "delete", Task.SOFT_DELETING)


for name, saga, kind, ends in (
    ("resize", "server.resize", Resize, "done"),
    ("resize on the same host", "server.resize", ResizeHere, "done"),
    ("resize without a valid host", "server.resize", Nowhere, "undone"),
    ("migrate", "server.migrate", Migrate, "done"),
    ("migrate, switched off", "server.migrate", MigrateStopped, "done"),
    ("migrate, broken destination", "server.migrate", BrokenThere, "undone"),
    ("migrate, broken source", "server.migrate", BrokenHere, "undone"),
    ("migrate in a group", "server.migrate", MigrateInGroup, "done"),
    ("migrate with volumes", "server.migrate", MigrateWithVolumes, "done"),
    ("confirm a resize", "server.confirm_resize", Confirm, "done"),
    ("confirm a resize on the same host", "server.confirm_resize", ConfirmHere, "done"),
    ("confirm a resize, source dead", "server.confirm_resize", ConfirmOnDeadHost, "done"),
    ("revert a resize", "server.revert_resize", Revert, "done"),
    ("revert a resize on the same host", "server.revert_resize", RevertHere, "done"),
    ("revert a migration with volumes", "server.revert_resize", RevertWithVolumes, "done"),
    ("revert a resize in vain", "server.revert_resize", RevertDark, "done"),
    ("delete a resized server", "server.delete", DeleteResized, "done"),
    ("delete a server resized on its host", "server.delete", DeleteResizedHere, "done"),
    ("soft delete a resized server", "server.soft_delete", SoftDeleteResized, "done"),
):
    scenario(f"server {name}", saga, ends=ends)(stage(kind))
