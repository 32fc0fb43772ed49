"""Images of guests: copying a disk, sending the copy, dropping it; quiescing."""

from __future__ import annotations

from kilonova.base.errors import NotSupported
from kilonova.compute.operations.handlers import At, handles
from kilonova.domain.guest import GuestStatus
from kilonova.domain.operations import (
    DROP_SNAPSHOT,
    QUIESCE,
    SEND_SNAPSHOT,
    SNAPSHOT,
    UNQUIESCE,
    GuestArgs,
    Snapped,
    SnapshotArgs,
)
from kilonova.virt.driver import Quiesces, TakesSnapshots


@handles(SNAPSHOT)
async def snapshot(at: At, args: SnapshotArgs) -> Snapped:
    """Copy the guest's root disk as it is now."""
    return await _able(at).snapshot(args.guest, args.image_id)


@handles(SEND_SNAPSHOT)
async def send_snapshot(at: At, args: SnapshotArgs) -> Snapped:
    """Send the copy to the image service."""
    return await _able(at).send_snapshot(args.guest, args.image_id)


@handles(DROP_SNAPSHOT, clears=True)
async def drop_snapshot(at: At, args: SnapshotArgs) -> GuestStatus:
    """Remove the copy; what is still being copied or sent is given up."""
    if isinstance(at.driver, TakesSnapshots):
        await at.driver.drop_snapshot(args.guest, args.image_id)
    return await at.driver.status(args.guest.server_id)


@handles(QUIESCE)
async def quiesce(at: At, args: GuestArgs) -> GuestStatus:
    """Let the guest write what it has to, and stand still."""
    await _quiescing(at).quiesce(args.guest)
    return await at.driver.status(args.guest.server_id)


@handles(UNQUIESCE)
async def unquiesce(at: At, args: GuestArgs) -> GuestStatus:
    """Let it go on."""
    await _quiescing(at).unquiesce(args.guest)
    return await at.driver.status(args.guest.server_id)


def _able(at: At) -> TakesSnapshots:
    if not isinstance(at.driver, TakesSnapshots):
        raise NotSupported(f"The hypervisor of host {at.host} cannot make images of guests.")
    return at.driver


def _quiescing(at: At) -> Quiesces:
    if not isinstance(at.driver, Quiesces):
        raise NotSupported(f"The hypervisor of host {at.host} cannot quiesce guests.")
    return at.driver
