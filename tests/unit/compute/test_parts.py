from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from kilonova.base.errors import Conflict
from kilonova.base.ids import SeededIds
from kilonova.compute import identity, inventory
from kilonova.compute.operations.consoles import last_lines
from kilonova.compute.operations.power import patience
from kilonova.config.default import Default
from kilonova.config.settings import Settings
from kilonova.domain.fit.shapes import HostCell, HostShape, Pages
from kilonova.domain.guest import HostReport, ImageRef
from tests.support.guests import spec

REPORT = HostReport(
    node="h", hypervisor_type="fake", hypervisor_version=1, vcpus=4, memory_mb=4096, disk_gb=40
)


def test_the_node_keeps_its_identity(tmp_path: Path) -> None:
    first = identity.node_uuid(tmp_path, SeededIds("a"), provisioned=())
    assert identity.node_uuid(tmp_path, SeededIds("b"), provisioned=()) == first
    assert (tmp_path / "compute_id").read_text() == first + "\n"


def test_an_operator_may_provide_it(tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.write_text("5F2A9B1C-0000-4000-8000-000000000001")
    made = identity.node_uuid(tmp_path, SeededIds("a"), provisioned=(given,))
    assert made == "5f2a9b1c-0000-4000-8000-000000000001"
    assert not (tmp_path / "compute_id").exists()
    (tmp_path / "compute_id").write_text("5f2a9b1c-0000-4000-8000-000000000002")
    with pytest.raises(Conflict, match="different compute nodes"):
        identity.node_uuid(tmp_path, SeededIds("a"), provisioned=(given,))
    given.write_text("nonsense")
    with pytest.raises(Conflict, match="no UUID"):
        identity.node_uuid(tmp_path, SeededIds("a"), provisioned=(given,))


def test_reserves_and_ratios_are_reported() -> None:
    settings = Settings(
        default=Default(reserved_host_disk_mb=1500, cpu_allocation_ratio=8.0, my_ip="10.0.0.1")
    )
    report = inventory.with_settings(REPORT, settings)
    assert report.reserved == {"VCPU": 0, "MEMORY_MB": 512, "DISK_GB": 2}
    assert report.ratios == {"VCPU": 8.0}
    assert report.initial_ratios == {"VCPU": 4.0, "MEMORY_MB": 1.0, "DISK_GB": 1.0}
    assert report.host_ip == "10.0.0.1"


def test_the_uptime_alone_is_no_news() -> None:
    later = msgspec.structs.replace(REPORT, uptime="up 1 day")
    assert inventory.same(REPORT, later)
    assert not inventory.same(REPORT, msgspec.structs.replace(REPORT, vcpus=5))
    assert not inventory.same(REPORT, None)


@pytest.mark.parametrize(
    ("length", "expected"),
    [(0, ""), (1, ""), (2, "c\n"), (3, "b\nc\n"), (9, "a\nb\nc\n"), (-1, "a\nb\nc\n")],
)
def test_the_end_of_the_console(length: int, expected: str) -> None:
    assert last_lines("a\nb\nc\n", length) == expected


def test_how_long_a_guest_may_take_to_shut_down() -> None:
    image = ImageRef(id="i", properties={"os_shutdown_timeout": "120"})
    assert patience(spec(), 60) == 60
    assert patience(spec(image=image), 60) == 120
    assert patience(spec(image=image), 0) == 0
    assert patience(spec(properties={"os_shutdown_timeout": "soon"}), 60) == 60


def test_pages_are_kept_for_the_host() -> None:
    pages = (Pages(4, 1000), Pages(2048, 100), Pages(1 << 20, 2))
    shape = HostShape((HostCell(0, 4096, pages=pages), HostCell(1, 4096, pages=pages)))
    texts = ("node:0,size:2048,count:64", " node:1, size:1GB, count:5", "node:0,size:2048,count:6")
    settings = Settings(default=Default(reserved_huge_pages=texts))
    found = inventory.with_settings(msgspec.structs.replace(REPORT, shape=shape), settings).shape
    assert found is not None
    assert [[p.reserved for p in cell.pages] for cell in found.cells] == [[0, 70, 0], [0, 0, 2]]
    assert found.cells[0].pages[1].free == 30
    assert inventory.with_settings(REPORT, settings).shape is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "node:0",
        "node:0,size:2048,count:x",
        "node:0,size:large,count:1",
        "node:0,size:4,count:0",
        "node:0,size:4,count:1,more:1",
        "node:-1,size:4,count:1",
        "node:0,size:,count:1",
    ],
)
def test_pages_that_cannot_be_kept(text: str) -> None:
    with pytest.raises(ValueError, match="reserved_huge_pages"):
        inventory.keep_pages(HostShape(), (text,))
