"""Steps around images made of servers: make, fill from a guest's disk, drop, rotate."""

from __future__ import annotations

import logging

import msgspec

from kilonova.base.errors import Conflict, Forbidden, NotFound
from kilonova.domain import imaging
from kilonova.domain.guest import GuestSpec
from kilonova.domain.operations import DROP_SNAPSHOT, SEND_SNAPSHOT, SNAPSHOT, SnapshotArgs
from kilonova.domain.server import Private, Server
from kilonova.domain.states import Task
from kilonova.store import servers
from kilonova.workflows.engine.saga import Saga
from kilonova.workflows.engine.steps import Undo, remote
from kilonova.workflows.steps.records import find_place, give_up
from kilonova.workflows.world import Env

log = logging.getLogger(__name__)


async def take_image(
    s: Saga,
    host: str,
    guest: GuestSpec,
    image_id: str,
    *,
    pending: Task = Task.IMAGE_PENDING_UPLOAD,
    uploading: Task = Task.IMAGE_UPLOADING,
) -> None:
    """Fill a queued image with the guest's root disk as it is now; the image is active then.

    Running guests go on meanwhile. When this fails, or is taken back, no copy is left on the host;
    the image is for whoever made it to drop (``drop_image``).
    """
    args = SnapshotArgs(guest, image_id)
    # On a host that is gone the copy goes with the guest, or with its next one.
    undo = Undo(DROP_SNAPSHOT, args, even_if_down=True)
    await s.on(host, SNAPSHOT, args, undo=undo, task=pending)
    await s.on(host, SEND_SNAPSHOT, args, task=uploading)


@remote()
async def make_image(env: Env, server_id: str, name: str) -> str:
    """Make the queued image of a server, in its project; its id. Undone by ``drop_image``."""
    server, private = await _read(env, server_id)
    wanted = imaging.new_image(
        server,
        private,
        image_id=env.ids.uuid(),
        name=name,
        user_id=env.asked.user_id,
        project_id=server.project_id,
        not_inherited=env.settings.default.non_inheritable_image_properties,
    )
    wanted = msgspec.structs.replace(wanted, owner=server.project_id)
    return (await env.world.images.create(wanted, token=None)).id


@remote()
async def drop_image(env: Env, _server_id: str, _name: str) -> None:
    """Delete the image that ``make_image`` made."""
    await _delete(env, env.ids.uuid())


@remote()
async def delete_image(env: Env, image_id: str) -> None:
    """Delete an image; one that is gone or protected is left."""
    await _delete(env, image_id)


@remote()
async def rotate_backups(env: Env, server_id: str, backup_type: str, rotation: int) -> None:
    """Delete the oldest backups of that type of a server, but the ``rotation`` newest."""
    server, _ = await _read(env, server_id)
    found = await env.world.images.find(
        **{
            imaging.OF_SERVER: server_id,
            imaging.KIND: imaging.BACKUP,
            imaging.BACKUP_TYPE: backup_type,
        }
    )
    # Anybody may give images of their own these properties: they neither count nor go.
    ours = {server.project_id, env.asked.project_id}
    for image in [image for image in found if image.owner in ours][rotation:]:
        await _delete(env, image.id)


@remote()
async def give_up_image(
    env: Env, server_id: str, image_id: str, _backup_type: str = "", _rotation: int = 0
) -> None:
    """No image could be made: what there is of it is deleted, the server is as it was."""
    await _delete(env, image_id)
    await give_up.fn(env, server_id)


async def _delete(env: Env, image_id: str) -> None:
    try:
        await env.world.images.delete(image_id)
    except (Forbidden, Conflict) as reason:
        log.warning("image %s stays: %s", image_id, reason.message)


async def _read(env: Env, server_id: str) -> tuple[Server, Private]:
    place = await find_place(env, server_id)
    if place.cell_id is not None:
        db = env.world.cells.get(place.cell_id).db
        server, private = (
            await db.read(servers.get, server_id),
            await db.read(servers.private, server_id),
        )
        if server is not None and private is not None:
            return server, private
    raise NotFound(f"Instance {server_id} could not be found.")
