"""Steps of live migrations: turns, bindings that wait, and what is written on the way."""

from __future__ import annotations

from typing import Any

import msgspec

from kilonova.base.errors import NotFound
from kilonova.db.database import Tx
from kilonova.domain.describe import guest_spec
from kilonova.domain.guest import Disk, GuestSpec, Nic, PowerState
from kilonova.domain.live import DAY
from kilonova.domain.moves import Moving, Status
from kilonova.domain.request import HostRef
from kilonova.domain.server import ServerFault
from kilonova.domain.states import VmState
from kilonova.store import actions, migrations, servers
from kilonova.store.noting import note
from kilonova.workflows import telling
from kilonova.workflows.engine import accept as engine
from kilonova.workflows.engine import journal
from kilonova.workflows.engine.steps import remote, transaction
from kilonova.workflows.steps.moving import find_server
from kilonova.workflows.steps.records import end_action, find_place
from kilonova.workflows.steps.resizing import begin_part, end_part, give_up_move
from kilonova.workflows.visible import EVENTS
from kilonova.workflows.world import Env

TURN_SECONDS = 1.0
MOVE, PREPARE, SETTLE = (
    "compute_live_migration",
    "compute_pre_live_migration",
    "compute_post_live_migration_at_destination",
)
"""Events within the action, by Nova's names."""
LIVE = "instance.live_migration_"


@transaction(db="own")
def begin_live(tx: Tx, env: Env, server_id: str) -> None:
    """The work begins."""
    begin_part(tx, env, server_id, EVENTS[env.saga_name].name)


@remote(seconds=DAY)
async def wait_turn(env: Env, server_id: str, moving: Moving) -> None:
    """Wait until the source sends fewer guests than it may; who came first goes first."""
    cell = env.world.cells.get((await find_server(env, server_id)).cell_id)
    while not await cell.db.run(_turn, env, moving):
        await env.clock.sleep(TURN_SECONDS)


def _turn(tx: Tx, env: Env, moving: Moving) -> bool:
    """Take a turn; one who is asked to stop need not wait for it."""
    journal.guard(tx, env.saga_id, env.epoch)
    row = journal.load(tx, env.saga_id)
    if row is not None and row.cancel_requested:
        return True
    most = env.settings.default.max_concurrent_live_migrations
    before = [
        other
        for other in migrations.leaving(tx, moving.source)
        if other.status != Status.QUEUED or other.id < moving.number
    ]
    busy = [other for other in before if other.uuid != moving.uuid]
    if most and len(busy) >= most:
        return False
    migrations.update(tx, moving.uuid, now=env.clock.now(), status=Status.PREPARING)
    return True


@remote()
async def bind_also(env: Env, _server_id: str, host: str, nic: Nic) -> Nic:
    """The card as the destination makes it; its port's binding there waits."""
    return await env.world.networks.bind_also(nic, host=host)


@remote()
async def unbind_also(env: Env, _server_id: str, host: str, nic: Nic) -> None:
    """The destination does not get the port."""
    await env.world.networks.drop_binding(nic.port_id, host=host)


@remote()
async def activate(env: Env, _server_id: str, host: str, nic: Nic) -> None:
    """The destination has the port; one that was deleted meanwhile is no trouble."""
    try:
        await env.world.networks.activate_binding(nic.port_id, host=host)
    except NotFound:
        return


@transaction(db="own")
def preparing(tx: Tx, env: Env, server_id: str, moving: Moving, host: HostRef) -> None:
    """The destination is known and about to be made ready."""
    migrations.update(
        tx, moving.uuid, now=env.clock.now(), dest_host=host.host, dest_node=host.node
    )
    begin_part(tx, env, server_id, PREPARE, host=host.host)
    note(tx, f"{LIVE}pre.{telling.START}", server_id)


@remote()
async def describe_there(
    env: Env, server_id: str, nics: list[Nic], volumes: list[Disk]
) -> GuestSpec:
    """The guest with cards and volumes as the destination has them."""
    stored = await find_server(env, server_id)
    known = {disk.id: disk for disk in volumes}
    disks = tuple(known.get(disk.id, disk) for disk in stored.private.disks)
    private = msgspec.structs.replace(stored.private, disks=disks, nics=tuple(nics))
    return guest_spec(stored.server, private)


