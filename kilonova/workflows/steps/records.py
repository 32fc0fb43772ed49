"""Steps that move a server's row and write its states."""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec

from kilonova.base.errors import Fault, NotFound, Unavailable
from kilonova.db.cells import CELL0
from kilonova.db.database import Tx
from kilonova.domain.agent import GuestAsk, topic
from kilonova.domain.describe import guest_spec
from kilonova.domain.guest import Disk, FlavorSpec, GuestSpec, GuestStatus, Nic, PowerState
from kilonova.domain.request import HostRef, RequestSpec
from kilonova.domain.sagas import REBOOT
from kilonova.domain.server import BuildRequest, Server, ServerFault
from kilonova.domain.states import Task, VmState
from kilonova.notifications.facts import TaskFacts
from kilonova.store import actions, mappings, servers, shelved
from kilonova.store.noting import note, notes
from kilonova.workflows import telling
from kilonova.workflows.engine import accept as engine
from kilonova.workflows.engine import journal
from kilonova.workflows.engine.errors import ErrorInfo
from kilonova.workflows.engine.steps import remote, transaction
from kilonova.workflows.steps.placing import Entering, hold
from kilonova.workflows.visible import BURIED, EVENTS
from kilonova.workflows.world import Env

CHANGEABLE = (
    "name",
    "description",
    "hostname",
    "access_ip_v4",
    "access_ip_v6",
    "auto_disk_config",
    "metadata",
    "locked_by",
    "locked_reason",
    "pinned_zone",
)
"""What may be changed of a server that has no row in a cell yet."""

_MEANT = {
    PowerState.RUNNING: VmState.ACTIVE,
    PowerState.PAUSED: VmState.PAUSED,
    PowerState.SUSPENDED: VmState.SUSPENDED,
}
ASK_SECONDS = 30.0
SEIZE_SECONDS = 60.0
SEIZE_PAUSE = 0.2


class Place(msgspec.Struct, frozen=True):
    """Where a server is: its cell, its host (None: none), and what its agent must know of it.

    ``volumes``: its disks that are volumes, connected or not. ``shelved_image``: the image it was
    shelved as.
    """

    cell_id: str | None
    host: str | None = None
    guest: GuestSpec | None = None
    vm_state: str = ""
    volumes: tuple[Disk, ...] = ()
    flavor: FlavorSpec | None = None
    shelved_image: str = ""


# -- making ------------------------------------------------------------------------------------


@transaction(db="cell")
def enter_cell(tx: Tx, env: Env, server_id: str, entering: Entering, host: HostRef) -> None:
    """Write the server's row into the host's cell and hold it there, with what it has of the
    host's cells and devices."""
    engine.hold(tx, env.saga_id, env.saga_name, server_id, clock=env.clock)
    servers.move_to_cell(
        tx,
        entering.request,
        host=host.host,
        node=host.node,
        zone=entering.zone,
        now=env.clock.now(),
    )
    hold(tx, env, entering.request.server, host)


@transaction(db="cell")
def leave_cell(tx: Tx, env: Env, server_id: str) -> None:
    """Take the row out of the cell again; the server is a mere request once more."""
    if env.error is not None and notes(tx) is not None:
        telling.ended(tx, env, servers.get(tx, server_id) or server_id, error=env.error)
    servers.leave_cell(tx, server_id)
    engine.let_go(tx, env.saga_id)


@transaction(db="api")
def map_to_cell(
    tx: Tx, _env: Env, server_id: str, cell_id: str, entering: Entering
) -> BuildRequest | None:
    """Say where the server is; its request, when that was changed since the row was written."""
    mappings.place(tx, server_id, cell_id)
    now = servers.building(tx, server_id)
    if now is None or _changes(entering.request.server, now.server) == {}:
        return None
    return now


@transaction(db="api")
def unmap(tx: Tx, env: Env, server_id: str) -> None:
    """Only the request is left; one whose deletion waits says so."""
    mappings.place(tx, server_id, None)
    deleting = engine.awaited(tx, env.saga_id)
    servers.set_building_task(tx, server_id, Task.DELETING if deleting else Task.SCHEDULING)


@transaction(db="cell")
def catch_up(tx: Tx, env: Env, server_id: str, request: BuildRequest) -> None:
    """Bring the row up to its request."""
    row = servers.get(tx, server_id, lock=True)
    changes = _changes(row, request.server) if row is not None else {}
    if changes:
        servers.update(tx, server_id, now=env.clock.now(), **changes)


@transaction(db="cell")
def keep_nics(tx: Tx, env: Env, server_id: str, nics: list[Nic]) -> None:
    """Keep the server's cards and show their addresses."""
    servers.set_nics(tx, server_id, nics, now=env.clock.now())


