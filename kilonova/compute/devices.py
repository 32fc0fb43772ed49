"""PCI devices as providers of their own in Placement (``[pci] report_in_placement``)."""

from __future__ import annotations

from collections import Counter, defaultdict

import msgspec

from kilonova.base.ids import SeededIds
from kilonova.domain.fit import pci
from kilonova.domain.fit.shapes import Device, DeviceSpec
from kilonova.domain.guest import DeviceProvider, HostReport


def as_providers(report: HostReport, node_uuid: str) -> HostReport:
    """The report with a provider for every device; VFs are in that of their PF.

    The names are those Nova gives (``host_0000:81:00.0``); the ids follow from them, so that agent
    and Placement agree for good. Devices with a ``physical_network`` are the network service's and
    are left out. Source: Nova admin guide, "PCI tracking in Placement".
    """
    shape = report.shape
    if shape is None:
        return msgspec.structs.replace(report, devices=())
    stock: dict[str, Counter[str]] = defaultdict(Counter)
    traits: dict[str, set[str]] = defaultdict(set)
    known = []
    for device in shape.devices:
        if device.tags.get("physical_network"):
            known.append(device)
            continue
        address = device.parent or device.address
        stock[address][resource_class(device)] += 1
        traits[address].update(pci.traits(device.tags.get("traits", "")))
        provider = SeededIds(node_uuid, address).uuid()
        known.append(msgspec.structs.replace(device, provider=provider))
    providers = tuple(
        DeviceProvider(
            uuid=SeededIds(node_uuid, address).uuid(),
            name=f"{report.node}_{address}",
            inventory=dict(amounts),
            traits=tuple(sorted(traits[address])),
        )
        for address, amounts in sorted(stock.items())
    )
    return msgspec.structs.replace(
        report, shape=msgspec.structs.replace(shape, devices=tuple(known)), devices=providers
    )


def resource_class(device: Device) -> str:
    """What the device is in Placement: as its specification says, or by vendor and product."""
    return pci.resource_class(
        DeviceSpec(
            vendor_id=device.vendor_id,
            product_id=device.product_id,
            resource_class=device.tags.get("resource_class", ""),
        )
    )
