"""Steps of resizes and cold migrations: what is written of a server on its way there and back."""

from __future__ import annotations

import datetime as dt
from typing import Any

from kilonova.base.errors import NotFound
from kilonova.db.database import Tx
from kilonova.domain import disks as disk_rules
from kilonova.domain.guest import Disk, FlavorSpec, Nic, PowerState
from kilonova.domain.moves import COLD, Moving, Status, read
from kilonova.domain.request import HostRef, RequestSpec
from kilonova.domain.resources import Migration
from kilonova.domain.server import ServerFault
from kilonova.domain.states import VmState
from kilonova.notifications.facts import TaskFacts
from kilonova.store import actions, block_devices, mappings, migrations, servers
from kilonova.store.noting import note, notes
from kilonova.workflows import telling
from kilonova.workflows.engine.errors import ErrorInfo
from kilonova.workflows.engine.steps import remote, transaction
from kilonova.workflows.steps.moving import zone_of
from kilonova.workflows.steps.records import end_action, fault, find_place, give_up
from kilonova.workflows.visible import EVENTS
from kilonova.workflows.world import Env

PREP, LEAVE, ARRIVE, RETURN = (
    "compute_prep_resize",
    "compute_resize_instance",
    "compute_finish_resize",
    "compute_finish_revert_resize",
)
"""Events within the action, by Nova's names."""


# -- going -----------------------------------------------------------------------------------------


@transaction(db="own")
def plan_disks(tx: Tx, env: Env, server_id: str, moving: Moving) -> tuple[Disk, ...]:
    """The work begins: the disks the server will have; BadRequest when one had to shrink."""
    begin_part(tx, env, server_id, EVENTS[env.saga_name].name)
    present = block_devices.of_server(tx, server_id)
    return disk_rules.resized(present, moving.before.flavor, moving.flavor, new_id=env.ids.uuid)


@transaction(db="api")
def count_both(tx: Tx, _env: Env, server_id: str, old: FlavorSpec, new: FlavorSpec) -> None:
    """By quota the server counts for the greater of both flavors."""
    mappings.resize(tx, server_id, new, also=old)


@transaction(db="api")
def count_old(tx: Tx, _env: Env, server_id: str, old: FlavorSpec, _new: FlavorSpec) -> None:
    """By quota it counts for the old one."""
    mappings.resize(tx, server_id, old)


@transaction(db="api")
def count_new(tx: Tx, _env: Env, server_id: str, new: FlavorSpec) -> None:
    """By quota it counts for that flavor from now on."""
    mappings.resize(tx, server_id, new)


@transaction(db="own")
def prepared(tx: Tx, env: Env, server_id: str, moving: Moving, host: HostRef) -> None:
    """The destination is ready for the server: the record says so."""
    now = env.clock.now()
    migrations.update(tx, moving.uuid, now=now, dest_host=host.host, dest_node=host.node)
    begin_part(tx, env, server_id, PREP, host=host.host)
    end_part(tx, env, server_id, PREP, now)
    for phase in (telling.START, telling.END):
        note(tx, f"instance.resize_prep.{phase}", server_id, more={"new_flavor": moving.flavor})


@transaction(db="own")
def leaving(tx: Tx, env: Env, server_id: str, moving: Moving) -> None:
    """The server is about to leave its host."""
    migrations.update(tx, moving.uuid, now=env.clock.now(), status=Status.MIGRATING)
    begin_part(tx, env, server_id, LEAVE, host=moving.source)
    note(tx, f"instance.resize.{telling.START}", server_id)


@remote()
async def zone_there(env: Env, host: HostRef) -> str:
    """The availability zone the server will be in."""
    return await zone_of(env, host.host)


@transaction(db="own")
def switch(
    tx: Tx,
    env: Env,
    server_id: str,
    moving: Moving,
    host: HostRef,
    zone: str,
    nics: tuple[Nic, ...],
    disks: list[Disk],
) -> None:
    """The row has the new host and flavor, with cards and disks as they are there."""
    now = env.clock.now()
    migrations.update(tx, moving.uuid, now=now, status=Status.POST_MIGRATING)
    end_part(tx, env, server_id, LEAVE, now)
    note(tx, f"instance.resize.{telling.END}", server_id)
    _write(tx, server_id, moving.flavor, (host.host, host.node, zone), nics, disks, now)
    begin_part(tx, env, server_id, ARRIVE, host=host.host)
    note(tx, f"instance.resize_finish.{telling.START}", server_id)


