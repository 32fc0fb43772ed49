"""Volumes of a guest: plugging in and out, growing, moving to another volume."""

from __future__ import annotations

from kilonova.base.errors import NotSupported
from kilonova.compute.operations.handlers import At, handles
from kilonova.domain.guest import GuestStatus
from kilonova.domain.operations import (
    ATTACH_DISK,
    DETACH_DISK,
    MERGE_VOLUME,
    RESIZE_DISK,
    SNAPSHOT_VOLUME,
    SWAP_DISK,
    DiskArgs,
    MergeVolume,
    SnapshotVolume,
    SwapDisk,
)
from kilonova.virt.driver import AttachesDisks, SnapshotsVolumes


def _able(at: At) -> AttachesDisks:
    if not isinstance(at.driver, AttachesDisks):
        raise NotSupported(f"The hypervisor of host {at.host} cannot change a guest's disks.")
    return at.driver


@handles(ATTACH_DISK)
async def attach_disk(at: At, args: DiskArgs) -> GuestStatus:
    """Plug a volume in; one that is there already is left."""
    return await _able(at).attach_disk(args.guest, args.disk)


@handles(DETACH_DISK)
async def detach_disk(at: At, args: DiskArgs) -> GuestStatus:
    """Unplug a volume; one that is not there is success."""
    return await _able(at).detach_disk(args.guest, args.disk)


@handles(RESIZE_DISK)
async def resize_disk(at: At, args: DiskArgs) -> GuestStatus:
    """Let the guest see a volume's new size."""
    return await _able(at).resize_disk(args.guest, args.disk)


@handles(SWAP_DISK)
async def swap_disk(at: At, args: SwapDisk) -> GuestStatus:
    """Move the guest from one volume to another with all data."""
    return await _able(at).swap_disk(args.guest, args.old, args.new)


def _helper(at: At) -> SnapshotsVolumes:
    if not isinstance(at.driver, SnapshotsVolumes):
        raise NotSupported(f"The hypervisor of host {at.host} cannot snapshot volumes.")
    return at.driver


@handles(SNAPSHOT_VOLUME)
async def snapshot_volume(at: At, args: SnapshotVolume) -> GuestStatus:
    """Let a volume's new data go to another file."""
    return await _helper(at).snapshot_volume(args.guest, args.disk, args.file)


@handles(MERGE_VOLUME)
async def merge_volume(at: At, args: MergeVolume) -> GuestStatus:
    """Make one of two files of a volume."""
    return await _helper(at).merge_volume(args.guest, args.disk, args.file, args.into)
