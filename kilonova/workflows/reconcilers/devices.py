"""The providers of a host's PCI devices in Placement, as its agent tells them."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

import os_traits

from kilonova.base.errors import Conflict
from kilonova.domain.guest import DeviceProvider
from kilonova.interfaces.placement import Inventory, PlacementService

_ADDRESS = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]", re.IGNORECASE)
MARKS = (os_traits.COMPUTE_MANAGED_PCI_DEVICE, os_traits.OWNER_NOVA)

log = logging.getLogger(__name__)


async def tell(
    placement: PlacementService, root: str, node: str, devices: Sequence[DeviceProvider]
) -> None:
    """Providers below ``root``, one for each device; those of devices that went are removed.

    What a guest holds stays until it gives it back: such a change waits for the next report.
    """
    wanted = {one.uuid for one in devices}
    for uuid, name in (await placement.children(root)).items():
        if uuid not in wanted and _ours(node, name):
            try:
                await placement.delete_provider(uuid)
            except Conflict as fault:
                log.warning("the device %s is gone but in use: %s", name, fault.message)
    for one in devices:
        try:
            await placement.ensure_provider(one.uuid, one.name, root)
            stock = {n: Inventory(total, max_unit=total) for n, total in one.inventory.items()}
            await placement.set_inventory(one.uuid, stock)
            await placement.set_traits(one.uuid, {*one.traits, *MARKS})
        except Conflict as fault:
            log.warning("the device %s was not taken: %s", one.name, fault.message)


def _ours(node: str, name: str) -> bool:
    """Whether a provider's name is that of a device of the node."""
    prefix = f"{node}_"
    return name.startswith(prefix) and _ADDRESS.fullmatch(name[len(prefix) :]) is not None