@transaction(db="own")
def switch_back(tx: Tx, env: Env, server_id: str, moving: Moving) -> None:
    """The row is as it was before the move."""
    before = moving.before
    place = (moving.source, moving.node, before.zone)
    disks = before.with_volumes(moving.volumes)
    _write(tx, server_id, before.flavor, place, moving.nics, disks, env.clock.now())


def _write(
    tx: Tx,
    server_id: str,
    flavor: FlavorSpec,
    place: tuple[str, str, str | None],
    nics: tuple[Nic, ...],
    disks: list[Disk],
    now: dt.datetime,
) -> None:
    host, node, zone = place
    servers.update(
        tx, server_id, now=now, flavor=flavor, host=host, node=node, availability_zone=zone
    )
    servers.set_disks(tx, server_id, disks, now=now)
    servers.set_nics(tx, server_id, nics, now=now)


@transaction(db="own")
def finish_move(tx: Tx, env: Env, server_id: str, moving: Moving) -> None:
    """VERIFY_RESIZE; the action is over, the move waits for the owner's word."""
    now = env.clock.now()
    power = PowerState.RUNNING if moving.ran else PowerState.SHUTDOWN
    server = servers.finish(
        tx, server_id, VmState.RESIZED, power=power, now=now, launched_at=now, progress=100
    )
    migrations.update(tx, moving.uuid, now=now, status=Status.FINISHED)
    end_part(tx, env, server_id, ARRIVE, now)
    end_action(tx, env, server_id, now, tell=False)
    note(tx, f"instance.resize_finish.{telling.END}", server)


@remote()
async def give_up_move(env: Env, server_id: str, _what: Any = None) -> None:
    """The server stays where it is, as it is; what was begun of the action has failed."""
    place = await find_place(env, server_id)
    if place.cell_id is None:
        return
    await env.world.cells.get(place.cell_id).db.run(_close_parts, env, server_id)
    await give_up.fn(env, server_id)


def _close_parts(tx: Tx, env: Env, server_id: str) -> None:
    now = env.clock.now()
    told = fault(env.error, env)
    action = actions.show(tx, server_id, env.asked.request_id)
    over = action is None or action.finish is not None
    for event in action.events if action is not None else ():
        if event.finish is None and event.name != EVENTS[env.saga_name].name:
            end_part(tx, env, server_id, event.name, now, error=told.message)
    if env.error is not None and env.error.type == "NoValidHost" and notes(tx) and not over:
        _tell_unplaced(tx, server_id, env.error)


def _tell_unplaced(tx: Tx, server_id: str, error: ErrorInfo) -> None:
    server = servers.get(tx, server_id)
    if server is None:
        return
    wanted = RequestSpec(
        servers=(server_id,),
        project_id=server.project_id,
        user_id=server.user_id,
        flavor=server.flavor,
        image=server.image,
        availability_zone=server.pinned_zone,
        hints=server.scheduler_hints,
    )
    told = TaskFacts(server_id, server.vm_state, telling.cause(error), wanted)
    note(tx, "compute_task.migrate_server.error", told)


# -- what became of it -----------------------------------------------------------------------------


@transaction(db="own")
def begin_confirm(tx: Tx, env: Env, server_id: str) -> Moving | None:
    """The move that is confirmed; None when there is none."""
    moving = _settled_next(tx, env, server_id, Status.CONFIRMING)
    name = EVENTS[env.saga_name].name
    begin_part(tx, env, server_id, name, host=moving.source if moving else None)
    telling.begins(tx, env, server_id)
    return moving


@transaction(db="own")
def finish_confirm(tx: Tx, env: Env, server_id: str, moving: Moving | None) -> None:
    """ACTIVE, or as off as it was before; the new flavor and host are the server's for good."""
    now = env.clock.now()
    if moving is not None:
        migrations.update(tx, moving.uuid, now=now, status=Status.CONFIRMED)
    server = servers.get(tx, server_id, lock=True)
    if server is None:
        raise NotFound(f"Instance {server_id} could not be found.")
    off = server.power_state == PowerState.SHUTDOWN
    state = VmState.STOPPED if off else VmState.ACTIVE
    server = servers.finish(tx, server_id, state, power=server.power_state, now=now)
    end_action(tx, env, server_id, now, tell=False)
    telling.ended(tx, env, server)


