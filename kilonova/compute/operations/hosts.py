"""What is done to the host itself."""

from __future__ import annotations

from kilonova.base.errors import NotSupported
from kilonova.compute.operations.handlers import At, handles
from kilonova.domain.operations import SWITCH_HOST, HostSwitch
from kilonova.virt.driver import SwitchesHost


@handles(SWITCH_HOST, changes=False)
async def switch_host(at: At, args: HostSwitch) -> HostSwitch:
    """Switch the host, where its hypervisor can."""
    if not isinstance(at.driver, SwitchesHost):
        raise NotSupported(f"The hypervisor of host {at.host} cannot do that.")
    await at.driver.switch_host(args.action)
    return args
