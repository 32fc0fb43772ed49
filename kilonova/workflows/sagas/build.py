"""Making a server."""

from __future__ import annotations

from kilonova.base.errors import Fault
from kilonova.domain.operations import DESTROY, RESUME, SPAWN, Destroy, GuestArgs, Spawn
from kilonova.domain.request import HostRef
from kilonova.domain.states import Task
from kilonova.workflows.engine.errors import StepFailed
from kilonova.workflows.engine.saga import Saga
from kilonova.workflows.engine.steps import Undo, saga
from kilonova.workflows.sagas.power import until_open
from kilonova.workflows.steps.networking import (
    bind_port,
    make_port,
    read_cards,
    unmake_port,
    wanted_cards,
)
from kilonova.workflows.steps.placing import (
    GroupRule,
    NoValidHost,
    claim,
    leave_place,
    release,
    select_hosts,
    take_place,
)
from kilonova.workflows.steps.records import (
    bury,
    catch_up,
    describe_new,
    enter_cell,
    finish_build,
    forget_request,
    keep_nics,
    leave_cell,
    map_to_cell,
    unmap,
    without_secrets,
)
from kilonova.workflows.steps.volumes import (
    complete_volume,
    connect_volume,
    disconnect_volume,
    keep_volumes,
    make_volume,
    unmake_volume,
)

TURNS = 10
"""How often a member of a group looks for hosts anew after others were faster."""


@saga("server.build", action="create", notify="instance.create", failed=bury)
async def build(s: Saga, server_id: str) -> None:
    """Place the server, move it to its cell, start its guest; another host if one fails."""
    await place(s, server_id)
    await s.pivot()
    await s.do(finish_build, server_id)
    await s.do(forget_request, server_id)


async def place(s: Saga, server_id: str) -> None:
    """Make the server on one of the hosts chosen; NoValidHost.

    Who lost a race inside its group has learned nothing against the other hosts: the choice is
    made anew, without the hosts that did fail.
    """
    tried: list[str] = []
    for turn in range(TURNS):
        raced = False
        again = f"{turn + 1}" if turn else ""
        more = (tuple(tried),) if turn else ()
        for host in await s.do(select_hosts, server_id, *more, key=again):
            key = f"{host.host}~{again}" if turn else host.host
            if await s.attempt(build_on, server_id, host, key=key):
                return
            if isinstance(s.last_error, GroupRule):
                raced = True
            else:
                tried.append(host.host)
        if not raced:
            break
    raise NoValidHost(exhausted(server_id, s.last_error))


async def build_on(s: Saga, server_id: str, host: HostRef) -> None:
    """Everything on one host; what is done here is taken back when it fails."""
    if host.group:
        await s.do(take_place, server_id, host.group, host.host, undo=leave_place)
    entering = await s.do(claim, server_id, host, undo=Undo(release, server_id, host.host))
    s.cell = host.cell_id
    await s.do(enter_cell, server_id, entering, host, undo=Undo(leave_cell, server_id))
    late = await s.do(map_to_cell, server_id, host.cell_id, entering, undo=Undo(unmap, server_id))
    if late is not None:
        await s.do(catch_up, server_id, late)
    cards = await s.do(wanted_cards, server_id, task=Task.NETWORKING)
    ports = await s.each(
        make_port, server_id, cards, cards.nics, undo=unmake_port, key=lambda nic: nic.mark
    )
    bound = await s.each(bind_port, host.host, ports)
    nics = await s.do(read_cards, server_id, ports, cards)
    await s.do(keep_nics, server_id, nics)
    volumes = [disk for disk in entering.request.private.disks if disk.source == "volume"]
    if volumes:
        made = await s.each(
            make_volume, server_id, volumes, undo=unmake_volume, task=Task.BLOCK_DEVICE_MAPPING
        )
        ready = await s.each(connect_volume, server_id, host.host, made, undo=disconnect_volume)
        await s.do(keep_volumes, server_id, ready)
        await s.each(complete_volume, ready)
    guest = await s.do(describe_new, server_id)
    await s.on(
        host.host,
        SPAWN,
        Spawn(guest, paused=True),
        undo=Undo(DESTROY, Destroy(without_secrets(guest)), even_if_down=True),
        task=Task.SPAWNING,
    )
    await until_open(s, server_id, bound)
    await s.on(host.host, RESUME, GuestArgs(guest))


def exhausted(server_id: str, error: Fault | None) -> str:
    """Why no host of those chosen could make the server, in words for its owner."""
    if error is None or isinstance(error, GroupRule):
        return "No valid host was found. There are not enough hosts available."
    if isinstance(error, StepFailed):
        return f"No host could build instance {server_id}; an administrator can find out why."
    return f"No host could build instance {server_id}. The last one said: {error.message}"
