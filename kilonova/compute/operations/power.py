"""Switching guests on and off."""

from __future__ import annotations

import logging

from kilonova.base.errors import Conflict, NotFound, NotSupported
from kilonova.compute.operations.handlers import At, handles
from kilonova.domain.guest import GuestSpec, GuestStatus, PowerState
from kilonova.domain.operations import (
    FENCE,
    INJECT_NMI,
    PAUSE,
    POWER_OFF,
    POWER_ON,
    REBOOT,
    SUSPEND,
    WAKE,
    GuestArgs,
    PowerOff,
    Reboot,
)
from kilonova.virt.driver import InjectsNmi, Pauses, Suspends

MOST_SHUTDOWN_SECONDS = 3_600

log = logging.getLogger(__name__)


@handles(POWER_ON)
async def power_on(at: At, args: GuestArgs) -> GuestStatus:
    """Start a guest that is off."""
    return await at.driver.power_on(args.guest)


@handles(POWER_OFF)
async def power_off(at: At, args: PowerOff) -> GuestStatus:
    """Shut down politely, then cut the power; 0 seconds cut it at once."""
    return await at.driver.power_off(args.guest, seconds=patience(args.guest, args.seconds))


@handles(FENCE, clears=True)
async def fence(at: At, args: GuestArgs) -> GuestStatus:
    """Take the power away from a guest that is about to be made elsewhere; none is success."""
    try:
        return await at.driver.power_off(args.guest, seconds=0)
    except NotFound:
        return GuestStatus(args.guest.server_id, args.guest.name, PowerState.NOSTATE)


@handles(REBOOT)
async def reboot(at: At, args: Reboot) -> GuestStatus:
    """Restart; a soft reboot that the guest does not react to becomes a hard one."""
    if not args.hard:
        try:
            return await at.driver.reboot(args.guest, hard=False)
        except Conflict as reason:
            log.info("Soft reboot of %s becomes hard: %s", args.guest.name, reason.message)
    return await at.driver.reboot(args.guest, hard=True)


@handles(PAUSE)
async def pause(at: At, args: GuestArgs) -> GuestStatus:
    """Freeze a guest."""
    if not isinstance(at.driver, Pauses):
        raise NotSupported(f"The hypervisor of host {at.host} cannot pause guests.")
    return await at.driver.pause(args.guest)


@handles(SUSPEND)
async def suspend(at: At, args: GuestArgs) -> GuestStatus:
    """Keep a guest's memory on disk."""
    return await _suspends(at).suspend(args.guest)


@handles(WAKE)
async def wake(at: At, args: GuestArgs) -> GuestStatus:
    """Let a suspended guest go on."""
    return await _suspends(at).wake(args.guest)


def _suspends(at: At) -> Suspends:
    if not isinstance(at.driver, Suspends):
        raise NotSupported(f"The hypervisor of host {at.host} cannot suspend guests.")
    return at.driver


@handles(INJECT_NMI)
async def inject_nmi(at: At, args: GuestArgs) -> GuestStatus:
    """Make the guest's kernel dump its memory."""
    if not isinstance(at.driver, InjectsNmi):
        raise NotSupported(f"The hypervisor of host {at.host} cannot make guests dump.")
    return await at.driver.inject_nmi(args.guest)


def patience(guest: GuestSpec, seconds: int) -> int:
    """Seconds the guest gets: the image's ``os_shutdown_timeout`` goes before what was asked."""
    if seconds <= 0:
        return 0
    wish = guest.properties.get("os_shutdown_timeout") or (
        guest.image.properties.get("os_shutdown_timeout", "") if guest.image else ""
    )
    return min(int(wish) if wish.isdecimal() else seconds, MOST_SHUTDOWN_SECONDS)
