"""The NUMA cells, CPUs, pages and PCI devices of this host, as the kernel tells them in sysfs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from kilonova.domain.fit import pci
from kilonova.domain.fit.cpus import parse
from kilonova.domain.fit.shapes import Device, HostCell, HostShape, Pages

SMALL_PAGE_KB = 4


def read(
    sysfs: Path,
    *,
    usable: frozenset[int],
    shared: str | None,
    dedicated: str | None,
    specs: Sequence[Mapping[str, Any]] = (),
) -> HostShape:
    """The shape. ``usable``: the CPUs the agent may use at all; ``shared`` and ``dedicated``: lists
    of CPUs (with neither, all are shared). Devices are those that ``specs`` mean.

    ValueError for lists that are none, or that name a CPU twice.
    """
    own = parse(dedicated or "", of=usable) & usable
    floating = parse(shared, of=usable) & usable if shared else frozenset()
    if not shared and not dedicated:
        floating = usable
    if own & floating:
        raise ValueError("cpu_shared_set and cpu_dedicated_set name the same CPUs")
    nodes = sorted(
        (int(path.name.removeprefix("node")), path)
        for path in (sysfs / "devices/system/node").glob("node[0-9]*")
    )
    return HostShape(
        cells=tuple(_cell(sysfs, number, path, floating, own) for number, path in nodes),
        devices=tuple(_devices(sysfs, specs)) if specs else (),
    )


def specifications(texts: Sequence[str]) -> list[dict[str, Any]]:
    """``[pci] device_spec``: JSON objects or lists of them. ValueError says which is neither."""
    found: list[dict[str, Any]] = []
    for text in texts:
        try:
            one = msgspec.json.decode(text, type=dict[str, Any] | list[dict[str, Any]])
        except msgspec.DecodeError as error:
            raise ValueError(f"device_spec {text!r}: {error}") from None
        found += one if isinstance(one, list) else [one]
    return found


def threaded(shape: HostShape) -> bool:
    """Whether cores have several threads that guests may have."""
    return any(len(core) > 1 for cell in shape.cells for core in cell.siblings)


def _cell(
    sysfs: Path, number: int, node: Path, floating: frozenset[int], own: frozenset[int]
) -> HostCell:
    here = parse(_text(node / "cpulist"))
    memory = 0
    for line in _text(node / "meminfo").splitlines():
        if "MemTotal:" in line:
            memory = int(line.split()[-2])
    siblings = {_siblings(sysfs, cpu) for cpu in here & (floating | own)}
    packages = {_text(_topology(sysfs, cpu) / "physical_package_id") for cpu in here}
    sockets = {int(word) for word in packages if word.isdigit()}
    return HostCell(
        id=number,
        memory_mb=memory >> 10,
        cpus=here & floating,
        pcpus=here & own,
        siblings=tuple(sorted(filter(None, siblings), key=sorted)),
        pages=tuple(_pages(node, memory)),
        socket=min(sockets, default=None),
    )


def _pages(node: Path, memory_kb: int) -> list[Pages]:
    large = []
    for path in (node / "hugepages").glob("hugepages-*kB"):
        size = int(path.name.removeprefix("hugepages-").removesuffix("kB"))
        total = _text(path / "nr_hugepages")
        large.append(Pages(size, int(total) if total.isdigit() else 0))
    left = memory_kb - sum(pages.size_kb * pages.total for pages in large)
    return [Pages(SMALL_PAGE_KB, left // SMALL_PAGE_KB), *sorted(large, key=lambda p: p.size_kb)]


def _topology(sysfs: Path, cpu: int) -> Path:
    return sysfs / f"devices/system/cpu/cpu{cpu}/topology"


def _siblings(sysfs: Path, cpu: int) -> frozenset[int]:
    return parse(_text(_topology(sysfs, cpu) / "thread_siblings_list"))


def _devices(sysfs: Path, specs: Sequence[Mapping[str, Any]]) -> list[Device]:
    found = []
    for path in sorted((sysfs / "bus/pci/devices").glob("*")):
        device = _device(path)
        tags = pci.selected(device, specs)
        if tags is not None:
            found.append(msgspec.structs.replace(device, tags=tags))
    return found


def _device(path: Path) -> Device:
    physical = path / "physfn"
    virtual = physical.exists()
    functions = _text(path / "sriov_totalvfs")
    kind = "type-PCI"
    if virtual:
        kind = "type-VF"
    elif functions.isdigit() and int(functions):
        kind = "type-PF"
    node = _text(path / "numa_node")
    return Device(
        address=path.name,
        vendor_id=_text(path / "vendor").removeprefix("0x"),
        product_id=_text(path / "device").removeprefix("0x"),
        type=kind,
        numa_node=int(node) if node.isdigit() else None,
        parent=physical.resolve().name if virtual else None,
    )


def _text(path: Path) -> str:
    """What a file says; empty when it is not there."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""
