"""Making images of servers: one that is kept, or one among the newest of its kind."""

from __future__ import annotations

from kilonova.domain.states import Task
from kilonova.workflows.engine.saga import Saga
from kilonova.workflows.engine.steps import saga
from kilonova.workflows.sagas.power import where
from kilonova.workflows.steps.images import give_up_image, rotate_backups, take_image
from kilonova.workflows.steps.records import begin_event, finish_task


@saga("server.create_image", action="createImage", notify="instance.snapshot", failed=give_up_image)
async def create_image(s: Saga, server_id: str, image_id: str) -> None:
    """Fill the image, while a running guest goes on."""
    host, guest = await where(s, server_id)
    await s.do(begin_event, server_id, host, task=Task.IMAGE_SNAPSHOT)
    await take_image(s, host, guest, image_id)
    await s.do(finish_task, server_id)


@saga(
    "server.create_backup", action="createBackup", notify="instance.snapshot", failed=give_up_image
)
async def create_backup(
    s: Saga, server_id: str, image_id: str, backup_type: str, rotation: int
) -> None:
    """The same; then the oldest backups of its type go, where the image service lets them."""
    host, guest = await where(s, server_id)
    await s.do(begin_event, server_id, host, task=Task.IMAGE_BACKUP)
    await take_image(s, host, guest, image_id)
    await s.pivot()
    await s.attempt(rotate, server_id, backup_type, rotation)
    await s.do(finish_task, server_id)


async def rotate(s: Saga, server_id: str, backup_type: str, rotation: int) -> None:
    """Keep only the newest backups."""
    await s.do(rotate_backups, server_id, backup_type, rotation)
