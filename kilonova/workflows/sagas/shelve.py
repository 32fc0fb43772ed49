"""Keeping servers as images, taking them off their hosts, and bringing them back."""

from __future__ import annotations

from kilonova.base.errors import Conflict
from kilonova.domain.guest import Disk, GuestSpec, PowerState
from kilonova.domain.moves import Wish
from kilonova.domain.operations import (
    DESTROY,
    POWER_OFF,
    POWER_ON,
    RESUME,
    SPAWN,
    Destroy,
    GuestArgs,
    PowerOff,
    Spawn,
)
from kilonova.domain.request import HostRef
from kilonova.domain.states import Task
from kilonova.workflows.engine.saga import Saga
from kilonova.workflows.engine.steps import Undo, saga
from kilonova.workflows.sagas.build import exhausted
from kilonova.workflows.sagas.power import patience, until_open
from kilonova.workflows.steps.images import delete_image, drop_image, make_image, take_image
from kilonova.workflows.steps.moving import (
    choose_hosts,
    claim_there,
    leave_volume,
    rebind,
    take_volume,
    unclaim_there,
)
from kilonova.workflows.steps.placing import NoValidHost, leave_place, release, take_place
from kilonova.workflows.steps.records import Place, give_up, locate
from kilonova.workflows.steps.shelving import (
    Resting,
    describe_returning,
    end_attachment,
    find_resting,
    find_zone,
    finish_offload,
    finish_shelve,
    finish_unshelve,
    give_up_unshelve,
    leave_group,
    leave_host,
    leave_ports,
    move_in,
    move_out,
    need_agent,
    park_volume,
    pin_zone,
    write_nics,
    write_volumes,
)
from kilonova.workflows.steps.volumes import complete_volume

SUFFIX = "-shelved"
TRIES = 3


@saga("server.shelve", action="shelve", notify="instance.shelve", failed=give_up)
async def shelve(s: Saga, server_id: str) -> None:
    """Switch off, keep the disk as an image; off the host at once unless that shall wait."""
    place, host, guest = await _there(s, server_id)
    off = PowerOff(guest, patience(s, guest))
    status = await s.on(host, POWER_OFF, off, task=Task.SHELVING)
    name = f"{guest.metadata.name}{SUFFIX}"
    image_id = await s.do(make_image, server_id, name, undo=drop_image)
    await take_image(
        s,
        host,
        guest,
        image_id,
        pending=Task.SHELVING_IMAGE_PENDING_UPLOAD,
        uploading=Task.SHELVING_IMAGE_UPLOADING,
    )
    await s.pivot()
    if await s.do(finish_shelve, server_id, image_id, status.power):
        await leave(s, server_id, place)


@saga("server.shelve_volumes", action="shelve", notify="instance.shelve_offload", failed=give_up)
async def shelve_volumes(s: Saga, server_id: str) -> None:
    """One that starts from a volume needs no image: off its host at once."""
    place, host, guest = await _there(s, server_id)
    await s.on(host, POWER_OFF, PowerOff(guest, patience(s, guest)), task=Task.SHELVING)
    await s.pivot()
    await leave(s, server_id, place, task=Task.SHELVING)


@saga(
    "server.shelve_offload",
    action="shelveOffload",
    notify="instance.shelve_offload",
    failed=give_up,
)
async def offload(s: Saga, server_id: str) -> None:
    """Take a shelved server off its host, which has to answer."""
    place, host, _ = await _there(s, server_id)
    await s.do(need_agent, host, task=Task.SHELVING_OFFLOADING)
    await s.pivot()
    await leave(s, server_id, place)


async def leave(
    s: Saga, server_id: str, place: Place, *, task: Task = Task.SHELVING_OFFLOADING
) -> None:
    """Give back everything on the host; ports and volumes stay the server's. No way back.

    A guest on a host that dies meanwhile is destroyed when the host returns.
    """
    if place.host is not None and place.guest is not None:
        await s.on(place.host, DESTROY, Destroy(place.guest), task=task, even_if_down=True)
        await s.each(leave_host, [nic.port_id for nic in place.guest.nics])
        await s.do(leave_group, server_id, place.host)
    parked = await s.each(park_volume, server_id, list(place.volumes))
    await s.do(release, server_id)
    await s.do(finish_offload, server_id, parked)


@saga("server.unshelve_here", action="unshelve", notify="instance.power_on", failed=give_up)
async def unshelve_here(s: Saga, server_id: str) -> None:
    """Start a shelved server that is still on its host."""
    place, host, guest = await _there(s, server_id)
    status = await s.on(host, POWER_ON, GuestArgs(guest), task=Task.POWERING_ON)
    await s.pivot()
    await drop_shelved(s, place.shelved_image)
    await s.do(finish_unshelve, server_id, status.power)


@saga("server.unshelve", action="unshelve", notify="instance.unshelve", failed=give_up_unshelve)
async def unshelve(
    s: Saga,
    server_id: str,
    host: str | None = None,
    repin: bool = False,
    zone: str | None = None,
) -> None:
    """Make an offloaded server again, on a host chosen now; another one if that fails."""
    if repin:
        await s.do(pin_zone, server_id, zone)
    place = await s.do(locate, server_id)
    resting = await s.do(find_resting, server_id)
    assert place.flavor is not None
    for chosen in await s.do(choose_hosts, server_id, Wish(place.flavor, host=host)):
        if await s.attempt(return_to, server_id, chosen, resting, key=chosen.host):
            break
    else:
        raise NoValidHost(exhausted(server_id, s.last_error))
    await s.pivot()
    await s.each(end_attachment, resting.volumes)
    await drop_shelved(s, place.shelved_image)
    await s.do(finish_unshelve, server_id, PowerState.RUNNING)


async def return_to(s: Saga, server_id: str, host: HostRef, resting: Resting) -> None:
    """Everything on one host; what is done here is taken back when it fails."""
    if host.group:
        await s.do(take_place, server_id, host.group, host.host, undo=leave_place)
    await s.do(claim_there, server_id, host, undo=unclaim_there)
    zone = await s.do(find_zone, host.host)
    await s.do(move_in, server_id, host, zone, undo=move_out)
    cards = await s.do(rebind, server_id, host.host, resting.nics, undo=leave_ports)
    await s.do(write_nics, server_id, cards.nics)
    ready: list[Disk] = []
    if resting.volumes:
        ready = await s.each(take_volume, server_id, host.host, resting.volumes, undo=leave_volume)
        back = Undo(write_volumes, server_id, list(resting.volumes))
        await s.do(write_volumes, server_id, ready, undo=back)
    guest = await s.do(describe_returning, server_id, resting.image)
    await s.on(
        host.host,
        SPAWN,
        Spawn(guest, paused=True),
        undo=Undo(DESTROY, Destroy(guest), even_if_down=True),
        task=Task.SPAWNING,
    )
    await s.each(complete_volume, ready)
    await until_open(s, server_id, list(cards.ports))
    await s.on(host.host, RESUME, GuestArgs(guest))


async def _there(s: Saga, server_id: str) -> tuple[Place, str, GuestSpec]:
    place = await s.do(locate, server_id)
    if place.host is None or place.guest is None:
        raise Conflict(f"Instance {server_id} is on no host.")
    return place, place.host, place.guest


async def drop_shelved(s: Saga, image_id: str) -> None:
    """The image is not needed any more; one that cannot be deleted now is left."""
    for number in range(TRIES if image_id else 0):
        if await s.attempt(drop, image_id, key=str(number)):
            return


async def drop(s: Saga, image_id: str) -> None:
    """Delete it."""
    await s.do(delete_image, image_id)
