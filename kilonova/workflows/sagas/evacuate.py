"""A server made anew on another host, as its own is down: from its image, or on its volumes."""

from __future__ import annotations

from kilonova.base.errors import Unavailable
from kilonova.domain.guest import Disk
from kilonova.domain.moves import Moving, Wish
from kilonova.domain.operations import (
    DESTROY,
    FENCE,
    POWER_OFF,
    RESUME,
    SPAWN,
    Destroy,
    GuestArgs,
    PowerOff,
    Spawn,
)
from kilonova.domain.request import HostRef
from kilonova.domain.states import Task, VmState
from kilonova.workflows.engine.saga import Saga
from kilonova.workflows.engine.steps import Undo, saga
from kilonova.workflows.sagas.power import until_open, where
from kilonova.workflows.steps import evacuating as steps
from kilonova.workflows.steps import moving as moves
from kilonova.workflows.steps.placing import NoValidHost
from kilonova.workflows.steps.records import without_secrets
from kilonova.workflows.steps.resizing import zone_there
from kilonova.workflows.steps.volumes import complete_volume


@saga("server.evacuate", action="evacuate", failed=steps.give_up_evacuation)
async def evacuate(
    s: Saga, server_id: str, uuid: str, host: str | None, force: bool, off: bool
) -> None:
    """Another host of the scheduler's choice, or the one named; ``off``: it is not started there.

    What the server had on its own host is kept until that returns and cleans up.
    """
    moving = await s.do(steps.open_evacuation, server_id, uuid, undo=steps.fail_evacuation)
    # A host that is only believed to be down must not go on with the guest.
    await s.attempt(fence, server_id, moving.source)
    await s.do(moves.keep_source, server_id, uuid, undo=moves.return_source)
    await s.do(moves.keep_shape, server_id, uuid, moving.source, undo=moves.return_shape)
    wish = Wish(moving.flavor, ignore=(moving.source,), host=host, force=force)
    for chosen in await s.do(moves.choose_hosts, server_id, wish):
        if await s.attempt(claim, server_id, moving, chosen, key=chosen.host):
            await _make(s, server_id, moving, chosen, off or _was_off(moving))
            return
    raise NoValidHost(moves.NOWHERE)


async def fence(s: Saga, server_id: str, host: str) -> None:
    """The guest is off if its host can still be told so."""
    _, guest = await where(s, server_id)
    await s.on(host, FENCE, GuestArgs(guest))


async def claim(s: Saga, server_id: str, moving: Moving, host: HostRef) -> None:
    """The server's part of the host; the next one is tried when there is no room any more."""
    if host.group:
        place = server_id, host.group, host.host, moving.source
        await s.do(moves.join_there, *place, undo=moves.unjoin_there)
    await s.do(moves.claim_there, server_id, host, undo=moves.unclaim_there)
    shape = server_id, moving.flavor, host
    await s.do(moves.take_shape, *shape, undo=moves.leave_shape)


async def _make(s: Saga, server_id: str, moving: Moving, host: HostRef, off: bool) -> None:
    await s.do(steps.making, server_id, moving, host)
    bound = await s.do(
        moves.rebind,
        server_id,
        host.host,
        moving.nics,
        undo=Undo(steps.rebind_back, server_id, host.host, moving.nics, moving.source),
    )
    to = server_id, host.host
    task = Task.REBUILD_BLOCK_DEVICE_MAPPING
    volumes = await s.each(
        moves.take_volume, *to, moving.volumes, undo=moves.leave_volume, task=task
    )
    zone = await s.do(zone_there, host)
    if not await s.attempt(start, server_id, moving, host, bound, volumes, off):
        raise s.last_error or Unavailable("The guest could not be made.")
    await s.each(complete_volume, volumes)
    await s.pivot()
    ready = zone, bound.nics, volumes, off
    await s.do(steps.finish_evacuation, server_id, moving, host, *ready)
    await s.each(moves.leave_volume, *to, volumes)
    await s.do(moves.leave_group_on, server_id, moving.source)


async def start(
    s: Saga,
    server_id: str,
    moving: Moving,
    host: HostRef,
    bound: moves.Rebound,
    volumes: list[Disk],
    off: bool,
) -> None:
    """The guest; a part of its own, as nobody may read its password afterwards."""
    described = server_id, moving.uuid, bound.nics, volumes
    guest = await s.do(steps.describe_evacuated, *described)
    bare = without_secrets(guest)
    for former in await s.do(steps.stale_there, server_id, host):
        await s.on(host.host, DESTROY, Destroy(bare), key=former)
        await s.do(moves.end_shape, former, key=former)
        await s.do(moves.end_source, former, key=former)
        await s.do(steps.settle_stale, former, key=former)
    await s.on(
        host.host,
        SPAWN,
        Spawn(guest, paused=True),
        undo=Undo(DESTROY, Destroy(bare), even_if_down=True),
        task=Task.REBUILD_SPAWNING,
    )
    if off:
        await s.on(host.host, POWER_OFF, PowerOff(bare, 0))
        return
    await until_open(s, server_id, list(bound.ports))
    await s.on(host.host, RESUME, GuestArgs(bare))


def _was_off(moving: Moving) -> bool:
    return moving.before.vm_state == VmState.STOPPED
