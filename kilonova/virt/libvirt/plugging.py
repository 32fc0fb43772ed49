"""Devices of a running domain: put in, and asked to be let go of; functions for threads."""

from __future__ import annotations

from typing import Any

import libvirt

from kilonova.virt.libvirt import domains, xml

LIVE = libvirt.VIR_DOMAIN_AFFECT_LIVE
NOT_THERE = frozenset({libvirt.VIR_ERR_DEVICE_MISSING, libvirt.VIR_ERR_INVALID_ARG})


def has(connection: Any, server_id: str, alias: str) -> bool:
    """Whether the domain has that device."""
    described = domains.description(connection, server_id)
    return any(found.get("name") == alias for found in described.iterfind("devices/*/alias"))


def plug(connection: Any, server_id: str, device: xml.Element) -> None:
    """Put a device in; one that is there is left."""
    alias = device.find("alias")
    if alias is not None and has(connection, server_id, alias.get("name", "")):
        return
    domain = connection.lookupByUUIDString(server_id)
    domain.attachDeviceFlags(xml.text(device), LIVE)


def ask_to_release(connection: Any, server_id: str, alias: str) -> bool:
    """Ask the guest to let go of a device; False when there is none."""
    if not has(connection, server_id, alias):
        return False
    try:
        connection.lookupByUUIDString(server_id).detachDeviceAlias(alias, LIVE)
    except libvirt.libvirtError as error:
        # Refused while the guest still thinks about the last request.
        if error.get_error_code() in NOT_THERE:
            return has(connection, server_id, alias)
        if error.get_error_code() != libvirt.VIR_ERR_OPERATION_FAILED:
            raise
    return True
