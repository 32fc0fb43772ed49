"""Deleting a server, in whatever state it is, at once or with time to think it over."""

from __future__ import annotations

from kilonova.domain.guest import GuestSpec
from kilonova.domain.operations import DESTROY, POWER_OFF, POWER_ON, Destroy, GuestArgs, PowerOff
from kilonova.domain.states import Task, VmState
from kilonova.workflows.engine.saga import Saga
from kilonova.workflows.engine.steps import saga
from kilonova.workflows.sagas import shares
from kilonova.workflows.sagas.power import patience, where
from kilonova.workflows.sagas.resize import end_move
from kilonova.workflows.sagas.shelve import drop_shelved
from kilonova.workflows.steps.networking import drop_ports
from kilonova.workflows.steps.placing import release
from kilonova.workflows.steps.records import (
    count,
    count_not,
    forget_server,
    give_up,
    mark_deleted,
    seize,
    set_aside,
    settle,
)
from kilonova.workflows.steps.resizing import settle_move, waiting_moves
from kilonova.workflows.steps.shares import release_shares
from kilonova.workflows.steps.volumes import release_volumes


@saga("server.delete", action="delete", notify="instance.delete", forward=True)
async def delete(s: Saga, server_id: str) -> None:
    """Destroy the guest, give everything back, mark the row deleted.

    The guest on a host that is down is destroyed when the host returns.
    """
    place = await s.do(seize, server_id)
    if place.cell_id is not None:
        s.cell = place.cell_id
        await end_moves(s, server_id, place.guest)
        if place.host and place.guest:
            await s.on(
                place.host, DESTROY, Destroy(place.guest), task=Task.DELETING, even_if_down=True
            )
        if place.host and place.guest and place.guest.shares:
            await s.do(release_shares, server_id, place.host)
        await s.do(drop_ports, server_id)
        if place.volumes:
            await s.do(release_volumes, server_id, list(place.volumes))
        await s.do(release, server_id)
        await drop_shelved(s, place.shelved_image)
        await s.do(mark_deleted, server_id)
    await s.do(forget_server, server_id)


@saga("server.soft_delete", action="delete", notify="instance.soft_delete", failed=give_up)
async def soft_delete(s: Saga, server_id: str) -> None:
    """Switch the guest off and keep all of it, until it is restored or its time is over."""
    host, guest = await where(s, server_id)
    off = PowerOff(guest, patience(s, guest))
    status = await s.on(host, POWER_OFF, off, task=Task.SOFT_DELETING)
    await shares.stopped(s, server_id, guest)
    await s.do(count_not, server_id, undo=count)
    await s.pivot()
    await end_moves(s, server_id, guest)
    await s.do(set_aside, server_id, status.power)


@saga("server.restore", action="restore", notify="instance.restore", failed=give_up)
async def restore(s: Saga, server_id: str) -> None:
    """Start a server that was set aside."""
    host, guest = await where(s, server_id)
    await s.do(count, server_id, undo=count_not)
    await shares.before_start(s, server_id, host, guest)
    status = await s.on(host, POWER_ON, GuestArgs(guest), task=Task.RESTORING)
    await shares.started(s, server_id, guest)
    await s.do(settle, server_id, VmState.ACTIVE, status.power)


async def end_moves(s: Saga, server_id: str, guest: GuestSpec | None) -> None:
    """What resizes that nobody confirmed have left elsewhere goes, as if they had been confirmed.

    On a host that is down it goes when the host returns.
    """
    for moving in await s.do(waiting_moves, server_id):
        if guest is not None:
            await end_move(s, server_id, moving, guest)
        await s.do(settle_move, moving, key=moving.uuid)
