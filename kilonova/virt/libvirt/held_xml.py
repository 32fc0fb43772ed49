"""What a guest has of its host for itself, as libvirt's XML: CPUs, NUMA cells, pages, devices."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import msgspec

from kilonova.base.errors import NotSupported
from kilonova.domain.fit.shapes import GuestCell, GuestTopology, Held
from kilonova.domain.guest import GuestSpec
from kilonova.virt.devices.hostshape import SMALL_PAGE_KB
from kilonova.virt.libvirt.xml import Element, element, group

_ADDRESS = re.compile(r"^([0-9a-f]{4}):([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])$")

Cells = Mapping[int, frozenset[int]]
"""The host's cells: id → the CPUs that guests share there."""


def held(guest: GuestSpec) -> Held:
    """What was claimed for the guest (nothing for most)."""
    return Held() if guest.held is msgspec.UNSET else guest.held


def check(guest: GuestSpec) -> None:
    """NotSupported for what was claimed and cannot be given."""
    topology = held(guest).topology
    if topology is not None and topology.realtime:
        raise NotSupported("The libvirt driver has no vCPUs in real time (hw:cpu_realtime).")
    for address in _addresses(guest):
        if _ADDRESS.match(address) is None:
            raise NotSupported(f"The libvirt driver cannot give guests the device {address}.")


def tuning(guest: GuestSpec, cells: Cells) -> list[Element]:
    """``cputune``, ``numatune`` and ``memoryBacking``, as far as there is something to say."""
    topology = held(guest).topology
    if topology is None:
        return []
    made = [_cpus(topology, cells), _memory(topology)]
    large = [cell for cell in topology.cells if (cell.page_kb or 0) > SMALL_PAGE_KB]
    if large:
        pages = [element("page", size=cell.page_kb, unit="KiB", nodeset=cell.id) for cell in large]
        made.append(element("memoryBacking", group("hugepages", pages)))
    return [part for part in made if part is not None]


def numa(guest: GuestSpec) -> Element | None:
    """The guest's own cells, for its CPU."""
    topology = held(guest).topology
    if topology is None:
        return None
    return group(
        "numa",
        [
            element(
                "cell",
                id=cell.id,
                cpus=listed(cell.cpus | cell.pcpus),
                memory=cell.memory_mb,
                unit="MiB",
            )
            for cell in topology.cells
        ],
    )


def devices(guest: GuestSpec) -> list[Element]:
    """PCI devices handed to the guest."""
    made = []
    for address in _addresses(guest):
        found = _ADDRESS.match(address)
        assert found is not None
        names = ("domain", "bus", "slot", "function")
        where = {name: f"0x{part}" for name, part in zip(names, found.groups(), strict=True)}
        source = element("source", element("address", **where))
        made.append(element("hostdev", source, mode="subsystem", type_="pci", managed="yes"))
    return made


def listed(cpus: Iterable[int]) -> str:
    """CPUs as libvirt lists them: 0,2,3."""
    return ",".join(str(cpu) for cpu in sorted(cpus))


def _addresses(guest: GuestSpec) -> list[str]:
    return [address for some in held(guest).devices.values() for address in some]


def _cpus(topology: GuestTopology, cells: Cells) -> Element | None:
    pins: dict[int, Iterable[int]] = {}
    for cell in topology.cells:
        pins |= {vcpu: (cpu,) for vcpu, cpu in cell.pins}
        floating = _floating(cell, cells)
        pins |= {vcpu: floating for vcpu in cell.cpus if floating}
    if not pins:
        return None
    made = [
        element("vcpupin", vcpu=vcpu, cpuset=listed(cpus)) for vcpu, cpus in sorted(pins.items())
    ]
    reserved = frozenset[int]().union(*(cell.reserved for cell in topology.cells))
    threads = reserved or {cpu for cpus in pins.values() for cpu in cpus}
    return group("cputune", [*made, element("emulatorpin", cpuset=listed(threads))])


def _floating(cell: GuestCell, cells: Cells) -> frozenset[int]:
    if cell.host_cell is None:
        return frozenset()
    return cells.get(cell.host_cell, frozenset())


def _memory(topology: GuestTopology) -> Element | None:
    placed = [(cell.id, cell.host_cell) for cell in topology.cells if cell.host_cell is not None]
    if not placed:
        return None
    everywhere = listed({host for _, host in placed})
    nodes = [element("memnode", cellid=own, mode="strict", nodeset=host) for own, host in placed]
    return element("numatune", element("memory", mode="strict", nodeset=everywhere), *nodes)
