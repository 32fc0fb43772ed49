"""Scenarios of the sagas that make a guest anew, rescue it, or change its password."""

from __future__ import annotations

from typing import Any, ClassVar

from kilonova.base.ids import RandomIds
from kilonova.db.database import Tx
from kilonova.domain.guest import ImageRef
from kilonova.domain.request import RequestSpec, Selection
from kilonova.domain.sagas import (
    REBUILD,
    RESCUE,
    SET_PASSWORD,
    STOP,
    UNRESCUE,
    Former,
    RebuildArgs,
    Reimage,
    RescueArgs,
    SagaKind,
    ServerArgs,
)
from kilonova.domain.states import Task
from kilonova.store import pending, servers
from kilonova.workflows.engine.runner import Runner
from kilonova.workflows.harness import scenario
from tests.sagas.cloud import HOSTS, SECRET
from tests.sagas.scenarios import There, ThereWithVolumes, stage

NEW_IMAGE = ImageRef("new-image", properties={"trait:CUSTOM_A": "forbidden"})
OLD_IMAGE = ImageRef("old-image")


class Secretive(There):
    """Work that knows a secret until it has ended."""

    action = "rebuild"
    task = Task.REBUILDING
    changes: ClassVar[dict[str, Any]] = {}

    async def begin(self, kind: SagaKind[Any], args: Any) -> tuple[str, str]:
        def work(tx: Tx) -> None:
            private = servers.private(tx, self.server)
            assert private is not None
            servers.begin(
                tx,
                self.server,
                self.action,
                task=self.task,
                now=self.clock.now(),
                system=pending.put(private.system, pending.Pending(SECRET)),
                **self.changes,
            )
            self._record(tx, kind.action)
            self._accept(tx, kind, args, f"req-{kind.action}")

        await self.cell.run(work)
        return await self.saga()

    async def audit(self) -> list[str]:
        private = await self.cell.read(servers.private, self.server)
        left = private is not None and SECRET in str(private.system)
        return [*await super().audit(), *(["a password lies beside the server"] if left else [])]

    async def outcome(self) -> Any:
        server = await self.cell.read(servers.get, self.server, deleted=True)
        image = server.image.id if server is not None and server.image is not None else ""
        guests = [g for host in HOSTS for g in self.fakes.guests(host).values()]
        return await super().outcome() | {
            "image": image,
            "inside": [[g.image, g.rescue, g.passwords] for g in guests],
        }


class Rebuild(Secretive):
    changes: ClassVar[dict[str, Any]] = {"image": NEW_IMAGE}
    stopped = False
    preserve = False

    async def start(self) -> tuple[str, str]:
        args = RebuildArgs(self.server, Former(OLD_IMAGE), self.stopped, self.preserve)
        return await self.begin(REBUILD, args)


class RebuildStopped(Rebuild):
    stopped = True

    async def prepare(self) -> None:
        await super().prepare()
        await self.act(STOP, ServerArgs(self.server), "os-stop", Task.POWERING_OFF)
        await Runner(self.kit()).drain()


class FailingRebuild(Rebuild):
    async def open(self) -> None:
        await super().open()
        self.fakes.fails("rebuild", times=None, late=True)


class RebuildPreserving(Rebuild):
    preserve = True


class RebuildRefused(Rebuild):
    """The host does not do for the new image."""

    async def select(self, request: RequestSpec) -> Selection:
        assert not request.rebuild or request.requested_host == "h1"
        return Selection() if request.rebuild else await super().select(request)


class RebuildWithoutTrait(Rebuild):
    """What the server holds has not the trait that the image wants."""

    changes: ClassVar[dict[str, Any]] = {
        "image": ImageRef("new-image", properties={"trait:CUSTOM_A": "required"})
    }


class Reimaged(Secretive, ThereWithVolumes):
    """The root volume gets the data of another image."""

    async def open(self) -> None:
        await super().open()
        self.volumes.tell = self.tell

    async def tell(self, server_id: str, name: str) -> None:
        def write(tx: Tx) -> None:
            self.sagas.signal(tx, server_id, name, ids=RandomIds(), clock=self.clock)

        await self.cell.run(write)

    async def start(self) -> tuple[str, str]:
        root = Reimage("disk-0", NEW_IMAGE, 60.0)
        return await self.begin(REBUILD, RebuildArgs(self.server, Former(), root=root))


class NeverReimaged(Reimaged):
    async def tell(self, server_id: str, name: str) -> None:
        await super().tell(server_id, f"{name}:failed")


class Rescue(Secretive):
    action = "rescue"
    task = Task.RESCUING

    async def start(self) -> tuple[str, str]:
        return await self.begin(RESCUE, RescueArgs(self.server, NEW_IMAGE, NEW_IMAGE.id))


class FailingRescue(Rescue):
    async def open(self) -> None:
        await super().open()
        self.fakes.fails("rescue", times=None)


class Unrescue(Rescue):
    async def prepare(self) -> None:
        await super().prepare()
        await self.begin(RESCUE, RescueArgs(self.server, NEW_IMAGE))
        await Runner(self.kit()).drain()

    async def start(self) -> tuple[str, str]:
        return await self.act(UNRESCUE, ServerArgs(self.server), "unrescue", Task.UNRESCUING)


class FailingUnrescue(Unrescue):
    async def open(self) -> None:
        await super().open()
        self.fakes.fails("unrescue", times=None)


class DeleteRescued(Unrescue):
    async def start(self) -> tuple[str, str]:
        return await self.delete()


class ChangePassword(Secretive):
    action = "changePassword"
    task = Task.UPDATING_PASSWORD

    async def start(self) -> tuple[str, str]:
        return await self.begin(SET_PASSWORD, ServerArgs(self.server))


class PasswordWithoutAgent(ChangePassword):
    async def open(self) -> None:
        await super().open()
        self.fakes.without_agent(self.server)


for name, saga, kind, ends in (
    ("rebuild", "server.rebuild", Rebuild, "done"),
    ("rebuild while it is off", "server.rebuild", RebuildStopped, "done"),
    ("rebuild that fails", "server.rebuild", FailingRebuild, "undone"),
    ("rebuild that keeps ephemeral disks", "server.rebuild", RebuildPreserving, "undone"),
    ("rebuild on a host that does not do", "server.rebuild", RebuildRefused, "undone"),
    ("rebuild without a trait", "server.rebuild", RebuildWithoutTrait, "undone"),
    ("rebuild of a root volume", "server.rebuild", Reimaged, "done"),
    ("rebuild of a root volume in vain", "server.rebuild", NeverReimaged, "undone"),
    ("rescue", "server.rescue", Rescue, "done"),
    ("rescue that fails", "server.rescue", FailingRescue, "undone"),
    ("unrescue", "server.unrescue", Unrescue, "done"),
    ("unrescue that fails", "server.unrescue", FailingUnrescue, "undone"),
    ("delete of a rescued one", "server.delete", DeleteRescued, "done"),
    ("new password", "server.set_password", ChangePassword, "done"),
    ("new password without an agent", "server.set_password", PasswordWithoutAgent, "undone"),
):
    scenario(f"server {name}", saga, ends=ends)(stage(kind))