@remote()
async def describe_new(env: Env, server_id: str) -> GuestSpec:
    """The guest of a server that is being made, with what is known only now."""
    spec = await env.world.db.read(mappings.find_spec, server_id)
    here = await _place_in(env, server_id, env.cell)
    if here.guest is None:
        raise NotFound(f"Instance {server_id} could not be found.")
    if spec is None:
        return here.guest
    about = msgspec.structs.replace(
        here.guest.metadata, admin_pass=spec.admin_pass, files=spec.files
    )
    return msgspec.structs.replace(here.guest, metadata=about)


def without_secrets(guest: GuestSpec) -> GuestSpec:
    """The guest without password and files."""
    about = msgspec.structs.replace(guest.metadata, admin_pass=None, files=())
    return msgspec.structs.replace(guest, metadata=about)


@transaction(db="cell")
def finish_build(tx: Tx, env: Env, server_id: str) -> None:
    """ACTIVE; the create action is over; the cell's own sagas may have the server now."""
    now = env.clock.now()
    server = servers.finish(
        tx, server_id, VmState.ACTIVE, power=PowerState.RUNNING, now=now, progress=100
    )
    end_action(tx, env, server_id, now, tell=False)
    telling.ended(tx, env, server, message="Success")
    engine.let_go(tx, env.saga_id)


@transaction(db="own")
def forget_request(tx: Tx, env: Env, server_id: str) -> None:
    """The build request and its secrets are not needed any more."""
    mappings.forget_request(tx, server_id)
    _forget_secrets(tx, env)


@remote()
async def bury(env: Env, server_id: str) -> None:
    """A server that could not be made: an ERROR row with its fault in cell0.

    One whose owner deleted it meanwhile is left to the deletion, which waits for us to end.
    """
    await _let_volumes_go(env, server_id)
    request = await env.world.db.run(_to_bury, env, server_id)
    if request is None:
        return
    await env.world.cells.cell0.db.run(_write_grave, env, server_id, request)
    await env.world.db.run(_map_grave, env, server_id)


async def _let_volumes_go(env: Env, server_id: str) -> None:
    """Volumes that were reserved for it when it was asked for are free again."""
    request = await env.world.db.read(servers.building, server_id)
    if request is None or any(disk.source == "volume" for disk in request.private.disks):
        for present in await env.world.volumes.attachments(server_id):
            await env.world.volumes.release(present.id)


def _to_bury(tx: Tx, env: Env, server_id: str) -> BuildRequest | None:
    journal.guard(tx, env.saga_id, env.epoch)
    _forget_secrets(tx, env)
    if engine.awaited(tx, env.saga_id):
        return None
    return servers.building(tx, server_id)


def _write_grave(tx: Tx, env: Env, server_id: str, request: BuildRequest) -> None:
    now = env.clock.now()
    journal.receipt(tx, env.saga_id, "", env.epoch, now.timestamp())
    servers.move_to_cell(tx, request, host=None, node=None, zone=None, now=now)
    row = servers.get(tx, server_id)
    if row is None or row.vm_state == VmState.ERROR:
        return
    told = fault(env.error, env)
    servers.set_error(tx, server_id, told, now=now)
    asked = env.asked.request_id
    actions.start_event(tx, server_id, asked, BURIED, now=now)
    actions.finish_event(tx, server_id, asked, BURIED, now=now, error=told.message)
    actions.finish(tx, server_id, asked, now=now, message="Error")
    if env.error is not None and notes(tx) is not None:
        note(tx, "compute_task.build_instances.error", _unplaced(row, env.error))


def _unplaced(server: Server, error: ErrorInfo) -> TaskFacts:
    wanted = RequestSpec(
        servers=(server.id,),
        project_id=server.project_id,
        user_id=server.user_id,
        flavor=server.flavor,
        image=server.image,
        availability_zone=server.pinned_zone,
        hints=server.scheduler_hints,
    )
    return TaskFacts(server.id, VmState.ERROR, telling.cause(error), wanted)


def _map_grave(tx: Tx, env: Env, server_id: str) -> None:
    journal.guard(tx, env.saga_id, env.epoch)
    mappings.place(tx, server_id, CELL0)
    mappings.forget_request(tx, server_id)


def _forget_secrets(tx: Tx, env: Env) -> None:
    journal.forget_results(tx, env.saga_id, describe_new.name)


def _changes(before: Server, after: Server) -> dict[str, Any]:
    return {
        name: getattr(after, name)
        for name in CHANGEABLE
        if getattr(after, name) != getattr(before, name)
    }


# -- work on a server that is there ----------------------------------------------------------------


