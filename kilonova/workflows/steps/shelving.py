"""Steps around servers that are shelved: what is kept of them, leaving a host, coming back."""

from __future__ import annotations

import datetime as dt

import msgspec

from kilonova.base.errors import NotFound, Unavailable
from kilonova.db.database import Tx
from kilonova.domain.guest import Disk, GuestSpec, ImageRef, Nic, PowerState
from kilonova.domain.request import HostRef
from kilonova.domain.sagas import SHELVE, UNSHELVE
from kilonova.domain.server import Private
from kilonova.domain.states import Task, VmState
from kilonova.interfaces.network import Port
from kilonova.store import actions, block_devices, groups, holds, mappings, servers, shelved
from kilonova.store.noting import note
from kilonova.workflows import telling
from kilonova.workflows.engine import accept as engine
from kilonova.workflows.engine import journal
from kilonova.workflows.engine.steps import remote, transaction
from kilonova.workflows.steps.moving import find_server, zone_of
from kilonova.workflows.steps.placing import hold
from kilonova.workflows.steps.records import end_action, fault, find_place
from kilonova.workflows.visible import EVENTS
from kilonova.workflows.world import Env

OFFLOAD = "instance.shelve_offload"
SCHEDULING = "conductor_unshelve_instance"
"""The event of a server that came back to no host."""


class ImageGone(NotFound):
    """The image of a shelved server is not there any more: nobody can bring it back."""


class Resting(msgspec.Struct, frozen=True):
    """What is left of an offloaded server. ``image``: None when it starts from a volume."""

    image: ImageRef | None
    nics: tuple[Nic, ...]
    volumes: tuple[Disk, ...]


# -- shelving --------------------------------------------------------------------------------------


@transaction(db="own")
def finish_shelve(tx: Tx, env: Env, server_id: str, image_id: str, power: PowerState) -> bool:
    """SHELVED, with its image known; True when it shall leave its host at once."""
    now = env.clock.now()
    server = servers.finish(tx, server_id, VmState.SHELVED, power=power, now=now)
    _remember(tx, server_id, server.host, now, image_id=image_id)
    telling.ended(tx, env, server)
    if env.settings.default.shelved_offload_time != 0:
        end_action(tx, env, server_id, now, tell=False)
        return False
    server = servers.update(tx, server_id, now=now, task_state=str(Task.SHELVING_OFFLOADING))
    note(tx, f"{OFFLOAD}.{telling.START}", server)
    return True


def _remember(
    tx: Tx, server_id: str, host: str | None, now: dt.datetime, *, image_id: str = ""
) -> None:
    """Keep beside the server when, from where, and as which image it was shelved."""
    private = servers.private(tx, server_id) or Private()
    facts = {shelved.AT: now.isoformat(), shelved.HOST: host or ""}
    if image_id:
        facts[shelved.IMAGE] = image_id
    servers.update(tx, server_id, now=now, system={**facts, **private.system})


# -- leaving ---------------------------------------------------------------------------------------


@remote()
async def need_agent(env: Env, host: str) -> None:
    """Unavailable when nobody on the host could end the guest now."""
    if not await env.world.alive(host):
        raise Unavailable(f"Host {host} does not answer; the server stays on it.")


@remote()
async def leave_host(env: Env, port_id: str) -> None:
    """Take a port's binding off; it stays the server's. Gone is success."""
    await env.world.networks.leave_host(port_id)


@remote()
async def park_volume(env: Env, server_id: str, disk: Disk) -> Disk:
    """The disk with a volume that is kept for the server, but connected to no host."""
    volumes = env.world.volumes
    if disk.volume_id is None:
        return disk
    try:
        others = [
            use.id
            for use in await volumes.attachments(server_id)
            if use.volume_id == disk.volume_id and use.id != disk.attachment_id
        ]
        kept = (
            others[0] if others else await volumes.reserve(disk.volume_id, server_id, another=True)
        )
    except NotFound:
        return msgspec.structs.replace(disk, connection=None)
    if disk.attachment_id:
        await volumes.release(disk.attachment_id)
    return msgspec.structs.replace(disk, attachment_id=kept, connection=None)


@transaction(db="api")
def leave_group(tx: Tx, _env: Env, server_id: str, host: str) -> None:
    """Its group does not count it on that host any more."""
    groups.leave_place(tx, server_id, host)


@transaction(db="own")
def finish_offload(tx: Tx, env: Env, server_id: str, parked: list[Disk]) -> None:
    """SHELVED_OFFLOADED, on no host; the action is over."""
    now = env.clock.now()
    _write_volumes(tx, env, server_id, parked)
    before = servers.get(tx, server_id, lock=True)
    _remember(tx, server_id, before.host if before else None, now)
    holds.leave(tx, server_id, now=now)
    power = PowerState.SHUTDOWN
    state = VmState.SHELVED_OFFLOADED
    server = servers.finish(tx, server_id, state, power=power, now=now, host=None, node=None)
    end_action(tx, env, server_id, now, tell=False)
    # Its last word comes from the host it had.
    told = before and msgspec.structs.replace(server, host=before.host, node=before.node)
    if env.saga_name == SHELVE.name:
        note(tx, f"{OFFLOAD}.{telling.END}", told or server)
    else:
        telling.ended(tx, env, told or server)


# -- coming back -----------------------------------------------------------------------------------


@transaction(db="api")
def pin_zone(tx: Tx, _env: Env, server_id: str, zone: str | None) -> None:
    """From now on the server is to be in that zone (None: in any)."""
    spec = mappings.find_spec(tx, server_id)
    if spec is not None:
        mappings.save_spec(tx, server_id, msgspec.structs.replace(spec, zone=zone))


