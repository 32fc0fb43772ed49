"""Another flavor or another host for a server that is off meanwhile; confirming, going back."""

from __future__ import annotations

from kilonova.base.errors import Conflict
from kilonova.domain.guest import Disk, FlavorSpec, GuestSpec, Nic
from kilonova.domain.moves import Kind, Moving, Status, Wish
from kilonova.domain.operations import (
    ARRIVE,
    COME_BACK,
    DEPART,
    DESTROY,
    END_OFFER,
    FORGET_ASIDE,
    POWER_OFF,
    POWER_ON,
    RESUME,
    Arrive,
    Aside,
    ComeBack,
    Depart,
    Departed,
    Destroy,
    GuestArgs,
    PowerOff,
)
from kilonova.domain.request import HostRef
from kilonova.domain.states import Task
from kilonova.workflows.engine.saga import Saga
from kilonova.workflows.engine.steps import Undo, saga
from kilonova.workflows.sagas.power import patience, until_open, where
from kilonova.workflows.steps import moving as steps
from kilonova.workflows.steps import resizing
from kilonova.workflows.steps.networking import BoundPort
from kilonova.workflows.steps.placing import NoValidHost
from kilonova.workflows.steps.records import Place, locate
from kilonova.workflows.steps.volumes import complete_volume, release_attachment


@saga("server.resize", action="resize", notify="instance.resize", failed=resizing.give_up_move)
async def resize(s: Saga, server_id: str, flavor: FlavorSpec) -> None:
    """Another flavor, on the same host where that is allowed and best, else on another."""
    here = s.settings.default.allow_resize_to_same_host
    await _move(s, server_id, Kind.RESIZE, flavor, None, here=here)


@saga("server.migrate", action="migrate", notify="instance.resize", failed=resizing.give_up_move)
async def migrate(s: Saga, server_id: str, host: str | None) -> None:
    """Another host: the one that is named, if the scheduler agrees, or one of its choice."""
    await _move(s, server_id, Kind.MIGRATION, None, host, here=False)


async def _move(
    s: Saga, server_id: str, kind: Kind, flavor: FlavorSpec | None, host: str | None, *, here: bool
) -> None:
    moving = await s.do(
        steps.open_migration,
        server_id,
        kind,
        Status.PRE_MIGRATING,
        flavor,
        undo=steps.fail_migration,
    )
    disks = await s.do(resizing.plan_disks, server_id, moving)
    old, new = moving.before.flavor, moving.flavor
    await s.do(resizing.count_both, server_id, old, new, undo=resizing.count_old)
    await s.do(steps.keep_source, server_id, moving.uuid, undo=steps.return_source)
    held = server_id, moving.uuid, moving.source
    await s.do(steps.keep_shape, *held, undo=steps.return_shape)
    wish = Wish(new, ignore=() if here else (moving.source,), host=host)
    for chosen in await s.do(steps.choose_hosts, server_id, wish):
        if await s.attempt(prepare, server_id, moving, chosen, key=chosen.host):
            await _carry(s, server_id, moving, chosen, disks)
            return
    raise NoValidHost(steps.NOWHERE)


async def prepare(s: Saga, server_id: str, moving: Moving, host: HostRef) -> None:
    """Everything that may show that a host does not do, while the guest still runs."""
    if host.group:
        place = server_id, host.group, host.host, moving.source
        await s.do(steps.join_there, *place, undo=steps.unjoin_there)
    await s.do(steps.claim_there, server_id, host, undo=steps.unclaim_there)
    shape = server_id, moving.flavor, host
    await s.do(steps.take_shape, *shape, undo=steps.leave_shape)
    await s.do(resizing.prepared, server_id, moving, host)


async def _carry(
    s: Saga, server_id: str, moving: Moving, host: HostRef, disks: tuple[Disk, ...]
) -> None:
    """Off the source, onto the destination; what fails brings the guest back to the source."""
    other = host.host != moving.source
    _, guest = await where(s, server_id)
    await s.do(resizing.leaving, server_id, moving)
    seconds = patience(s, guest) if moving.ran else 0
    departed: Departed = await s.on(
        moving.source,
        DEPART,
        Depart(guest, moving.uuid, seconds, offer=other),
        undo=Undo(COME_BACK, ComeBack(guest, moving.uuid, start=moving.ran), even_if_down=True),
        task=Task.RESIZE_MIGRATING,
    )
    nics, ready = moving.nics, list(disks)
    ports: tuple[BoundPort, ...] = ()
    if other:
        back = Undo(steps.rebind, server_id, moving.source, moving.nics)
        bound = await s.do(steps.rebind, server_id, host.host, moving.nics, undo=back)
        nics, ports = bound.nics, bound.ports
        taken = await s.each(
            steps.take_volume, server_id, host.host, moving.volumes, undo=steps.leave_volume
        )
        ready = _with(disks, taken)
    zone = await s.do(resizing.zone_there, host)
    await s.do(
        resizing.switch,
        server_id,
        moving,
        host,
        zone,
        nics,
        ready,
        undo=Undo(resizing.switch_back, server_id, moving),
        task=Task.RESIZE_MIGRATED,
    )
    place = await s.do(locate, server_id, key="there")
    if place.guest is None:
        raise Conflict(f"Instance {server_id} is on no host.")
    there = place.guest
    await s.on(
        host.host,
        ARRIVE,
        Arrive(there, moving.uuid, departed.offer, start=moving.ran, paused=True),
        undo=Undo(DESTROY, Destroy(there), even_if_down=True),
        task=Task.RESIZE_FINISH,
    )
    if moving.ran:
        await until_open(s, server_id, list(ports))
        await s.on(host.host, RESUME, GuestArgs(there))
    if other:
        await s.each(complete_volume, [disk for disk in ready if disk.source == "volume"])
    await s.pivot()
    if other:
        await s.on(moving.source, END_OFFER, Aside(guest, moving.uuid), even_if_down=True)
        await s.each(release_attachment, server_id, moving.volumes)
    await s.do(resizing.count_new, server_id, moving.flavor)
    await s.do(resizing.finish_move, server_id, moving)


