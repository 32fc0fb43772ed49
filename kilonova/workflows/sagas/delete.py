"""Deleting a server, in whatever state it is."""

from __future__ import annotations

from kilonova.domain.operations import DESTROY, Destroy
from kilonova.domain.states import Task
from kilonova.workflows.engine.saga import Saga
from kilonova.workflows.engine.steps import saga
from kilonova.workflows.steps.networking import drop_ports
from kilonova.workflows.steps.placing import release
from kilonova.workflows.steps.records import forget_server, mark_deleted, seize
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
        await s.do(mark_deleted, server_id)
    await s.do(forget_server, server_id)
