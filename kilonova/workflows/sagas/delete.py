"""Deleting a server, in whatever state it is."""

from __future__ import annotations

from kilonova.domain.operations import DESTROY, Destroy
from kilonova.domain.states import Task
from kilonova.workflows.engine.saga import Saga
from kilonova.workflows.engine.steps import saga
from kilonova.workflows.steps.hosts import is_alive
from kilonova.workflows.steps.networking import drop_ports
from kilonova.workflows.steps.placing import release
from kilonova.workflows.steps.records import forget_server, locate, mark_deleted


@saga("server.delete", action="delete", notify="instance.delete", forward=True)
async def delete(s: Saga, server_id: str) -> None:
    """Destroy the guest, give everything back, mark the row deleted.

    The guest on a host that is down is destroyed when the host returns.
    """
    place = await s.do(locate, server_id)
    if place.cell_id is not None:
        s.cell = place.cell_id
        alive = bool(place.host) and await s.do(is_alive, place.host or "")
        if alive and place.host and place.guest:
            await s.on(place.host, DESTROY, Destroy(place.guest), task=Task.DELETING)
        if not place.buried:
            await s.do(drop_ports, server_id)
            await s.do(release, server_id)
        await s.do(mark_deleted, server_id)
    await s.do(forget_server, server_id, place.cell_id is not None)
