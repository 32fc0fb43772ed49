"""``DELETE /servers/{server_id}``, and the actions ``forceDelete`` and ``restore``."""

from __future__ import annotations

import contextlib

import msgspec

from kilonova.api import quota_rules
from kilonova.api.actions.power import PATH
from kilonova.api.find import Found, find, is_admin, require_cell
from kilonova.api.schemas import closed
from kilonova.api.work import record, start
from kilonova.base.errors import Conflict, NotFound
from kilonova.context import Context, HeldElsewhere, Services
from kilonova.db.cells import Cell
from kilonova.db.database import Tx
from kilonova.domain import states
from kilonova.domain.sagas import DELETE, RESTORE, SOFT_DELETE, ServerArgs
from kilonova.domain.states import Task, VmState
from kilonova.store import mappings, servers
from kilonova.web.routes import Routes
from kilonova.web.schema import Schema

ROUTES: Routes[Services] = Routes(tag="servers")
FORCE = Schema(closed({"forceDelete": {}}, "forceDelete"))
_LEAVING = (Task.SOFT_DELETING, Task.DELETING)
RESTORE_BODY = Schema(closed({"restore": {}}, "restore"))


@ROUTES.delete("/servers/{server_id}", status=204, summary="Delete a server")
async def delete(call: Context, server_id: str) -> None:
    """Ask for the server's end, whatever it is doing; a living saga of it is cancelled."""
    found = await find(call, server_id, "os_compute_api:servers:delete")
    if call.app.settings.default.reclaim_instance_interval > 0 and await _set_aside(call, found):
        return
    await begin(call, found, "delete")


@ROUTES.post(PATH, action="forceDelete", body=FORCE, status=202, summary="Delete for good")
async def force(call: Context, server_id: str) -> None:
    """Delete a server that might be restored, or any other, at once."""
    found = await find(call, server_id, "os_compute_api:os-deferred-delete:force")
    await begin(call, found, "forceDelete")


@ROUTES.post(PATH, action="restore", body=RESTORE_BODY, status=202, summary="Restore a server")
async def restore(call: Context, server_id: str) -> None:
    """SOFT_DELETED becomes ACTIVE, if the quota has room for it."""
    found = await find(call, server_id, "os_compute_api:os-deferred-delete:restore")
    cell = require_cell(found, "restore")
    states.check("restore", found.server, override_lock=is_admin(call))
    counted = await quota_rules.take_back(call, found.server)
    try:
        await cell.db.run(_begin_restore, call, server_id)
    except Conflict:
        if counted and await _still_aside(cell, server_id):
            await call.app.db.run(mappings.set_aside, server_id)
        raise
    await call.app.wake()


def _begin_restore(tx: Tx, call: Context, server_id: str) -> None:
    now, admin = call.clock.now(), is_admin(call)
    servers.begin(tx, server_id, "restore", task=Task.RESTORING, now=now, override_lock=admin)
    record(tx, call, RESTORE.action, server_id)
    start(tx, call, RESTORE, ServerArgs(server_id), server_id)


async def _still_aside(cell: Cell, server_id: str) -> bool:
    """Nobody else restores it either."""
    server = await cell.db.read(servers.get, server_id)
    return server is not None and (server.vm_state, server.task_state) == (
        VmState.SOFT_DELETED,
        None,
    )


async def _set_aside(call: Context, found: Found) -> bool:
    """Ask for the server's soft deletion; False for one that has nothing worth keeping."""
    server = found.server
    states.check("delete", server, override_lock=is_admin(call))
    if server.vm_state == VmState.SOFT_DELETED or server.task_state in _LEAVING:
        return True
    if found.cell is None or server.launched_at is None or server.host is None:
        return False
    await found.cell.db.run(_begin_soft, call, server.id)
    await call.app.wake()
    return True


def _begin_soft(tx: Tx, call: Context, server_id: str) -> None:
    now, admin = call.clock.now(), is_admin(call)
    server = servers.get(tx, server_id, lock=True)
    if server is not None and server.task_state in _LEAVING:
        return
    servers.begin(tx, server_id, "delete", task=Task.SOFT_DELETING, now=now, override_lock=admin)
    record(tx, call, SOFT_DELETE.action, server_id)
    start(tx, call, SOFT_DELETE, ServerArgs(server_id), server_id)


async def begin(call: Context, found: Found, action: str) -> None:
    """Write the delete saga beside the saga that holds the server now, and wake the conductor."""
    server = found.server
    states.check("delete", server, override_lock=is_admin(call), word=action)
    try:
        if found.cell is None:
            await call.app.db.run(_while_building, call, server.id)
        else:
            await _in_cell(call, found.cell, server.id)
    except Conflict:
        # Asked twice: the first one is at work already.
        if not await _being_deleted(call, server.id):
            raise
    await call.app.wake()


async def _in_cell(call: Context, cell: Cell, server_id: str) -> None:
    try:
        await cell.db.run(_begin, call, server_id, with_saga=True)
    except HeldElsewhere:
        # It is still being built: that saga lives in the API database, and so must this one.
        await call.app.db.run(_saga, call, server_id)
        # The saga that was cancelled may have taken its row back by now.
        with contextlib.suppress(NotFound):
            await cell.db.run(_begin, call, server_id, with_saga=False)


def _begin(tx: Tx, call: Context, server_id: str, with_saga: bool) -> None:
    now = call.clock.now()
    servers.begin(
        tx, server_id, "delete", task=Task.DELETING, now=now, override_lock=is_admin(call)
    )
    record(tx, call, "delete", server_id)
    if with_saga:
        _saga(tx, call, server_id)


def _saga(tx: Tx, call: Context, server_id: str) -> None:
    start(tx, call, DELETE, ServerArgs(server_id), server_id)


def _while_building(tx: Tx, call: Context, server_id: str) -> None:
    _saga(tx, call, server_id)
    servers.change_building(
        tx,
        server_id,
        lambda r: msgspec.structs.replace(
            r, server=msgspec.structs.replace(r.server, task_state=Task.DELETING)
        ),
    )


async def _being_deleted(call: Context, server_id: str) -> bool:
    try:
        found = await find(call, server_id)
    except NotFound:
        return True
    return found.server.task_state == Task.DELETING
