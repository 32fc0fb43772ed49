from __future__ import annotations

from typing import Any

import pytest

from kilonova.base.errors import NotSupported
from kilonova.domain.fit.shapes import GuestCell, GuestTopology, Held
from kilonova.domain.guest import GuestSpec
from kilonova.virt.libvirt import held_xml, xml
from tests.support.guests import spec

TWO = (
    GuestCell(id=0, memory_mb=64, pcpus=frozenset({0, 1}), host_cell=1, pins=((0, 4), (1, 5))),
    GuestCell(id=1, memory_mb=32, cpus=frozenset({2}), host_cell=0, page_kb=2048),
)


def guest(*cells: GuestCell, devices: tuple[str, ...] = (), **more: Any) -> GuestSpec:
    topology = GuestTopology(cells, **more) if cells else None
    return spec(held=Held(topology, {"request": devices} if devices else {}))


def tuning(*cells: GuestCell, host: held_xml.Cells | None = None) -> dict[str, str]:
    return {e.tag: xml.text(e) for e in held_xml.tuning(guest(*cells), host or {})}


def test_most_guests_hold_nothing() -> None:
    assert held_xml.tuning(spec(), {0: frozenset({0})}) == []
    assert held_xml.numa(spec()) is None
    assert held_xml.devices(spec()) == []
    held_xml.check(spec())


def test_cpus_cells_and_pages() -> None:
    made = tuning(*TWO, host={0: frozenset({1, 0})})
    assert made["cputune"] == (
        '<cputune><vcpupin vcpu="0" cpuset="4" /><vcpupin vcpu="1" cpuset="5" />'
        '<vcpupin vcpu="2" cpuset="0,1" /><emulatorpin cpuset="0,1,4,5" /></cputune>'
    )
    assert made["numatune"] == (
        '<numatune><memory mode="strict" nodeset="0,1" />'
        '<memnode cellid="0" mode="strict" nodeset="1" />'
        '<memnode cellid="1" mode="strict" nodeset="0" /></numatune>'
    )
    assert made["memoryBacking"] == (
        '<memoryBacking><hugepages><page size="2048" unit="KiB" nodeset="1" />'
        "</hugepages></memoryBacking>"
    )
    numa = held_xml.numa(guest(*TWO))
    assert numa is not None
    assert xml.text(numa) == (
        '<numa><cell id="0" cpus="0,1" memory="64" unit="MiB" />'
        '<cell id="1" cpus="2" memory="32" unit="MiB" /></numa>'
    )


def test_the_emulator_may_have_a_cpu_of_its_own() -> None:
    cell = GuestCell(id=0, memory_mb=64, pcpus=frozenset({0}), pins=((0, 2),),
                     reserved=frozenset({3}))  # fmt: skip
    assert '<emulatorpin cpuset="3" />' in tuning(cell)["cputune"]
    assert "numatune" not in tuning(cell)


def test_a_cell_that_is_not_placed_says_little() -> None:
    assert tuning(GuestCell(id=0, memory_mb=64, cpus=frozenset({0}), page_kb=4)) == {}


def test_devices_of_the_host() -> None:
    (made,) = held_xml.devices(guest(devices=("0000:81:0a.1",)))
    assert xml.text(made) == (
        '<hostdev mode="subsystem" type="pci" managed="yes"><source>'
        '<address domain="0x0000" bus="0x81" slot="0x0a" function="0x1" /></source></hostdev>'
    )


def test_what_cannot_be_given_is_refused() -> None:
    with pytest.raises(NotSupported, match="real time"):
        held_xml.check(guest(*TWO, realtime=frozenset({1})))
    with pytest.raises(NotSupported, match="device somewhere"):
        held_xml.check(guest(devices=("somewhere",)))
