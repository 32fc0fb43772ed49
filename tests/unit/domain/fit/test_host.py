"""Cells and devices of a host together."""

from __future__ import annotations

from kilonova.domain.fit.host import Wanted, fit, with_guests
from kilonova.domain.fit.numa import Limits
from kilonova.domain.fit.shapes import (
    Device,
    DeviceRequest,
    DeviceSpec,
    GuestCell,
    GuestTopology,
    Held,
    HostCell,
    HostShape,
    NoFit,
)

ONE = Limits()


def shape(*nodes: int | None) -> HostShape:
    """Two cells of four dedicated CPUs, and devices at these NUMA nodes."""
    return HostShape(
        cells=tuple(
            HostCell(n, 1024, frozenset(), frozenset(range(n * 4, n * 4 + 4)), socket=n)
            for n in range(2)
        ),
        devices=tuple(
            Device(f"0000:0a:00.{n}", "8086", "1", numa_node=node) for n, node in enumerate(nodes)
        ),
    )


def pinned(count: int) -> GuestTopology:
    cell = GuestCell(0, 64, pcpus=frozenset(range(count)))
    return GuestTopology((cell,), policy="dedicated")


def devices(count: int, policy: str = "legacy") -> tuple[DeviceRequest, ...]:
    return (DeviceRequest("r", count, (DeviceSpec(),), policy),)


def held(found: Held | NoFit) -> Held:
    assert isinstance(found, Held), found
    return found


def test_the_cell_is_where_the_device_is() -> None:
    for node in (0, 1):
        found = held(fit(shape(node), Wanted(pinned(2), devices(1, "required")), ONE))
        assert found.topology is not None
        assert found.topology.cells[0].host_cell == node


def test_cells_with_devices_are_left_to_those_who_want_them() -> None:
    found = held(fit(shape(0), Wanted(pinned(2)), ONE))
    assert found.topology is not None
    assert found.topology.cells[0].host_cell == 1


def test_no_way_for_both() -> None:
    busy = with_guests(shape(0), [held(fit(shape(1), Wanted(pinned(3)), ONE))])
    assert busy.cells[0].pinned
    found = fit(busy, Wanted(pinned(2), devices(1, "required")), ONE)
    assert isinstance(found, NoFit)
    assert "devices" in found.reason
    assert held(fit(busy, Wanted(pinned(2), devices(1, "preferred")), ONE))
    assert isinstance(fit(shape(), Wanted(pinned(9)), ONE), NoFit)


def test_devices_alone() -> None:
    first = held(fit(shape(0, 1), Wanted(None, devices(1)), ONE))
    left = with_guests(shape(0, 1), [first])
    assert left.taken == set(first.devices["r"])
    second = held(fit(left, Wanted(None, devices(1)), ONE))
    assert isinstance(fit(with_guests(left, [second]), Wanted(None, devices(1)), ONE), NoFit)


def test_placement_may_have_chosen() -> None:
    host = HostShape(
        devices=(
            Device("0000:0a:00.0", "8086", "1", provider="p0"),
            Device("0000:0a:00.1", "8086", "1", provider="p1"),
        )
    )
    found = held(fit(host, Wanted(None, devices(1)), ONE, providers={"r": ["p1"]}))
    assert found.devices == {"r": ("0000:0a:00.1",)}


def test_a_host_that_tells_nothing() -> None:
    assert isinstance(fit(HostShape(), Wanted(pinned(1)), ONE), NoFit)
    assert not Wanted()
    assert Wanted(pinned(1))
    assert held(fit(HostShape(), Wanted(), ONE)) == Held()
