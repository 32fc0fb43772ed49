"""Making a server."""

from __future__ import annotations

from kilonova.domain.operations import DESTROY, RESUME, SPAWN, Destroy, GuestArgs, Spawn
from kilonova.domain.request import HostRef
from kilonova.domain.states import Task
from kilonova.workflows.engine.saga import Saga
from kilonova.workflows.engine.steps import Undo, saga
from kilonova.workflows.steps.networking import (
    bind_port,
    make_port,
    plugged,
    read_cards,
    unmake_port,
    wanted_cards,
)
from kilonova.workflows.steps.placing import NoValidHost, claim, release, select_hosts
from kilonova.workflows.steps.records import (
    bury,
    describe_new,
    enter_cell,
    finish_build,
    forget_request,
    keep_nics,
    leave_cell,
)


@saga("server.build", action="create", notify="instance.create", failed=bury)
async def build(s: Saga, server_id: str) -> None:
    """Place the server, move it to its cell, start its guest; another host if one fails."""
    for host in await s.do(select_hosts, server_id, task=Task.SCHEDULING):
        if await s.attempt(build_on, server_id, host, key=host.host):
            break
    else:
        raise NoValidHost(
            f"Exceeded maximum number of retries. Exhausted all hosts available for retrying "
            f"build failures for instance {server_id}."
            if s.last_error is None
            else f"Build of instance {server_id} aborted: {s.last_error.message}"
        )
    await s.do(finish_build, server_id)
    await s.do(forget_request, server_id)


async def build_on(s: Saga, server_id: str, host: HostRef) -> None:
    """Everything on one host; what is done here is taken back when it fails."""
    await s.do(claim, server_id, host, undo=release)
    await s.do(enter_cell, server_id, host, undo=leave_cell)
    s.cell = host.cell_id
    cards = await s.do(wanted_cards, server_id, task=Task.NETWORKING)
    ports = await s.each(
        make_port, server_id, cards, cards.nics, undo=unmake_port, key=lambda nic: nic.mark
    )
    bound = await s.each(bind_port, host.host, ports)
    nics = await s.do(read_cards, server_id, ports, cards)
    await s.do(keep_nics, server_id, nics)
    guest = await s.do(describe_new, server_id)
    await s.on(
        host.host,
        SPAWN,
        Spawn(guest, paused=True),
        undo=Undo(DESTROY, Destroy(guest)),
        task=Task.SPAWNING,
    )
    opening = plugged(server_id, bound)
    if opening is not None:
        await s.wait(opening, within=s.settings.default.vif_plugging_timeout)
    await s.on(host.host, RESUME, GuestArgs(guest))
