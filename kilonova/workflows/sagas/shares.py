"""File shares of a server that is off; its starts and its end use some of this."""

from __future__ import annotations

from kilonova.base.errors import NotFound
from kilonova.domain.guest import GuestSpec
from kilonova.workflows.engine.saga import Saga
from kilonova.workflows.engine.steps import saga
from kilonova.workflows.steps.records import begin_event, locate
from kilonova.workflows.steps.shares import (
    follow_shares,
    forget_share,
    give_up_share,
    grant_share,
    have_share,
    revoke_share,
)


@saga(
    "server.attach_share",
    action="attach_share",
    notify="instance.share_attach",
    failed=give_up_share,
)
async def attach_share(s: Saga, server_id: str, share_id: str) -> None:
    """Let the server's host use the share; the guest has it from its next start on."""
    host = await _host(s, server_id)
    await s.do(begin_event, server_id, host)
    await s.do(grant_share, server_id, host, share_id, undo=revoke_share)
    await s.do(have_share, server_id, share_id)


@saga(
    "server.detach_share",
    action="detach_share",
    notify="instance.share_detach",
    failed=give_up_share,
)
async def detach_share(s: Saga, server_id: str, share_id: str) -> None:
    """The host does not use the share any more, unless for another server."""
    host = await _host(s, server_id)
    await s.do(begin_event, server_id, host)
    await s.do(revoke_share, server_id, host, share_id)
    await s.do(forget_share, server_id, share_id)


async def _host(s: Saga, server_id: str) -> str:
    place = await s.do(locate, server_id)
    if place.host is None:
        raise NotFound(f"Instance {server_id} is on no host.")
    return str(place.host)


async def before_start(s: Saga, server_id: str, host: str, guest: GuestSpec) -> None:
    """The host may use the guest's shares, whatever became of that meanwhile."""
    for share in guest.shares or ():
        await s.do(grant_share, server_id, host, share.share_id, key=share.share_id)


async def started(s: Saga, server_id: str, guest: GuestSpec) -> None:
    """The guest runs with its shares."""
    if guest.shares:
        await s.do(follow_shares, server_id, True)


async def stopped(s: Saga, server_id: str, guest: GuestSpec) -> None:
    """The guest is off."""
    if guest.shares:
        await s.do(follow_shares, server_id, False)
