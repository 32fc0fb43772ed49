"""Deleting a server, in whatever state it is, at once or with time to think it over."""

from __future__ import annotations

from kilonova.domain.operations import DESTROY, POWER_OFF, POWER_ON, Destroy, GuestArgs, PowerOff
from kilonova.domain.states import Task, VmState
from kilonova.workflows.engine.saga import Saga
from kilonova.workflows.engine.steps import saga
from kilonova.workflows.sagas.power import patience, where
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
from kilonova.workflows.steps.volumes import release_volumes


@saga("server.delete", action="delete", notify="instance.delete", forward=True)
async def delete(s: Saga, server_id: str) -> None:
    """Destroy the guest, give everything back, mark the row deleted.

    The guest on a host that is down is destroyed when the host returns.
    """
    place = await s.do(seize, server_id)
    if place.cell_id is not None:
        s.cell = place.cell_id
        if place.host and place.guest:
            await s.on(
                place.host, DESTROY, Destroy(place.guest), task=Task.DELETING, even_if_down=True
            )
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
    await s.do(count_not, server_id, undo=count)
    await s.do(set_aside, server_id, status.power)


@saga("server.restore", action="restore", notify="instance.restore", failed=give_up)
async def restore(s: Saga, server_id: str) -> None:
    """Start a server that was set aside."""
    host, guest = await where(s, server_id)
    await s.do(count, server_id, undo=count_not)
    status = await s.on(host, POWER_ON, GuestArgs(guest), task=Task.RESTORING)
    await s.do(settle, server_id, VmState.ACTIVE, status.power)
