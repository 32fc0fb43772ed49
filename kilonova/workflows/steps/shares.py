"""Steps around file shares: who may use them, and their rows."""

from __future__ import annotations

from kilonova.base.errors import Forbidden
from kilonova.db.database import Tx
from kilonova.domain.resources import ShareStatus
from kilonova.store import nodes, shares
from kilonova.workflows.engine import journal
from kilonova.workflows.engine.steps import remote, transaction
from kilonova.workflows.steps.records import end_action, fault, find_place
from kilonova.workflows.world import Env

LOOK_SECONDS = 1.0


async def _address(env: Env, host: str) -> str:
    found = (await env.world.cells.gather(nodes.reports, host)).rows()
    if not found:
        return str(env.settings.default.my_ip)
    return str(found[0].share_ip or found[0].host_ip)


@remote(seconds=600)
async def grant_share(env: Env, server_id: str, host: str, share_id: str) -> None:
    """Let the server's host use a share, and wait until that is in effect; Forbidden."""
    address = await _address(env, host)
    why = f"used by server {server_id}"
    for _ in range(env.settings.manila.share_apply_policy_timeout):
        if await env.world.shares.grant(share_id, address, reason=why):
            return
        await env.clock.sleep(LOOK_SECONDS)
    raise Forbidden(
        f"Share access could not be granted to share id {share_id}: it did not become active."
    )


@remote()
async def revoke_share(env: Env, server_id: str, host: str, share_id: str) -> None:
    """End the host's use of a share, unless another server there has it."""
    place = await find_place(env, server_id)
    cell_id = place.cell_id or env.cell
    if cell_id is not None:
        cell = env.world.cells.get(cell_id)
        if await cell.db.read(shares.used_by_others, server_id, share_id, host):
            return
    await env.world.shares.revoke(share_id, await _address(env, host))


@transaction(db="own")
def have_share(tx: Tx, env: Env, server_id: str, share_id: str) -> None:
    """The share is the server's; its next start shows it."""
    now = env.clock.now()
    shares.set_status(tx, server_id, share_id, ShareStatus.INACTIVE, now=now)
    end_action(tx, env, server_id, now)


@transaction(db="own")
def forget_share(tx: Tx, env: Env, server_id: str, share_id: str) -> None:
    """The share is not the server's any more."""
    shares.drop(tx, server_id, share_id)
    end_action(tx, env, server_id, env.clock.now())


@transaction(db="own")
def follow_shares(tx: Tx, env: Env, server_id: str, running: bool) -> None:
    """The guest was started with its shares, or it is off."""
    shares.follow(tx, server_id, running=running, now=env.clock.now())


@remote()
async def give_up_share(env: Env, server_id: str, share_id: str) -> None:
    """Access could not be given or taken: the share shows that, until it is detached."""
    place = await find_place(env, server_id)
    if place.cell_id is None:
        return

    def work(tx: Tx) -> None:
        journal.guard(tx, env.saga_id, env.epoch)
        now = env.clock.now()
        shares.set_status(tx, server_id, share_id, ShareStatus.ERROR, now=now)
        end_action(tx, env, server_id, now, error=fault(env.error, env).message)

    await env.world.cells.get(place.cell_id).db.run(work)


@remote(seconds=600)
async def release_shares(env: Env, server_id: str, host: str) -> None:
    """The server is gone, and with it its use of shares."""
    place = await find_place(env, server_id)
    if place.cell_id is None:
        return
    cell = env.world.cells.get(place.cell_id)
    for row in await cell.db.read(shares.of_server, server_id):
        if not await cell.db.read(shares.used_by_others, server_id, row.share_id, host):
            await env.world.shares.revoke(row.share_id, await _address(env, host))

    def work(tx: Tx) -> None:
        journal.guard(tx, env.saga_id, env.epoch)
        shares.drop(tx, server_id)

    await cell.db.run(work)
