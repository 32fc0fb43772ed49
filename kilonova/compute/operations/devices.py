"""Plugging devices into guests, and what they count."""

from __future__ import annotations

from kilonova.base.errors import NotSupported
from kilonova.compute.operations.handlers import At, handles
from kilonova.domain.diagnostics import Diagnostics
from kilonova.domain.guest import GuestStatus
from kilonova.domain.operations import (
    ATTACH_NIC,
    DETACH_NIC,
    DIAGNOSTICS,
    GuestName,
    NicArgs,
)
from kilonova.virt.driver import HasDiagnostics, PlugsNics


@handles(ATTACH_NIC)
async def attach_nic(at: At, args: NicArgs) -> GuestStatus:
    """Plug a card into a guest."""
    return await _plugs(at).attach_nic(args.guest, args.nic)


@handles(DETACH_NIC)
async def detach_nic(at: At, args: NicArgs) -> GuestStatus:
    """Take a card out of a guest."""
    return await _plugs(at).detach_nic(args.guest, args.nic)


@handles(DIAGNOSTICS, changes=False)
async def diagnostics(at: At, args: GuestName) -> Diagnostics:
    """Counters of a guest."""
    if not isinstance(at.driver, HasDiagnostics):
        raise NotSupported(f"The hypervisor of host {at.host} has no diagnostics.")
    return await at.driver.diagnostics(args.server_id)


def _plugs(at: At) -> PlugsNics:
    if not isinstance(at.driver, PlugsNics):
        raise NotSupported(f"The hypervisor of host {at.host} cannot plug network cards.")
    return at.driver
