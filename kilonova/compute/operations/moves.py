"""Guests that move: put aside, made again elsewhere, brought back."""

from __future__ import annotations

from kilonova.base.errors import NotSupported
from kilonova.compute.operations.handlers import At, handles
from kilonova.compute.operations.power import patience
from kilonova.domain.guest import GuestStatus
from kilonova.domain.operations import (
    ARRIVE,
    COME_BACK,
    DEPART,
    END_OFFER,
    FORGET_ASIDE,
    Arrive,
    Aside,
    ComeBack,
    Depart,
    Departed,
)
from kilonova.virt.driver import MovesGuests


def _able(at: At) -> MovesGuests:
    if not isinstance(at.driver, MovesGuests):
        raise NotSupported(f"The hypervisor of host {at.host} cannot move guests.")
    return at.driver


@handles(DEPART)
async def depart(at: At, args: Depart) -> Departed:
    """Switch the guest off and put it aside."""
    seconds = patience(args.guest, args.seconds)
    offer = await _able(at).depart(args.guest, args.move, seconds=seconds, offer=args.offer)
    return Departed(await at.driver.status(args.guest.server_id), offer)


@handles(ARRIVE)
async def arrive(at: At, args: Arrive) -> GuestStatus:
    """Make the guest from its disks; many at once wait for one another, as builds do."""
    able = _able(at)
    async with at.builds:
        return await able.arrive(
            args.guest, args.move, args.offer, start=args.start, paused=args.paused
        )


@handles(COME_BACK, clears=True)
async def come_back(at: At, args: ComeBack) -> GuestStatus:
    """Put the guest in its place again."""
    return await _able(at).come_back(args.guest, args.move, start=args.start, paused=args.paused)


@handles(END_OFFER)
async def end_offer(at: At, args: Aside) -> GuestStatus:
    """Export its disks no longer."""
    await _able(at).end_offer(args.guest, args.move)
    return await at.driver.status(args.guest.server_id)


@handles(FORGET_ASIDE)
async def forget_aside(at: At, args: Aside) -> GuestStatus:
    """Remove what is aside."""
    await _able(at).forget_aside(args.guest, args.move)
    return await at.driver.status(args.guest.server_id)