def _with(disks: tuple[Disk, ...], taken: list[Disk]) -> list[Disk]:
    known = {disk.id: disk for disk in taken}
    return [known.get(disk.id, disk) for disk in disks]


@saga(
    "server.confirm_resize",
    action="confirmResize",
    notify="instance.resize_confirm",
    forward=True,
)
async def confirm(s: Saga, server_id: str) -> None:
    """Keep what the move brought: the rest of the old place goes."""
    moving = await s.do(resizing.begin_confirm, server_id)
    if moving is not None:
        _, guest = await where(s, server_id)
        await end_move(s, server_id, moving, guest)
    await s.do(resizing.finish_confirm, server_id, moving)


async def end_move(s: Saga, server_id: str, moving: Moving, guest: GuestSpec) -> None:
    """Free everything that a finished move left on its source."""
    aside = Aside(guest, moving.uuid)
    await s.on(moving.source, FORGET_ASIDE, aside, key=moving.uuid, even_if_down=True)
    await s.do(steps.end_shape, moving.uuid, key=moving.uuid)
    if moving.away:
        await s.do(steps.leave_group_on, server_id, moving.source, key=moving.uuid)
    await s.do(steps.end_source, moving.uuid, key=moving.uuid)


@saga(
    "server.revert_resize",
    action="revertResize",
    notify="instance.resize_revert",
    failed=resizing.stay,
)
async def revert(s: Saga, server_id: str) -> None:
    """Back to the old flavor and host; the disks are those that were left there."""
    moving = await s.do(resizing.begin_revert, server_id, undo=resizing.stay_resized)
    place = await s.do(locate, server_id)
    if place.host is None or place.guest is None:
        raise Conflict(f"Instance {server_id} is on no host.")
    dest, guest = place.host, place.guest
    nics: tuple[Nic, ...] = guest.nics
    ports: tuple[BoundPort, ...] = ()
    volumes = list(place.volumes)
    if moving.away:
        nics, ports, volumes = await _return(s, server_id, moving, place)
    await s.pivot()
    await s.do(resizing.switch_home, server_id, moving, nics, volumes)
    if moving.away:
        await s.on(dest, DESTROY, Destroy(guest), even_if_down=True)
        await s.do(steps.leave_group_on, server_id, dest)
        await s.each(release_attachment, server_id, place.volumes)
    await s.do(steps.drop_shape, server_id)
    await s.do(steps.return_shape, server_id, moving.uuid, moving.source)
    await s.do(steps.return_source, server_id, moving.uuid)
    await s.do(resizing.count_new, server_id, moving.before.flavor)
    failure = ""
    if not await s.attempt(at_home, server_id, moving, ports):
        failure = s.last_error.message if s.last_error else "The guest could not be started."
    if moving.away:
        await s.each(complete_volume, volumes)
    await s.do(resizing.finish_revert, server_id, moving, failure)


async def _return(
    s: Saga, server_id: str, moving: Moving, place: Place
) -> tuple[tuple[Nic, ...], tuple[BoundPort, ...], list[Disk]]:
    """Off the destination, its cards and volumes on the source: all that can still be undone."""
    dest, guest = place.host, place.guest
    if dest is None or guest is None:
        raise Conflict(f"Instance {server_id} is on no host.")
    seconds = patience(s, guest) if moving.ran else 0
    on = Undo(POWER_ON, GuestArgs(guest), even_if_down=True) if moving.ran else None
    await s.on(dest, POWER_OFF, PowerOff(guest, seconds), undo=on)
    back = Undo(steps.rebind, server_id, dest, guest.nics)
    bound = await s.do(steps.rebind, server_id, moving.source, guest.nics, undo=back)
    volumes = await s.each(
        steps.take_volume, server_id, moving.source, place.volumes, undo=steps.leave_volume
    )
    await s.on(
        moving.source,
        COME_BACK,
        ComeBack(guest, moving.uuid, start=False),
        undo=Undo(DEPART, Depart(guest, moving.uuid, 0), even_if_down=True),
    )
    return bound.nics, bound.ports, volumes


async def at_home(s: Saga, server_id: str, moving: Moving, ports: tuple[BoundPort, ...]) -> None:
    """The guest as it was, on its old host."""
    place = await s.do(locate, server_id)
    if place.guest is None:
        raise Conflict(f"Instance {server_id} is on no host.")
    await s.on(
        moving.source,
        COME_BACK,
        ComeBack(place.guest, moving.uuid, start=moving.ran, paused=True),
    )
    if moving.ran:
        await until_open(s, server_id, list(ports))
        await s.on(moving.source, RESUME, GuestArgs(place.guest))