@transaction(db="own")
def begin_revert(tx: Tx, env: Env, server_id: str) -> Moving:
    """The move that is taken back; NotFound when there is none."""
    moving = _settled_next(tx, env, server_id, Status.REVERTING)
    if moving is None:
        raise NotFound(f"Instance {server_id} has not been resized.")
    begin_part(tx, env, server_id, EVENTS[env.saga_name].name, host=moving.dest)
    telling.begins(tx, env, server_id)
    return moving


@transaction(db="own")
def stay_resized(tx: Tx, env: Env, server_id: str) -> None:
    """The move waits for the owner's word again."""
    for row in _cold(tx, server_id):
        migrations.update(tx, row.uuid, now=env.clock.now(), status=Status.FINISHED)


@transaction(db="own")
def switch_home(
    tx: Tx, env: Env, server_id: str, moving: Moving, nics: tuple[Nic, ...], volumes: list[Disk]
) -> None:
    """The row has its former host and flavor again."""
    now = env.clock.now()
    before = moving.before
    place = (moving.source, moving.node, before.zone)
    _write(tx, server_id, before.flavor, place, nics, before.with_volumes(volumes), now)
    begin_part(tx, env, server_id, RETURN, host=moving.source)


@transaction(db="own")
def finish_revert(tx: Tx, env: Env, server_id: str, moving: Moving, failure: str) -> None:
    """ACTIVE or SHUTOFF as before the move; ERROR when the guest could not be started again."""
    now = env.clock.now()
    migrations.update(tx, moving.uuid, now=now, status=Status.REVERTED)
    state = VmState.ACTIVE if moving.ran else VmState.STOPPED
    power = PowerState.RUNNING if moving.ran else PowerState.SHUTDOWN
    if failure:
        servers.set_power(tx, server_id, PowerState.SHUTDOWN, now=now)
        servers.set_error(tx, server_id, ServerFault(500, failure, now), now=now)
    else:
        servers.finish(tx, server_id, state, power=power, now=now, launched_at=now)
    end_part(tx, env, server_id, RETURN, now, error=failure or None)
    end_action(tx, env, server_id, now, error=failure or None, tell=False)
    if not failure:
        telling.ended(tx, env, server_id)


@transaction(db="own")
def stay(tx: Tx, env: Env, server_id: str) -> None:
    """The move could not be taken back: the server waits in VERIFY_RESIZE as before."""
    now = env.clock.now()
    told = fault(env.error, env)
    end_action(tx, env, server_id, now, error=told.message)
    server = servers.get(tx, server_id, lock=True)
    if server is not None and server.vm_state == VmState.RESIZED:
        servers.set_error(tx, server_id, told, now=now, vm_state=VmState.RESIZED)


@transaction(db="cell")
def waiting_moves(tx: Tx, _env: Env, server_id: str) -> list[Moving]:
    """Moves of a server that nobody has confirmed or taken back."""
    found = [_moving(row) for row in _cold(tx, server_id)]
    return [moving for moving in found if moving is not None]


@transaction(db="cell")
def settle_move(tx: Tx, env: Env, moving: Moving) -> None:
    """The server goes, and the question with it."""
    migrations.update(tx, moving.uuid, now=env.clock.now(), status=Status.CONFIRMED)


def _settled_next(tx: Tx, env: Env, server_id: str, status: Status) -> Moving | None:
    for row in _cold(tx, server_id):
        moving = _moving(row)
        if moving is not None:
            migrations.update(tx, row.uuid, now=env.clock.now(), status=status)
            return moving
    return None


def _cold(tx: Tx, server_id: str) -> list[Migration]:
    return [row for row in migrations.unsettled(tx, server_id) if row.type in COLD]


def _moving(row: Migration) -> Moving | None:
    before = read(row)
    if before is None or row.source_host is None:
        return None
    return Moving(
        uuid=row.uuid,
        number=row.id,
        kind=row.type,
        source=row.source_host,
        node=row.source_node or row.source_host,
        flavor=before.flavor,
        before=before,
        dest=row.dest_host,
    )


# -- events ----------------------------------------------------------------------------------------


def begin_part(tx: Tx, env: Env, server_id: str, name: str, *, host: str | None = None) -> None:
    """A part of the action begins, on a host where it is done there."""
    actions.start_event(tx, server_id, env.asked.request_id, name, now=env.clock.now(), host=host)


def end_part(
    tx: Tx, env: Env, server_id: str, name: str, now: dt.datetime, *, error: str | None = None
) -> None:
    """It ended, well or not."""
    actions.finish_event(tx, server_id, env.asked.request_id, name, now=now, error=error)
