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
    [(0, ""), (1, "c\n"), (2, "b\nc\n"), (9, "a\nb\nc\n"), (-1, "a\nb\nc\n")],
)
def test_the_end_of_the_console(length: int, expected: str) -> None:
    assert last_lines("a\nb\nc\n", length) == expected


def test_how_long_a_guest_may_take_to_shut_down() -> None:
    image = ImageRef(id="i", properties={"os_shutdown_timeout": "120"})
    assert patience(spec(), 60) == 60
    assert patience(spec(image=image), 60) == 120
    assert patience(spec(image=image), 0) == 0
    assert patience(spec(properties={"os_shutdown_timeout": "soon"}), 60) == 60
