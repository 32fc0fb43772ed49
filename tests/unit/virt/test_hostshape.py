"""A host's shape out of a made-up sysfs."""

from __future__ import annotations

from pathlib import Path

import pytest

from kilonova.domain.fit.shapes import HostShape, Pages
from kilonova.virt.devices.hostshape import read, specifications, threaded

FOUR = frozenset(range(4))


@pytest.fixture
def sysfs(tmp_path: Path) -> Path:
    """Two nodes of a core with two threads each, large pages on the second, three devices."""
    for node in range(2):
        path = tmp_path / f"devices/system/node/node{node}"
        path.mkdir(parents=True)
        (path / "cpulist").write_text(f"{2 * node}-{2 * node + 1}\n")
        (path / "meminfo").write_text(f"Node {node} MemTotal:       1048576 kB\nNode 0 Other: 1\n")
        for size in (2048, 1048576):
            pages = path / f"hugepages/hugepages-{size}kB"
            pages.mkdir(parents=True)
            (pages / "nr_hugepages").write_text(f"{128 * node if size == 2048 else 0}\n")
    for cpu in range(4):
        path = tmp_path / f"devices/system/cpu/cpu{cpu}/topology"
        path.mkdir(parents=True)
        (path / "thread_siblings_list").write_text(f"{cpu & 2}-{cpu | 1}\n")
        (path / "physical_package_id").write_text(f"{cpu // 2}\n")
    for function, near in ((0, "1"), (1, "1"), (2, "-1")):
        path = tmp_path / f"bus/pci/devices/0000:0a:00.{function}"
        path.mkdir(parents=True)
        for name, text in (("vendor", "0x8086"), ("device", "0x1515"), ("numa_node", near)):
            (path / name).write_text(f"{text}\n")
    first = tmp_path / "bus/pci/devices/0000:0a:00.0"
    (first / "sriov_totalvfs").write_text("7\n")
    (tmp_path / "bus/pci/devices/0000:0a:00.1/physfn").symlink_to(first)
    return tmp_path


def shape(sysfs: Path, shared: str | None, dedicated: str | None, *specs: str) -> HostShape:
    return read(sysfs, usable=FOUR, shared=shared, dedicated=dedicated, specs=specifications(specs))


@pytest.mark.parametrize(
    ("shared", "dedicated", "floating", "own"),
    [
        (None, None, [{0, 1}, {2, 3}], [set(), set()]),
        (None, "1-3", [set(), set()], [{1}, {2, 3}]),
        ("0", "2-3", [{0}, set()], [set(), {2, 3}]),
        ("0-1", None, [{0, 1}, set()], [set(), set()]),
        ("0", "^0", [{0}, set()], [{1}, {2, 3}]),
    ],
)
def test_cpus(
    sysfs: Path,
    shared: str | None,
    dedicated: str | None,
    floating: list[set[int]],
    own: list[set[int]],
) -> None:
    found = shape(sysfs, shared, dedicated)
    assert [set(cell.cpus) for cell in found.cells] == floating
    assert [set(cell.pcpus) for cell in found.cells] == own
    assert [cell.socket for cell in found.cells] == [0, 1]


def test_memory_and_threads(sysfs: Path) -> None:
    first, second = shape(sysfs, None, None).cells
    assert (first.memory_mb, second.memory_mb) == (1024, 1024)
    assert second.pages == (Pages(4, (1024 - 256) * 256), Pages(2048, 128), Pages(1048576, 0))
    assert first.siblings == (frozenset({0, 1}),)
    assert threaded(shape(sysfs, None, None))
    assert not threaded(HostShape())


def test_devices(sysfs: Path) -> None:
    assert shape(sysfs, None, None).devices == ()
    spec = '{"vendor_id": "8086", "product_id": "1515", "physical_network": "n1"}'
    physical, virtual, plain = shape(sysfs, None, None, spec).devices
    assert (physical.type, physical.numa_node, physical.parent) == ("type-PF", 1, None)
    assert (virtual.type, virtual.parent) == ("type-VF", "0000:0a:00.0")
    assert (plain.type, plain.numa_node) == ("type-PCI", None)
    assert plain.tags == {"physical_network": "n1"}
    only = '[{"address": "0000:0a:00.2"}, {"address": "0000:0b:00.0"}]'
    assert [d.address for d in shape(sysfs, None, None, only).devices] == ["0000:0a:00.2"]


def test_what_is_wrong(sysfs: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="same CPUs"):
        shape(sysfs, "0-2", "2-3")
    with pytest.raises(ValueError, match="no CPU"):
        shape(sysfs, "x", None)
    with pytest.raises(ValueError, match="device_spec"):
        shape(sysfs, None, None, "[1]")
    assert shape(tmp_path / "none", None, None) == HostShape()
