"""Another host for a server whose guest runs on.

The guest is never on both hosts at once: it stands still on either from the moment all of it was
sent. Until the saga's turning point the source can take it back, after it the destination has it.
"""

from __future__ import annotations

from kilonova.domain.guest import GuestSpec, PowerState
from kilonova.domain.live import (
    LIVE_ARRIVE,
    LIVE_CHECK,
    LIVE_MOVE,
    LIVE_PREPARE,
    LIVE_STAY,
    LIVE_SUITS,
    LiveCheck,
    LiveMove,
    LivePrepare,
    LiveSettle,
    LiveShape,
    LiveSuits,
)
from kilonova.domain.moves import Kind, Moving, Status, Wish
from kilonova.domain.operations import DESTROY, Destroy
from kilonova.domain.request import HostRef
from kilonova.domain.states import VmState
from kilonova.workflows.engine.operations import host_is_down
from kilonova.workflows.engine.saga import Saga
from kilonova.workflows.engine.steps import Undo, saga
from kilonova.workflows.sagas.power import where
from kilonova.workflows.steps import live as steps
from kilonova.workflows.steps import moving as moves
from kilonova.workflows.steps.placing import NoValidHost
from kilonova.workflows.steps.resizing import zone_there
from kilonova.workflows.steps.volumes import complete_volume


@saga("server.live_migrate", action="live-migration", failed=steps.give_up_live)
async def live_migrate(
    s: Saga,
    server_id: str,
    host: str | None,
    block: bool | None,
    over_commit: bool,
    force: bool,
) -> None:
    """Choose a host that suits, make it ready, send the guest, let it go on there."""
    opening = server_id, Kind.LIVE, Status.QUEUED, None
    moving = await s.do(moves.open_migration, *opening, undo=moves.fail_migration)
    await s.do(steps.begin_live, server_id)
    _, guest = await where(s, server_id)
    shape = await s.on(moving.source, LIVE_CHECK, LiveCheck(guest))
    await s.do(steps.wait_turn, server_id, moving)
    await s.do(moves.keep_source, server_id, moving.uuid, undo=moves.return_source)
    held = server_id, moving.uuid, moving.source
    await s.do(moves.keep_shape, *held, undo=moves.return_shape)
    wish = Wish(moving.flavor, ignore=(moving.source,), host=host, force=force)
    asked = LiveSuits(guest, shape, block, over_commit)
    for chosen in await s.do(moves.choose_hosts, server_id, wish):
        if await s.attempt(suits, server_id, moving, chosen, asked, key=chosen.host):
            await _carry(s, server_id, moving, chosen, guest, shape, block)
            return
    if host is not None and s.last_error is not None:
        raise s.last_error
    raise NoValidHost(moves.NOWHERE)


async def suits(s: Saga, server_id: str, moving: Moving, host: HostRef, asked: LiveSuits) -> None:
    """Everything that may show that a host does not do; the next one is tried then."""
    if host.group:
        place = server_id, host.group, host.host, moving.source
        await s.do(moves.join_there, *place, undo=moves.unjoin_there)
    await s.do(moves.claim_there, server_id, host, undo=moves.unclaim_there)
    shape = server_id, moving.flavor, host
    await s.do(moves.take_shape, *shape, undo=moves.leave_shape)
    await s.on(host.host, LIVE_SUITS, asked)


async def _carry(
    s: Saga,
    server_id: str,
    moving: Moving,
    host: HostRef,
    guest: GuestSpec,
    shape: LiveShape,
    block: bool | None,
) -> None:
    await s.do(steps.preparing, server_id, moving, host)
    to = server_id, host.host
    nics = await s.each(
        steps.bind_also, *to, moving.nics, undo=steps.unbind_also, key=lambda nic: nic.port_id
    )
    volumes = await s.each(moves.take_volume, *to, moving.volumes, undo=moves.leave_volume)
    there = await s.do(steps.describe_there, server_id, nics, volumes)
    zone = await s.do(zone_there, host)
    target = await s.on(
        host.host,
        LIVE_PREPARE,
        LivePrepare(there, shape, block),
        undo=Undo(DESTROY, Destroy(there), even_if_down=True),
    )
    await s.do(steps.running, server_id, moving)
    runs = moving.before.vm_state != VmState.PAUSED
    stay = Undo(LIVE_STAY, LiveSettle(guest, runs), even_if_down=True)
    await s.on(moving.source, LIVE_MOVE, LiveMove(guest, target), undo=stay)
    await s.pivot()
    failure = ""
    if not await s.attempt(arrive, host.host, LiveSettle(there, runs)):
        lost = s.last_error
        if lost is not None and not host_is_down(lost):
            failure = lost.message
    await s.do(steps.switch_live, server_id, host, zone, nics, volumes)
    await s.each(steps.activate, *to, nics, key=lambda nic: nic.port_id)
    await s.each(complete_volume, volumes)
    await s.on(moving.source, DESTROY, Destroy(guest), even_if_down=True)
    await s.each(moves.leave_volume, *to, volumes)
    await s.do(moves.end_shape, moving.uuid)
    await s.do(moves.leave_group_on, server_id, moving.source)
    await s.do(moves.end_source, moving.uuid)
    power = PowerState.RUNNING if runs else PowerState.PAUSED
    await s.do(steps.finish_live, server_id, moving, power, failure)


async def arrive(s: Saga, host: str, settled: LiveSettle) -> None:
    """The destination has the guest."""
    await s.on(host, LIVE_ARRIVE, settled)
