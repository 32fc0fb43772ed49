"""Moving running guests: either end of it."""

from __future__ import annotations

from kilonova.base.errors import NotSupported
from kilonova.compute.operations.handlers import At, handles
from kilonova.domain.guest import GuestStatus
from kilonova.domain.live import (
    LIVE_ARRIVE,
    LIVE_CHECK,
    LIVE_FORCE,
    LIVE_LOOK,
    LIVE_MOVE,
    LIVE_PREPARE,
    LIVE_STAY,
    LIVE_SUITS,
    LiveCheck,
    LiveMove,
    LivePrepare,
    LiveProgress,
    LiveSettle,
    LiveShape,
    LiveSuits,
    LiveTarget,
)
from kilonova.domain.operations import GuestName
from kilonova.virt.driver import MovesLive


def _mover(at: At) -> MovesLive:
    if not isinstance(at.driver, MovesLive):
        raise NotSupported(f"The hypervisor of host {at.host} cannot move running guests.")
    return at.driver


@handles(LIVE_CHECK, changes=False)
async def check(at: At, args: LiveCheck) -> LiveShape:
    """Describe the guest for its destination; Conflict when it cannot be moved."""
    return await _mover(at).live_check(args.guest)


@handles(LIVE_SUITS, changes=False)
async def suits(at: At, args: LiveSuits) -> GuestName:
    """Conflict when the two hosts do not go together."""
    await _mover(at).live_suits(
        args.guest, args.shape, block=args.block, over_commit=args.over_commit
    )
    return GuestName(args.guest.server_id)


@handles(LIVE_PREPARE)
async def prepare(at: At, args: LivePrepare) -> LiveTarget:
    """Have a guest wait here."""
    return await _mover(at).live_prepare(args.guest, args.shape, block=args.block)


@handles(LIVE_MOVE)
async def move(at: At, args: LiveMove) -> GuestStatus:
    """Send the guest; when it fails the guest goes on here."""
    return await _mover(at).live_move(args.guest, args.target)


@handles(LIVE_ARRIVE)
async def arrive(at: At, args: LiveSettle) -> GuestStatus:
    """The guest is ours now."""
    return await _mover(at).live_arrive(args.guest, running=args.running)


@handles(LIVE_STAY, clears=True)
async def stay(at: At, args: LiveSettle) -> GuestStatus:
    """The guest is ours still: a move under way is given up, one that was done is taken back."""
    return await _mover(at).live_stay(args.guest, running=args.running)


@handles(LIVE_FORCE, changes=False)
async def force(at: At, args: GuestName) -> GuestName:
    """Bring the move to its end at the cost of the guest's time; Conflict when there is none."""
    await _mover(at).live_force(args.server_id)
    return args


@handles(LIVE_LOOK, changes=False)
async def look(at: At, args: GuestName) -> LiveProgress:
    """How far the move is; Conflict when there is none."""
    return await _mover(at).live_progress(args.server_id)