@remote()
async def locate(env: Env, server_id: str) -> Place:
    """Where the server is, with its guest's description."""
    return await find_place(env, server_id)


@transaction(db="own")
def settle(tx: Tx, env: Env, server_id: str, vm_state: str, power: PowerState) -> None:
    """The work on a server ended: its stable state, no task, the action finished."""
    now = env.clock.now()
    server = servers.finish(tx, server_id, vm_state, power=power, now=now)
    end_action(tx, env, server_id, now, tell=False)
    telling.ended(tx, env, server)


@transaction(db="own")
def begin_event(tx: Tx, env: Env, server_id: str, host: str) -> None:
    """Work that shows no task begins."""
    name = EVENTS[env.saga_name].name
    now = env.clock.now()
    actions.start_event(tx, server_id, env.asked.request_id, name, now=now, host=host)
    telling.begins(tx, env, server_id)


@transaction(db="own")
def close(tx: Tx, env: Env, server_id: str, _what: Any = None) -> None:
    """Work that changes no state ended, well or not; the server is as it was."""
    error = fault(env.error, env).message if env.error is not None else None
    end_action(tx, env, server_id, env.clock.now(), error=error)


@transaction(db="own")
def finish_task(tx: Tx, env: Env, server_id: str) -> None:
    """Work that showed a task but changed no state ended well: the server is as it was."""
    now = env.clock.now()
    server = servers.get(tx, server_id, lock=True)
    if server is not None and not engine.awaited(tx, env.saga_id):
        servers.update(tx, server_id, now=now, task_state=None)
    end_action(tx, env, server_id, now)


@remote()
async def give_up(env: Env, server_id: str, _hard: bool = False) -> None:
    """The work failed: no task, the fault told, and the state that the guest is in by now.

    A guest that a reboot left off is in ERROR.
    """
    place = await find_place(env, server_id)
    if place.cell_id is not None:
        power = await _power(env, server_id, place)
        await env.world.cells.get(place.cell_id).db.run(_give_up, env, server_id, power)


async def _power(env: Env, server_id: str, place: Place) -> PowerState | None:
    if place.host is None or env.bus is None:
        return None
    try:
        status = await env.bus.call(
            topic(place.host), "status", GuestAsk(server_id), reply=GuestStatus, seconds=ASK_SECONDS
        )
    except Fault:
        return None
    return status.power


def _give_up(tx: Tx, env: Env, server_id: str, power: PowerState | None) -> None:
    journal.guard(tx, env.saga_id, env.epoch)
    now = env.clock.now()
    told = fault(env.error, env)
    end_action(tx, env, server_id, now, error=told.message)
    server = servers.get(tx, server_id, lock=True)
    if server is None or engine.awaited(tx, env.saga_id):
        # Whoever waits for the server has written its own task there.
        return
    rebooted = env.saga_name == REBOOT.name
    vm_state = server.vm_state
    if rebooted and power is not None and power != PowerState.RUNNING:
        vm_state = VmState.ERROR
    elif vm_state in _MEANT.values() and power in (PowerState.SHUTDOWN, PowerState.CRASHED):
        vm_state = VmState.STOPPED
    elif vm_state in (VmState.STOPPED, VmState.PAUSED) and power == PowerState.RUNNING:
        vm_state = VmState.ACTIVE
    elif vm_state in (VmState.ACTIVE, VmState.SUSPENDED) and power in _MEANT:
        vm_state = _MEANT[power]
    servers.set_error(tx, server_id, told, now=now, vm_state=vm_state)
    if power is not None:
        servers.set_power(tx, server_id, power, now=now)


@transaction(db="own")
def set_aside(tx: Tx, env: Env, server_id: str, power: PowerState) -> None:
    """The server is soft-deleted from now on; when that was is kept beside it."""
    now = env.clock.now()
    server = servers.finish(tx, server_id, VmState.SOFT_DELETED, power=power, now=now)
    servers.note(tx, server_id, servers.SET_ASIDE, now.isoformat(), now=now)
    end_action(tx, env, server_id, now, tell=False)
    telling.ended(tx, env, server)


@transaction(db="api")
def count_not(tx: Tx, _env: Env, server_id: str) -> None:
    """A server that is soft-deleted counts in no quota."""
    mappings.set_aside(tx, server_id)


@transaction(db="api")
def count(tx: Tx, _env: Env, server_id: str) -> None:
    """It counts again: whoever asked for it was allowed to."""
    mappings.set_aside(tx, server_id, aside=False)


# -- deleting -----------------------------------------------------------------------------------


