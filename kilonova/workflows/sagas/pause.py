"""Freezing a server, letting it run again, and making its kernel dump its memory."""

from __future__ import annotations

from kilonova.domain.operations import INJECT_NMI, PAUSE, RESUME, GuestArgs
from kilonova.domain.states import Task, VmState
from kilonova.workflows.engine.saga import Saga
from kilonova.workflows.engine.steps import saga
from kilonova.workflows.sagas.power import where
from kilonova.workflows.steps.records import begin_event, close, give_up, settle


@saga("server.pause", action="pause", notify="instance.pause", failed=give_up)
async def pause(s: Saga, server_id: str) -> None:
    """Stop the guest's CPUs; it stays in memory."""
    host, guest = await where(s, server_id)
    status = await s.on(host, PAUSE, GuestArgs(guest), task=Task.PAUSING)
    await s.do(settle, server_id, VmState.PAUSED, status.power)


@saga("server.unpause", action="unpause", notify="instance.unpause", failed=give_up)
async def unpause(s: Saga, server_id: str) -> None:
    """Let the guest's CPUs run again."""
    host, guest = await where(s, server_id)
    status = await s.on(host, RESUME, GuestArgs(guest), task=Task.UNPAUSING)
    await s.do(settle, server_id, VmState.ACTIVE, status.power)


@saga(
    "server.crash_dump",
    action="trigger_crash_dump",
    notify="instance.trigger_crash_dump",
    failed=close,
)
async def crash_dump(s: Saga, server_id: str) -> None:
    """Interrupt the guest so that its kernel dumps; what it does then is its own affair."""
    host, guest = await where(s, server_id)
    await s.do(begin_event, server_id, host)
    await s.on(host, INJECT_NMI, GuestArgs(guest))
    await s.do(close, server_id)
