"""Making a server anew where it is, rescuing it, and giving its administrator a new password."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from kilonova.base.errors import Internal, NotFound
from kilonova.domain.guest import Disk, GuestSpec, ImageRef
from kilonova.domain.operations import (
    DETACH_DISK,
    POWER_OFF,
    REBUILD,
    RESCUE,
    SET_PASSWORD,
    UNRESCUE,
    DiskArgs,
    GuestArgs,
    PowerOff,
    Rebuild,
    Rescue,
    SetPassword,
)
from kilonova.domain.rescue import rescued
from kilonova.domain.sagas import Former, Reimage
from kilonova.domain.states import Task, VmState
from kilonova.workflows.engine.saga import Saga
from kilonova.workflows.engine.steps import saga
from kilonova.workflows.sagas.power import patience, where
from kilonova.workflows.steps.records import begin_event, locate, settle
from kilonova.workflows.steps.reimaging import (
    drop_hold,
    end_former,
    hold_volume,
    reimaged,
    write_image,
)
from kilonova.workflows.steps.remaking import (
    check_host,
    describe_anew,
    fail,
    fail_password,
    fail_rebuild,
    fail_rescue,
    finish_password,
    finish_rebuild,
    finish_rescue,
    keep_request,
    renew_disks,
    schedule_rebuild,
    take_secret,
)
from kilonova.workflows.steps.volumes import complete_volume, connect_volume, keep_volume


@saga("server.rebuild", action="rebuild", notify="instance.rebuild", failed=fail_rebuild)
async def rebuild(
    s: Saga,
    server_id: str,
    former: Former | None,
    stopped: bool,
    preserve_ephemeral: bool,
    root: Reimage | None,
) -> None:
    """Make the local disks, or the root volume, anew; host, cards, volumes and claims stay."""
    host, guest = await where(s, server_id)
    if former is not None:
        await s.do(check_host, server_id, root.image if root is not None else None)
    await s.do(schedule_rebuild, server_id)
    if former is not None and root is None:
        await s.do(keep_request, server_id, guest.image)
    await s.do(renew_disks, server_id, task=Task.REBUILD_BLOCK_DEVICE_MAPPING)
    if root is not None:
        await _rewrite(s, server_id, host, root)
    await _whole(s, _remake, server_id, host, stopped, preserve_ephemeral)
    if stopped:
        await s.on(host, POWER_OFF, PowerOff(guest, 0), task=Task.POWERING_OFF)
    await s.do(finish_rebuild, server_id, stopped)


async def _rewrite(s: Saga, server_id: str, host: str, root: Reimage) -> None:
    """The root volume gets the data of an image; the server has it all the time."""
    place = await s.do(locate, server_id, key="root")
    disk = next((disk for disk in place.volumes if disk.id == root.disk_id), None)
    if disk is None or place.guest is None:
        raise NotFound(f"Instance {server_id} has no such volume any more.")
    await s.on(host, POWER_OFF, PowerOff(place.guest, patience(s, place.guest)), key="root")
    await s.on(host, DETACH_DISK, DiskArgs(_without(place.guest, disk), disk))
    held = await s.do(hold_volume, server_id, disk, undo=drop_hold)
    await s.do(keep_volume, server_id, held, key="held")
    await s.do(end_former, disk)
    await s.do(write_image, held, root.image.id)
    await s.wait(reimaged(server_id, held), within=root.seconds)
    ready = await s.do(connect_volume, server_id, host, held)
    await s.do(complete_volume, ready)
    await s.do(keep_volume, server_id, ready)


async def _remake(
    s: Saga, server_id: str, host: str, stopped: bool, preserve_ephemeral: bool
) -> None:
    guest = await s.do(describe_anew, server_id)
    wanted = Rebuild(guest, patience(s, guest), stopped, preserve_ephemeral)
    await s.on(host, REBUILD, wanted, task=Task.REBUILD_SPAWNING)


@saga("server.rescue", action="rescue", notify="instance.rescue", failed=fail_rescue)
async def rescue(s: Saga, server_id: str, image: ImageRef, named: str | None) -> None:
    """Start from another image, with the server's disk beside it."""
    host, guest = await where(s, server_id)
    await s.do(begin_event, server_id, host)
    await _whole(s, _rescue, server_id, host, guest, image)
    await s.do(finish_rescue, server_id)


async def _rescue(s: Saga, server_id: str, host: str, guest: GuestSpec, image: ImageRef) -> None:
    secret = await s.do(take_secret, server_id)
    inside = rescued(guest, image, admin_pass=secret.admin_pass)
    await s.on(host, RESCUE, Rescue(inside, patience(s, guest)), task=Task.RESCUING)


@saga("server.unrescue", action="unrescue", notify="instance.unrescue", failed=fail)
async def unrescue(s: Saga, server_id: str) -> None:
    """Start from the server's own disk again."""
    host, guest = await where(s, server_id)
    status = await s.on(host, UNRESCUE, GuestArgs(guest), task=Task.UNRESCUING)
    await s.do(settle, server_id, VmState.ACTIVE, status.power)


@saga("server.set_password", action="changePassword", failed=fail_password)
async def set_password(s: Saga, server_id: str) -> None:
    """Have the guest's agent set it."""
    host, guest = await where(s, server_id)
    await _whole(s, _set_password, server_id, host, guest)
    await s.do(finish_password, server_id)


async def _set_password(s: Saga, server_id: str, host: str, guest: GuestSpec) -> None:
    secret = await s.do(take_secret, server_id)
    wanted = SetPassword(guest, secret.admin_pass or "")
    await s.on(host, SET_PASSWORD, wanted, task=Task.UPDATING_PASSWORD)


async def _whole(s: Saga, part: Callable[..., Awaitable[Any]], *args: Any) -> None:
    """A part with a secret in it: once it has ended, nothing needs the secret any more."""
    if not await s.attempt(part, *args):
        raise s.last_error or Internal("The work failed.")


def _without(guest: GuestSpec, disk: Disk) -> GuestSpec:
    left = tuple(other for other in guest.disks if other.id != disk.id)
    return msgspec.structs.replace(guest, disks=left)
