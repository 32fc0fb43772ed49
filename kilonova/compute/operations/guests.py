"""Making and removing guests, and making them anew."""

from __future__ import annotations

from kilonova.base.errors import Forbidden, NotSupported
from kilonova.compute.operations.handlers import At, handles
from kilonova.compute.operations.power import patience
from kilonova.domain.guest import GuestSpec, GuestStatus, PowerState
from kilonova.domain.operations import (
    DESTROY,
    REBUILD,
    RESCUE,
    RESUME,
    SET_PASSWORD,
    SPAWN,
    UNRESCUE,
    Destroy,
    GuestArgs,
    Rebuild,
    Rescue,
    SetPassword,
    Spawn,
)
from kilonova.virt.driver import CachesImages, MovesGuests, Rebuilds, Rescues, SetsPasswords

ON = (PowerState.RUNNING, PowerState.PAUSED)


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


@handles(REBUILD)
async def rebuild(at: At, args: Rebuild) -> GuestStatus:
    """Fetch the image, shut the guest down, make it anew.

    NotSupported when ephemeral disks are to be kept: no driver can.
    """
    driver = at.driver
    if not isinstance(driver, Rebuilds):
        raise NotSupported(f"The hypervisor of host {at.host} cannot rebuild guests.")
    if args.preserve_ephemeral:
        raise NotSupported("The current driver does not support preserving ephemeral partitions.")
    await _fetch(at, args.guest)
    await _shut_down(at, args.guest, args.seconds)
    async with at.builds:
        return await driver.rebuild(args.guest, paused=args.paused)


@handles(RESCUE)
async def rescue(at: At, args: Rescue) -> GuestStatus:
    """Fetch the image, shut the guest down, start it from the rescue disk."""
    driver = at.driver
    if not isinstance(driver, Rescues):
        raise NotSupported(f"The hypervisor of host {at.host} cannot rescue guests.")
    await _fetch(at, args.guest)
    await _shut_down(at, args.guest, args.seconds)
    return await driver.rescue(args.guest)


@handles(UNRESCUE)
async def unrescue(at: At, args: GuestArgs) -> GuestStatus:
    """Start the guest from its own disks."""
    if not isinstance(at.driver, Rescues):
        raise NotSupported(f"The hypervisor of host {at.host} cannot rescue guests.")
    return await at.driver.unrescue(args.guest)


@handles(SET_PASSWORD)
async def set_password(at: At, args: SetPassword) -> GuestStatus:
    """Give the administrator of the guest's system another password."""
    if not isinstance(at.driver, SetsPasswords):
        raise NotSupported(
            "set_admin_password is not implemented by this driver or guest instance."
        )
    return await at.driver.set_password(args.guest, administrator(args.guest), args.password)


def administrator(guest: GuestSpec) -> str:
    """The user whose password is the server's: the image's ``os_admin_user``, or by system."""
    windows = guest.properties.get("os_type") == "windows"
    default = "Administrator" if windows else "root"
    return guest.properties.get("os_admin_user") or default


async def _fetch(at: At, guest: GuestSpec) -> None:
    """Have the images of the guest's disks here, while it still runs; raises what that raises."""
    for disk in guest.disks:
        if (
            disk.image is not None
            and disk.source == "image"
            and isinstance(at.driver, CachesImages)
        ):
            await at.driver.cache_image(disk.image)


async def _shut_down(at: At, guest: GuestSpec, seconds: int) -> None:
    if (await at.driver.status(guest.server_id)).power in ON:
        await at.driver.power_off(guest, seconds=patience(guest, seconds))
