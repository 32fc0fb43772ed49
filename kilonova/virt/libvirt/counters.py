"""What a guest has done, from the counters libvirt keeps of its domain."""

from __future__ import annotations

import platform
from typing import Any

import libvirt

from kilonova.domain.diagnostics import STATES, CpuUse, Diagnostics, DiskUse, NicUse
from kilonova.domain.guest import GuestSpec, PowerState
from kilonova.virt.devices.nics import tap_name

GROUPS = (
    libvirt.VIR_DOMAIN_STATS_STATE
    | libvirt.VIR_DOMAIN_STATS_VCPU
    | libvirt.VIR_DOMAIN_STATS_INTERFACE
    | libvirt.VIR_DOMAIN_STATS_BLOCK
    | libvirt.VIR_DOMAIN_STATS_BALLOON
)
UNCOUNTED = -1
"""libvirt's word for a counter QEMU has not."""


def ask(connection: Any, server_id: str) -> dict[str, Any]:
    """The counters of a domain; for a thread. Empty for one that is not defined."""
    try:
        domain = connection.lookupByUUIDString(server_id)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return {}
        raise
    told = connection.domainListGetStats([domain], GROUPS, 0)
    return dict(told[0][1]) if told and domain.isActive() else {}


def diagnostics(
    guest: GuestSpec, *, power: PowerState, kind: str, told: dict[str, Any]
) -> Diagnostics:
    """In the words of the API; ``told`` is as ``ask`` gives it."""
    macs = {tap_name(nic): nic.mac for nic in guest.nics}
    return Diagnostics(
        state=STATES.get(power, "pending"),
        driver="libvirt",
        hypervisor=kind,
        hypervisor_os=platform.system().lower(),
        config_drive=guest.config_drive,
        maximum_memory=guest.flavor.memory_mb,
        used_memory=told.get("balloon.rss", 0) >> 10,
        cpus=tuple(
            CpuUse(number, told.get(f"vcpu.{number}.time"))
            for number in range(told.get("vcpu.current", 0))
        ),
        nics=tuple(_nic(told, number, macs) for number in range(told.get("net.count", 0))),
        disks=tuple(_disk(told, f"block.{n}.") for n in range(told.get("block.count", 0))),
    )


def _nic(told: dict[str, Any], number: int, macs: dict[str, str]) -> NicUse:
    prefix = f"net.{number}."
    name = told.get(f"{prefix}name", "")
    return NicUse(
        mac_address=macs.get(name, ""),
        name=name,
        rx_octets=told.get(f"{prefix}rx.bytes"),
        rx_errors=told.get(f"{prefix}rx.errs"),
        rx_drop=told.get(f"{prefix}rx.drop"),
        rx_packets=told.get(f"{prefix}rx.pkts"),
        tx_octets=told.get(f"{prefix}tx.bytes"),
        tx_errors=told.get(f"{prefix}tx.errs"),
        tx_drop=told.get(f"{prefix}tx.drop"),
        tx_packets=told.get(f"{prefix}tx.pkts"),
    )


def _disk(told: dict[str, Any], prefix: str) -> DiskUse:
    return DiskUse(
        name=told.get(f"{prefix}name", ""),
        read_bytes=told.get(f"{prefix}rd.bytes"),
        read_requests=told.get(f"{prefix}rd.reqs"),
        write_bytes=told.get(f"{prefix}wr.bytes"),
        write_requests=told.get(f"{prefix}wr.reqs"),
        errors_count=told.get(f"{prefix}errors", UNCOUNTED),
    )
