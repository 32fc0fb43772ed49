"""Steps of evacuations: a server's guest is made anew elsewhere, as its host is down."""

from __future__ import annotations

import msgspec

from kilonova.base.errors import Conflict, NotFound, Unavailable
from kilonova.db.database import Tx
from kilonova.domain.guest import Disk, GuestSpec, Nic, PowerState
from kilonova.domain.moves import Moving, Status, kept, moving_of
from kilonova.domain.request import HostRef
from kilonova.domain.states import VmState
from kilonova.store import actions, migrations, servers
from kilonova.workflows.engine import accept as engine
from kilonova.workflows.engine import journal
from kilonova.workflows.engine.steps import remote, transaction
from kilonova.workflows.steps.live import describe_there, place_row
from kilonova.workflows.steps.moving import before_move
from kilonova.workflows.steps.records import end_action, fault, find_place
from kilonova.workflows.steps.resizing import begin_part, end_part
from kilonova.workflows.visible import EVENTS
from kilonova.workflows.world import Env

REBUILD = "compute_rebuild_instance"
PASSWORD = "admin_pass"


@transaction(db="own")
def open_evacuation(tx: Tx, env: Env, server_id: str, uuid: str) -> Moving:
    """The record of the request is taken up; Conflict when the server is on no host by now."""
    server = servers.get(tx, server_id, lock=True)
    private = servers.private(tx, server_id)
    row = migrations.by_uuid(tx, uuid)
    if server is None or private is None or server.host is None or row is None:
        raise Conflict(f"Instance {server_id} is on no host.")
    before = before_move(server, private)
    migrations.update(
        tx,
        uuid,
        now=env.clock.now(),
        status=Status.PRE_MIGRATING,
        data={**row.data, **kept(before)},
    )
    begin_part(tx, env, server_id, EVENTS[env.saga_name].name)
    return moving_of(row, server, private, before)


@transaction(db="own")
def fail_evacuation(tx: Tx, env: Env, _server_id: str, uuid: str) -> None:
    """It came to nothing."""
    row = migrations.by_uuid(tx, uuid)
    if row is not None:
        nowhere = env.error is not None and env.error.type == "NoValidHost"
        status = Status.ERROR if nowhere else Status.FAILED
        migrations.update(tx, uuid, now=env.clock.now(), status=status, data=_open(row.data))


@transaction(db="own")
def stale_there(tx: Tx, _env: Env, server_id: str, host: HostRef) -> list[str]:
    """Former evacuations from that host of which the host still has the guest."""
    return [row.uuid for row in migrations.evacuated(tx, host.host) if row.server_id == server_id]


@transaction(db="own")
def settle_stale(tx: Tx, env: Env, uuid: str) -> None:
    """The guest that was left there is gone."""
    migrations.update(tx, uuid, now=env.clock.now(), status=Status.COMPLETED)


@transaction(db="own")
def making(tx: Tx, env: Env, server_id: str, moving: Moving, host: HostRef) -> None:
    """The destination is known."""
    now = env.clock.now()
    migrations.update(tx, moving.uuid, now=now, dest_host=host.host, dest_node=host.node)
    begin_part(tx, env, server_id, REBUILD, host=host.host)


@remote()
async def rebind_back(
    env: Env, _server_id: str, _host: str, nics: tuple[Nic, ...], source: str
) -> None:
    """The ports stay with the host that is down, which may be why they cannot be bound there."""
    for nic in nics:
        try:
            await env.world.networks.bind_port(nic.port_id, host=source)
        except (NotFound, Unavailable):
            continue


@remote()
async def describe_evacuated(
    env: Env, server_id: str, uuid: str, nics: tuple[Nic, ...], volumes: list[Disk]
) -> GuestSpec:
    """The guest as its new host makes it, with the password it is to have."""
    guest: GuestSpec = await describe_there.fn(env, server_id, list(nics), volumes)
    found = (await env.world.cells.gather(migrations.by_uuid, uuid)).found
    password = next((row.data.get(PASSWORD) for _, row in found if row is not None), None)
    about = msgspec.structs.replace(guest.metadata, admin_pass=password)
    return msgspec.structs.replace(guest, metadata=about)


@transaction(db="own")
def finish_evacuation(
    tx: Tx,
    env: Env,
    server_id: str,
    moving: Moving,
    host: HostRef,
    zone: str,
    nics: tuple[Nic, ...],
    volumes: list[Disk],
    off: bool,
) -> None:
    """The server is on its new host; what is left on the old one goes when that returns."""
    now = env.clock.now()
    place_row(tx, server_id, host, zone, list(nics), volumes, now=now)
    state = VmState.STOPPED if off else VmState.ACTIVE
    power = PowerState.SHUTDOWN if off else PowerState.RUNNING
    servers.finish(tx, server_id, state, power=power, now=now, launched_at=now, progress=100)
    row = migrations.by_uuid(tx, moving.uuid)
    data = _open(row.data) if row is not None else {}
    migrations.update(tx, moving.uuid, now=now, status=Status.DONE, data=data)
    journal.forget_results(tx, env.saga_id, describe_evacuated.name)
    end_part(tx, env, server_id, REBUILD, now)
    end_action(tx, env, server_id, now, tell=False)


@remote()
async def give_up_evacuation(
    env: Env,
    server_id: str,
    _uuid: str = "",
    _host: str | None = None,
    _force: bool = False,
    _off: bool = False,
) -> None:
    """ERROR, on the host where it was; the next try may go elsewhere."""
    place = await find_place(env, server_id)
    if place.cell_id is not None:
        await env.world.cells.get(place.cell_id).db.run(_give_up, env, server_id)


def _give_up(tx: Tx, env: Env, server_id: str) -> None:
    journal.guard(tx, env.saga_id, env.epoch)
    journal.forget_results(tx, env.saga_id, describe_evacuated.name)
    now = env.clock.now()
    told = fault(env.error, env)
    action = actions.show(tx, server_id, env.asked.request_id)
    for event in action.events if action is not None else ():
        if event.finish is None and event.name != EVENTS[env.saga_name].name:
            end_part(tx, env, server_id, event.name, now, error=told.message)
    end_action(tx, env, server_id, now, error=told.message, tell=False)
    if not engine.awaited(tx, env.saga_id):
        servers.set_error(tx, server_id, told, now=now)


def _open(data: dict[str, object]) -> dict[str, object]:
    """Without what nobody needs to read any more."""
    return {name: value for name, value in data.items() if name != PASSWORD}
