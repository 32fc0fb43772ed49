"""Steps that move a server's row and write its states."""

from __future__ import annotations

import msgspec

from kilonova.base.errors import NotFound
from kilonova.db.cells import CELL0
from kilonova.db.database import Tx
from kilonova.domain.describe import guest_spec
from kilonova.domain.guest import GuestSpec, Nic, PowerState
from kilonova.domain.request import HostRef
from kilonova.domain.server import ServerFault, addresses
from kilonova.domain.states import VmState
from kilonova.store import actions, aggregates, mappings, servers
from kilonova.workflows.engine import accept as engine
from kilonova.workflows.engine.errors import ErrorInfo
from kilonova.workflows.engine.steps import remote, transaction
from kilonova.workflows.steps.placing import wanted
from kilonova.workflows.world import Env


class Place(msgspec.Struct, frozen=True):
    """Where a server is: its cell, its host (None: none), and what its agent must know of it.

    ``buried``: it never found a host and lies in cell0.
    """

    cell_id: str | None
    host: str | None = None
    guest: GuestSpec | None = None
    vm_state: str = ""
    buried: bool = False


@remote()
async def enter_cell(env: Env, server_id: str, host: HostRef) -> None:
    """Write the server's row into the host's cell, hold it there, and map it."""
    request, _ = await wanted(env.world, server_id)
    cell = env.world.cells.get(host.cell_id)
    zones = await env.world.db.read(aggregates.zones)
    zone = zones.get(host.host) or env.settings.default.default_availability_zone

    def write(tx: Tx) -> None:
        engine.hold(tx, env.saga_id, env.saga_name, server_id, clock=env.clock)
        servers.move_to_cell(
            tx, request, host=host.host, node=host.node, zone=zone, now=env.clock.now()
        )

    await cell.db.run(write)
    await env.world.db.run(mappings.place, server_id, host.cell_id)


@remote()
async def leave_cell(env: Env, server_id: str, host: HostRef) -> None:
    """Take the row out of the cell again; the server is a mere request once more."""
    await env.world.db.run(mappings.place, server_id, None)

    def write(tx: Tx) -> None:
        servers.leave_cell(tx, server_id)
        engine.let_go(tx, env.saga_id)

    await env.world.cells.get(host.cell_id).db.run(write)


@transaction(db="cell")
def keep_nics(tx: Tx, env: Env, server_id: str, nics: list[Nic]) -> None:
    """Keep the server's cards and show their addresses."""
    now = env.clock.now()
    servers.set_nics(tx, server_id, nics, now=now)
    servers.update(tx, server_id, now=now, addresses=addresses(nics))


@remote()
async def describe_new(env: Env, server_id: str) -> GuestSpec:
    """The guest of a server that is being made, with what is known only now."""
    spec = await env.world.db.read(mappings.find_spec, server_id)
    here = await _place(env, server_id)
    if here.guest is None:
        raise NotFound(f"Instance {server_id} could not be found.")
    if spec is None:
        return here.guest
    about = msgspec.structs.replace(
        here.guest.metadata, admin_pass=spec.admin_pass, files=spec.files
    )
    return msgspec.structs.replace(here.guest, metadata=about)


@remote()
async def locate(env: Env, server_id: str) -> Place:
    """Where the server is, with its guest's description."""
    return await _place(env, server_id)


@transaction(db="cell")
def finish_build(tx: Tx, env: Env, server_id: str) -> None:
    """ACTIVE; the create action is over; the cell's own sagas may have the server now."""
    now = env.clock.now()
    servers.finish(tx, server_id, VmState.ACTIVE, power=PowerState.RUNNING, now=now, progress=100)
    actions.finish(tx, server_id, env.asked.request_id, now=now)
    engine.let_go(tx, env.saga_id)


@transaction(db="api")
def forget_request(tx: Tx, _env: Env, server_id: str) -> None:
    """The build request and its secrets are not needed any more."""
    mappings.forget_request(tx, server_id)