@remote(seconds=SEIZE_SECONDS + 30)
async def seize(env: Env, server_id: str) -> Place:
    """Hold the server in its cell, and say where it is.

    A deletion that was asked for while the server was still being built lives in the API database
    and may find another saga in the cell, which is asked to stop.
    """
    mapping = await env.world.db.read(mappings.find, server_id)
    if mapping is None or mapping.cell_id is None:
        return Place(None)
    cell = env.world.cells.get(mapping.cell_id)
    end = env.clock.monotonic() + SEIZE_SECONDS
    while not await cell.db.run(_seize, env, server_id):
        if env.clock.monotonic() > end:
            raise Unavailable(f"Instance {server_id} is still busy with other work.")
        await env.clock.sleep(SEIZE_PAUSE)
    return await find_place(env, server_id)


def _seize(tx: Tx, env: Env, server_id: str) -> bool:
    living = engine.living(tx, server_id)
    if living is None:
        engine.hold(tx, env.saga_id, env.saga_name, server_id, clock=env.clock)
    elif living.id != env.saga_id:
        if living.state != "elsewhere":
            engine.cancel(tx, living, env.clock.now().timestamp())
        return False
    return True


@transaction(db="cell")
def mark_deleted(tx: Tx, env: Env, server_id: str) -> None:
    """The row is deleted; its action is over."""
    now = env.clock.now()
    if notes(tx) is not None:
        _tell_leaving(tx, env, server_id)
    servers.delete(tx, server_id, now=now)
    end_action(tx, env, server_id, now)
    engine.let_go(tx, env.saga_id)


def _tell_leaving(tx: Tx, env: Env, server_id: str) -> None:
    """What is told before a server is gone; one without a guest had nobody to begin it."""
    server = servers.get(tx, server_id)
    if server is None:
        return
    event = telling.event_of(env.saga_name)
    if server.host is None:
        note(tx, f"{event}.{telling.START}", server)
    elif event in telling.ALONGSIDE:
        note(tx, f"{telling.ALONGSIDE[event]}.{telling.END}", server)


@transaction(db="api")
def forget_server(tx: Tx, _env: Env, server_id: str) -> None:
    """Give the quota back; the mapping stays for what may be found of the server later."""
    mappings.release(tx, server_id)


# -- common -------------------------------------------------------------------------------------


def fault(error: ErrorInfo | None, env: Env) -> ServerFault:
    """The fault a server shows for an error; foreign errors keep their words for administrators."""
    now = env.clock.now()
    if error is None:
        return ServerFault(500, "The work was stopped.", now)
    text = error.message if error.expected else "Unexpected error"
    return ServerFault(500, text[:255], now, details=f"{error.step}: {error.message}"[:4000])


def end_action(
    tx: Tx,
    env: Env,
    server_id: str,
    now: dt.datetime,
    *,
    error: str | None = None,
    tell: bool = True,
    volume_id: str | None = None,
) -> None:
    """The action and its event are over; for administrators, where it failed and with what.

    Unless ``tell`` is False, its notification is as well; ``volume_id`` is the volume it is about.
    """
    asked = env.asked.request_id
    event = EVENTS.get(env.saga_name)
    # The end of work that failed may be written twice, after a crash; it is told once.
    tell = tell and notes(tx) is not None and not (error and actions.is_over(tx, server_id, asked))
    if event is not None:
        trace = None
        if error is not None and env.error is not None:
            trace = f"{env.error.type} in {env.error.step}: {env.error.message}"[:4000]
        actions.finish_event(
            tx, server_id, asked, event.name, now=now, error=error, traceback=trace
        )
    actions.finish(tx, server_id, asked, now=now, message="Error" if error is not None else None)
    if tell:
        more = telling.volumes(env, volume_id)
        failed = env.error if error is not None else None
        telling.ended(tx, env, servers.get(tx, server_id, deleted=True) or "", error=failed, **more)


async def find_place(env: Env, server_id: str) -> Place:
    """Where the server is, read now."""
    mapping = await env.world.db.read(mappings.find, server_id)
    if mapping is None or mapping.cell_id is None:
        return Place(None)
    return await _place_in(env, server_id, mapping.cell_id)


async def _place_in(env: Env, server_id: str, cell_id: str | None) -> Place:
    """The same where the cell is known."""
    if cell_id is None:
        return Place(None)
    cell = env.world.cells.get(cell_id)

    def read(tx: Tx) -> Place:
        server = servers.get(tx, server_id)
        private = servers.private(tx, server_id)
        if server is None or private is None:
            return Place(cell_id)
        return Place(
            cell_id,
            server.host,
            guest_spec(server, private) if server.host else None,
            server.vm_state,
            tuple(disk for disk in private.disks if disk.source == "volume"),
            server.flavor,
            private.system.get(shelved.IMAGE, ""),
        )

    return await cell.db.read(read)
