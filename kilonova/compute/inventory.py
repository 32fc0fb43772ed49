"""What the host offers: the driver's report with the operator's reserves and ratios."""

from __future__ import annotations

import msgspec

from kilonova.config.settings import Settings
from kilonova.domain.guest import HostReport
from kilonova.virt.driver import VirtDriver


async def look(driver: VirtDriver, settings: Settings) -> HostReport:
    """Ask the driver, add what the configuration says."""
    return with_settings(await driver.report(), settings)


def with_settings(report: HostReport, settings: Settings) -> HostReport:
    """The report with reserved amounts and allocation ratios (disk: GiB, rounded up)."""
    d = settings.default
    ratios = {
        "VCPU": d.cpu_allocation_ratio,
        "MEMORY_MB": d.ram_allocation_ratio,
        "DISK_GB": d.disk_allocation_ratio,
    }
    return msgspec.structs.replace(
        report,
        host_ip=d.my_ip,
        reserved={
            "VCPU": d.reserved_host_cpus,
            "MEMORY_MB": d.reserved_host_memory_mb,
            "DISK_GB": -(-d.reserved_host_disk_mb // 1024),
        },
        # Nova takes 0.0 for "unset", as older configurations say it.
        ratios={name: ratio for name, ratio in ratios.items() if ratio},
        initial_ratios={
            "VCPU": d.initial_cpu_allocation_ratio,
            "MEMORY_MB": d.initial_ram_allocation_ratio,
            "DISK_GB": d.initial_disk_allocation_ratio,
        },
    )


def same(one: HostReport | None, other: HostReport | None) -> bool:
    """Whether two reports say the same, the uptime aside."""
    if one is None or other is None:
        return one is other
    return msgspec.structs.replace(one, uptime="") == msgspec.structs.replace(other, uptime="")