@remote()
async def bury(env: Env, server_id: str) -> None:
    """A server that could not be made: an ERROR row with its fault in cell0.

    One whose owner deleted it meanwhile is left to the deletion, which waits for us to end.
    """
    if env.error is not None and env.error.type == "Cancelled":
        return
    world = env.world
    request = await world.db.read(servers.building, server_id)
    if request is None:
        return
    now = env.clock.now()
    told = fault(env.error, env)

    def write(tx: Tx) -> None:
        servers.move_to_cell(tx, request, host=None, node=None, zone=None, now=now)
        row = servers.get(tx, server_id)
        if row is not None and row.vm_state != VmState.ERROR:
            servers.set_error(tx, server_id, told, now=now)
        actions.finish(tx, server_id, env.asked.request_id, now=now, message="Error")

    await world.cells.cell0.db.run(write)

    def place(tx: Tx) -> None:
        mappings.place(tx, server_id, CELL0)
        mappings.forget_request(tx, server_id)

    await world.db.run(place)


@transaction(db="own")
def settle(tx: Tx, env: Env, server_id: str, vm_state: str, power: PowerState) -> None:
    """The work on a server ended: its stable state, no task, the action finished."""
    now = env.clock.now()
    servers.finish(tx, server_id, vm_state, power=power, now=now)
    actions.finish(tx, server_id, env.asked.request_id, now=now)


@transaction(db="own")
def give_up(tx: Tx, env: Env, server_id: str) -> None:
    """The work failed: no task, the fault told, the stable state as it was."""
    _give_up(tx, env, server_id, None)


@transaction(db="own")
def give_up_in_error(tx: Tx, env: Env, server_id: str) -> None:
    """The work failed half-way: ERROR, and the fault told."""
    _give_up(tx, env, server_id, VmState.ERROR)


@transaction(db="cell")
def mark_deleted(tx: Tx, env: Env, server_id: str) -> None:
    """The row is deleted; its action is over."""
    now = env.clock.now()
    servers.delete(tx, server_id, now=now)
    actions.finish(tx, server_id, env.asked.request_id, now=now)


@transaction(db="api")
def forget_server(tx: Tx, _env: Env, server_id: str, in_cell: bool) -> None:
    """Give the quota back; a server that never reached a cell leaves no trace."""
    if in_cell:
        mappings.release(tx, server_id)
    else:
        mappings.forget(tx, server_id)


def fault(error: ErrorInfo | None, env: Env) -> ServerFault:
    """The fault a server shows for an error; foreign errors keep their words for administrators."""
    now = env.clock.now()
    if error is None:
        return ServerFault(500, "The work was stopped.", now)
    text = error.message if error.expected else "Unexpected error"
    return ServerFault(500, text[:255], now, details=f"{error.step}: {error.message}"[:4000])


def _give_up(tx: Tx, env: Env, server_id: str, vm_state: str | None) -> None:
    now = env.clock.now()
    server = servers.get(tx, server_id, lock=True)
    if server is None:
        return
    servers.set_error(
        tx, server_id, fault(env.error, env), now=now, vm_state=vm_state or server.vm_state
    )
    actions.finish(tx, server_id, env.asked.request_id, now=now, message="Error")


async def _place(env: Env, server_id: str) -> Place:
    mapping = await env.world.db.read(mappings.find, server_id)
    if mapping is None or mapping.cell_id is None:
        return Place(None)
    cell = env.world.cells.get(mapping.cell_id)

    def read(tx: Tx) -> Place:
        server = servers.get(tx, server_id)
        private = servers.private(tx, server_id)
        if server is None or private is None:
            return Place(mapping.cell_id, buried=cell.is_cell0)
        return Place(
            mapping.cell_id,
            server.host,
            guest_spec(server, private) if server.host else None,
            server.vm_state,
            cell.is_cell0,
        )

    return await cell.db.read(read)
