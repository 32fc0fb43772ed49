"""Scenarios of the sagas that make images of servers."""

from __future__ import annotations

from typing import Any

from kilonova.db.database import Tx
from kilonova.domain import imaging
from kilonova.domain.imaging import NewImage
from kilonova.domain.sagas import CREATE_BACKUP, CREATE_IMAGE, BackupSaga, ImageSaga
from kilonova.domain.states import Task
from kilonova.store import servers
from kilonova.workflows.harness import scenario
from tests.sagas.scenarios import There, stage

IMAGE = "1a000000-0000-4000-8000-000000000001"


class CreateImage(There):
    """A queued image waits for a server's disk."""

    async def open(self) -> None:
        await super().open()
        await self.images.create(NewImage(IMAGE, "mine", owner="p1"), token=None)

    async def start(self) -> tuple[str, str]:
        args = ImageSaga(self.server, IMAGE)
        return await self.act(CREATE_IMAGE, args, "createImage", Task.IMAGE_SNAPSHOT_PENDING)

    async def outcome(self) -> Any:
        images = sorted([i.id, i.status, i.disk_format] for i in self.images.table.values())
        return await super().outcome() | {"images": images, "data": len(self.images.data)}

    async def audit(self) -> list[str]:
        found = await super().audit()
        images = self.images.table.values()
        found += [f"image {i.id} is {i.status}" for i in images if i.status != "active"]
        for host in self.hosts:
            for guest in self.fakes.guests(host).values():
                found += [f"a copy for {image} is left on {host}" for image in guest.copies]
        server = await self.cell.read(_task, self.server)
        return [*found, f"the task is {server}"] if server else found


class Refused(CreateImage):
    async def open(self) -> None:
        await super().open()
        self.fakes.fails("snapshot", times=None, late=True)


class NotSent(CreateImage):
    async def open(self) -> None:
        await super().open()
        self.fakes.fails("send_snapshot", times=None, late=True)


class ImageGone(CreateImage):
    async def open(self) -> None:
        await super().open()
        await self.images.delete(IMAGE)


class OnDeadHost(CreateImage):
    async def open(self) -> None:
        await super().open()
        await self.dies("h1")


class CreateBackup(CreateImage):
    """Two backups are there, one shall be kept."""

    async def open(self) -> None:
        await CreateImage.open(self)
        made = self.images.table.pop(IMAGE)
        for number in (2, 3):
            self.images.add(f"backup-{number}", owner="p1", properties=self._marks("daily"))
        self.images.add("weekly", owner="p1", properties=self._marks("weekly"))
        self.images.table[IMAGE] = made
        for number in (1, 2):
            self.images.add(f"forged-{number}", owner="p9", properties=self._marks("daily"))
        await self.images.describe(IMAGE, self._marks("daily"))

    def _marks(self, kind: str) -> dict[str, str]:
        return {
            imaging.OF_SERVER: self.server,
            imaging.KIND: imaging.BACKUP,
            imaging.BACKUP_TYPE: kind,
        }

    async def audit(self) -> list[str]:
        found = await super().audit()
        kept = {"weekly", "forged-1", "forged-2"}
        if IMAGE in self.images.table:
            kept.add("backup-3")
        return [*found, *(f"{image} is gone" for image in kept - set(self.images.table))]

    async def start(self) -> tuple[str, str]:
        args = BackupSaga(self.server, IMAGE, "daily", 2)
        return await self.act(CREATE_BACKUP, args, "createBackup", Task.IMAGE_BACKUP)


class Protected(CreateBackup):
    async def open(self) -> None:
        await super().open()
        self.images.protected = {"backup-2"}


def _task(tx: Tx, server_id: str) -> str | None:
    row = servers.get(tx, server_id, deleted=True)
    return row.task_state if row is not None else None


for name, saga, kind, ends in (
    ("create an image", "server.create_image", CreateImage, "done"),
    ("create an image in vain", "server.create_image", Refused, "undone"),
    ("create an image that is not sent", "server.create_image", NotSent, "undone"),
    ("create an image that is gone", "server.create_image", ImageGone, "undone"),
    ("create an image on a dead host", "server.create_image", OnDeadHost, "undone"),
    ("create a backup", "server.create_backup", CreateBackup, "done"),
    ("create a backup beside a protected one", "server.create_backup", Protected, "done"),
):
    scenario(f"server {name}", saga, ends=ends)(stage(kind))
