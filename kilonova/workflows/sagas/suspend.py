"""Keeping a server's memory on disk, and letting it go on from there."""

from __future__ import annotations

from kilonova.domain.operations import SUSPEND, WAKE, GuestArgs
from kilonova.domain.states import Task, VmState
from kilonova.workflows.engine.saga import Saga
from kilonova.workflows.engine.steps import saga
from kilonova.workflows.sagas.power import where
from kilonova.workflows.steps.records import give_up, settle


@saga("server.suspend", action="suspend", notify="instance.suspend", failed=give_up)
async def suspend(s: Saga, server_id: str) -> None:
    """Save the guest and end it; its disks, cards and claims stay where they are."""
    host, guest = await where(s, server_id)
    status = await s.on(host, SUSPEND, GuestArgs(guest), task=Task.SUSPENDING)
    await s.do(settle, server_id, VmState.SUSPENDED, status.power)


@saga("server.resume", action="resume", notify="instance.resume", failed=give_up)
async def resume(s: Saga, server_id: str) -> None:
    """Let the guest go on where it was."""
    host, guest = await where(s, server_id)
    status = await s.on(host, WAKE, GuestArgs(guest), task=Task.RESUMING)
    await s.do(settle, server_id, VmState.ACTIVE, status.power)