@remote()
async def find_resting(env: Env, server_id: str) -> Resting:
    """What there is to bring the server back from; ImageGone."""
    private = (await find_server(env, server_id)).private
    image_id = private.system.get(shelved.IMAGE, "")
    image = None
    if image_id:
        try:
            found = await env.world.images.show(image_id, token=None)
        except NotFound:
            raise ImageGone(
                f"Instance {server_id} was shelved as image {image_id}, which is gone."
            ) from None
        image = ImageRef(**{name: getattr(found, name) for name in ImageRef.__struct_fields__})
    volumes = tuple(disk for disk in private.disks if disk.source == "volume")
    return Resting(image, private.nics, volumes)


@remote()
async def find_zone(env: Env, host: str) -> str:
    """The availability zone of a host."""
    return await zone_of(env, host)


@transaction(db="own")
def move_in(tx: Tx, env: Env, server_id: str, host: HostRef, zone: str) -> None:
    """The server is on a host, with what it gets of its cells and devices; Conflict."""
    now = env.clock.now()
    server = servers.update(
        tx, server_id, now=now, host=host.host, node=host.node, availability_zone=zone
    )
    hold(tx, env, server, host)


@transaction(db="own")
def move_out(tx: Tx, env: Env, server_id: str, host: HostRef, _zone: str) -> None:
    """It is on none again."""
    now = env.clock.now()
    holds.leave(tx, server_id, now=now, host=host.host)
    if servers.get(tx, server_id) is not None:
        servers.update(tx, server_id, now=now, host=None, node=None)


@remote()
async def leave_ports(env: Env, server_id: str, _host: str, _nics: tuple[Nic, ...]) -> None:
    """The server's ports are bound to no host."""
    bound: list[Port] = await env.world.networks.ports(server_id=server_id)
    for port in bound:
        await env.world.networks.leave_host(port.id)


@transaction(db="own")
def write_nics(tx: Tx, env: Env, server_id: str, nics: tuple[Nic, ...]) -> None:
    """Keep the server's cards as they are now."""
    servers.set_nics(tx, server_id, nics, now=env.clock.now())


@transaction(db="own")
def write_volumes(tx: Tx, env: Env, server_id: str, disks: list[Disk]) -> None:
    """Keep the server's volumes as they are now."""
    _write_volumes(tx, env, server_id, disks)


def _write_volumes(tx: Tx, env: Env, server_id: str, disks: list[Disk]) -> None:
    known = {disk.id: disk for disk in disks}
    if known:
        present = block_devices.of_server(tx, server_id)
        wanted = [known.get(disk.id, disk) for disk in present]
        servers.set_disks(tx, server_id, wanted, now=env.clock.now())


@remote()
async def describe_returning(env: Env, server_id: str, image: ImageRef | None) -> GuestSpec:
    """The guest, with its root disk over the image it was shelved as."""
    guest = (await find_place(env, server_id)).guest
    if guest is None:
        raise NotFound(f"Instance {server_id} could not be found.")
    if image is None:
        return guest
    disks = tuple(
        msgspec.structs.replace(disk, image=image) if disk.role == "root" else disk
        for disk in guest.disks
    )
    return msgspec.structs.replace(guest, disks=disks)


@remote()
async def end_attachment(env: Env, disk: Disk) -> None:
    """The attachment that kept a volume for the server is not needed any more."""
    if disk.attachment_id:
        await env.world.volumes.release(disk.attachment_id)


@transaction(db="own")
def finish_unshelve(tx: Tx, env: Env, server_id: str, power: PowerState) -> None:
    """ACTIVE; nothing is left of its having been shelved. The action is over."""
    now = env.clock.now()
    private = servers.private(tx, server_id) or Private()
    servers.update(tx, server_id, now=now, system=shelved.forgotten(private.system))
    launched = {"launched_at": now} if env.saga_name == UNSHELVE.name else {}
    server = servers.finish(tx, server_id, VmState.ACTIVE, power=power, now=now, **launched)
    end_action(tx, env, server_id, now, tell=False)
    telling.ended(tx, env, server)


@remote()
async def give_up_unshelve(
    env: Env,
    server_id: str,
    _host: str | None = None,
    _repin: bool = False,
    _zone: str | None = None,
) -> None:
    """It could not come back: SHELVED_OFFLOADED as before, or ERROR when its image is gone."""
    place = await find_place(env, server_id)
    if place.cell_id is not None:
        await env.world.cells.get(place.cell_id).db.run(_give_up_unshelve, env, server_id)


def _give_up_unshelve(tx: Tx, env: Env, server_id: str) -> None:
    journal.guard(tx, env.saga_id, env.epoch)
    now, told, asked = env.clock.now(), fault(env.error, env), env.asked.request_id
    server = servers.get(tx, server_id, lock=True)
    shown = actions.show(tx, server_id, asked)
    if shown is not None and all(e.name != EVENTS[env.saga_name].name for e in shown.events):
        actions.start_event(tx, server_id, asked, SCHEDULING, now=now)
        actions.finish_event(tx, server_id, asked, SCHEDULING, now=now, error=told.message)
        actions.finish(tx, server_id, asked, now=now, message="Error")
    else:
        end_action(tx, env, server_id, now, error=told.message)
    if server is None or engine.awaited(tx, env.saga_id):
        return
    gone = env.error is not None and env.error.type == ImageGone.__name__
    vm_state = VmState.ERROR if gone else server.vm_state
    servers.set_error(tx, server_id, told, now=now, vm_state=vm_state)