@transaction(db="own")
def running(tx: Tx, env: Env, server_id: str, moving: Moving) -> None:
    """The guest is on its way."""
    now = env.clock.now()
    end_part(tx, env, server_id, PREPARE, now)
    note(tx, f"{LIVE}pre.{telling.END}", server_id)
    migrations.update(tx, moving.uuid, now=now, status=Status.RUNNING)
    begin_part(tx, env, server_id, MOVE, host=moving.source)


@transaction(db="own")
def switch_live(
    tx: Tx,
    env: Env,
    server_id: str,
    host: HostRef,
    zone: str,
    nics: list[Nic],
    volumes: list[Disk],
) -> None:
    """The row has the new host, with cards and volumes as they are there."""
    now = env.clock.now()
    end_part(tx, env, server_id, MOVE, now)
    note(tx, f"{LIVE}post.{telling.START}", server_id)
    begin_part(tx, env, server_id, SETTLE, host=host.host)
    place_row(tx, server_id, host, zone, nics, volumes, now=now)
    note(tx, f"{LIVE}post_dest.{telling.START}", server_id)


def place_row(
    tx: Tx,
    server_id: str,
    host: HostRef,
    zone: str,
    nics: list[Nic],
    volumes: list[Disk],
    *,
    now: Any,
) -> None:
    """Write where the server is, its cards and volumes."""
    servers.update(tx, server_id, now=now, host=host.host, node=host.node, availability_zone=zone)
    private = servers.private(tx, server_id)
    known = {disk.id: disk for disk in volumes}
    present = private.disks if private is not None else ()
    servers.set_disks(tx, server_id, [known.get(disk.id, disk) for disk in present], now=now)
    servers.set_nics(tx, server_id, nics, now=now)


@transaction(db="own")
def finish_live(
    tx: Tx, env: Env, server_id: str, moving: Moving, power: PowerState, failure: str
) -> None:
    """The server is what it was, elsewhere; ERROR when its memory was lost on the last metre."""
    now = env.clock.now()
    migrations.update(tx, moving.uuid, now=now, status=Status.COMPLETED)
    end_part(tx, env, server_id, SETTLE, now, error=failure or None)
    note(tx, f"{LIVE}post_dest.{telling.END}", server_id)
    note(tx, f"{LIVE}post.{telling.END}", server_id)
    if failure:
        servers.set_power(tx, server_id, PowerState.NOSTATE, now=now)
        servers.set_error(tx, server_id, ServerFault(500, failure[:255], now), now=now)
    else:
        servers.finish(tx, server_id, moving.before.vm_state, power=power, now=now)
    end_action(tx, env, server_id, now, error=failure or None, tell=False)


@remote()
async def give_up_live(
    env: Env,
    server_id: str,
    _host: str | None = None,
    _block: bool | None = None,
    _over_commit: bool = True,
    _force: bool = False,
) -> None:
    """The server goes on where it is; who stopped the move himself is told of no fault."""
    place = await find_place(env, server_id)
    if place.cell_id is None:
        return
    cell = env.world.cells.get(place.cell_id)
    await cell.db.run(_rolled_back, env, server_id)
    if env.error is not None and env.error.type == telling.STOPPED:
        await cell.db.run(_stopped, env, server_id)
    else:
        await give_up_move.fn(env, server_id)


def _rolled_back(tx: Tx, env: Env, server_id: str) -> None:
    journal.guard(tx, env.saga_id, env.epoch)
    action = actions.show(tx, server_id, env.asked.request_id)
    begun = {event.name for event in action.events} if action is not None else set()
    if PREPARE not in begun or action is None or action.finish is not None:
        return
    for event in ("rollback", "rollback_dest"):
        for phase in (telling.START, telling.END):
            note(tx, f"{LIVE}{event}.{phase}", server_id)


def _stopped(tx: Tx, env: Env, server_id: str) -> None:
    journal.guard(tx, env.saga_id, env.epoch)
    now = env.clock.now()
    action = actions.show(tx, server_id, env.asked.request_id)
    if action is not None and action.finish is None:
        note(tx, f"{LIVE}abort.{telling.END}", server_id)
    for event in action.events if action is not None else ():
        if event.finish is None and event.name != EVENTS[env.saga_name].name:
            end_part(tx, env, server_id, event.name, now, error="The live migration was aborted.")
    end_action(tx, env, server_id, now, error="The live migration was aborted.", tell=False)
    server = servers.get(tx, server_id, lock=True)
    if server is not None and not engine.awaited(tx, env.saga_id):
        state = server.vm_state
        power = PowerState.PAUSED if state == VmState.PAUSED else PowerState.RUNNING
        servers.finish(tx, server_id, state, power=power, now=now)
