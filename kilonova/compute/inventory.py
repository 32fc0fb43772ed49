"""What the host offers: the driver's report with the operator's reserves and ratios."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from kilonova.base.errors import BadRequest
from kilonova.compute import devices
from kilonova.config.settings import Settings
from kilonova.domain.fit.shapes import HostShape
from kilonova.domain.fit.wanted import page_size
from kilonova.domain.guest import HostReport
from kilonova.virt.driver import VirtDriver


async def look(driver: VirtDriver, settings: Settings, node_uuid: str) -> HostReport:
    """Ask the driver, add what the configuration says."""
    report = with_settings(await driver.report(), settings)
    return devices.as_providers(report, node_uuid) if settings.pci.report_in_placement else report


def with_settings(report: HostReport, settings: Settings) -> HostReport:
    """The report with reserved amounts and allocation ratios (disk: GiB, rounded up)."""
    d = settings.default
    ratios = {
        "VCPU": d.cpu_allocation_ratio,
        "MEMORY_MB": d.ram_allocation_ratio,
        "DISK_GB": d.disk_allocation_ratio,
    }
    shape = report.shape
    if shape is not None and d.reserved_huge_pages:
        shape = keep_pages(shape, d.reserved_huge_pages)
    return msgspec.structs.replace(
        report,
        shape=shape,
        host_ip=d.my_ip,
        share_ip=d.my_shared_fs_storage_ip or "",
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


def keep_pages(shape: HostShape, texts: Sequence[str]) -> HostShape:
    """The shape with ``[DEFAULT] reserved_huge_pages`` kept for the host.

    ValueError for a text that is not of the form node:0,size:2048,count:64 (KiB, or 2MB, 1GB).
    """
    kept: Counter[tuple[int, int]] = Counter()
    for text in texts:
        words = dict(part.strip().partition(":")[::2] for part in text.split(","))
        try:
            size = page_size({"hw:mem_page_size": words.pop("size")}, {}) or 0
            node, count = int(words.pop("node")), int(words.pop("count"))
        except (KeyError, ValueError, BadRequest):
            size, node, count = 0, 0, 0
        if words or size <= 0 or count <= 0 or node < 0:
            raise ValueError(
                f"[DEFAULT] reserved_huge_pages {text!r} is not of the form "
                "node:0,size:2048,count:64"
            )
        kept[node, size] += count
    cells = [
        msgspec.structs.replace(
            cell,
            pages=tuple(
                msgspec.structs.replace(p, reserved=min(kept[cell.id, p.size_kb], p.total))
                for p in cell.pages
            ),
        )
        for cell in shape.cells
    ]
    return msgspec.structs.replace(shape, cells=tuple(cells))


def same(one: HostReport | None, other: HostReport | None) -> bool:
    """Whether two reports say the same, the uptime aside."""
    if one is None or other is None:
        return one is other
    return msgspec.structs.replace(one, uptime="") == msgspec.structs.replace(other, uptime="")
