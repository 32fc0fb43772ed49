"""Making and removing guests."""

from __future__ import annotations

from kilonova.base.errors import Forbidden
from kilonova.compute.operations.handlers import At, handles
from kilonova.domain.guest import GuestStatus, PowerState
from kilonova.domain.operations import DESTROY, RESUME, SPAWN, Destroy, GuestArgs, Spawn
from kilonova.virt.driver import MovesGuests


@handles(SPAWN)
async def spawn(at: At, args: Spawn) -> GuestStatus:
    """Make the guest; one that is there already is taken as it is.

    Forbidden for more disks than ``[compute] max_disk_devices_to_attach``.
    """
    most = at.settings.compute.max_disk_devices_to_attach
    if 0 <= most < len(args.guest.disks):
        raise Forbidden(f"The maximum allowed number of disk devices ({most}) to attach exceeded.")
    async with at.builds:
        return await at.driver.spawn(args.guest, paused=args.paused)


@handles(RESUME)
async def resume(at: At, args: GuestArgs) -> GuestStatus:
    """Let a guest run that was made paused."""
    return await at.driver.resume(args.guest)


@handles(DESTROY, clears=True)
async def destroy(at: At, args: Destroy) -> GuestStatus:
    """Remove the guest; whatever else is done to it at the moment is given up."""
    await at.driver.destroy(args.guest, keep_disks=args.keep_disks)
    if args.aside is True and isinstance(at.driver, MovesGuests):
        await at.driver.forget_aside(args.guest, "")
    return GuestStatus(args.guest.server_id, args.guest.name, PowerState.NOSTATE)
