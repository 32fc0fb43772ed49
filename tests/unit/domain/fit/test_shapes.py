"""What is free of pages and CPUs."""

from __future__ import annotations

from kilonova.domain.fit.shapes import GuestTopology, Held, HostCell, Pages


def test_what_is_free() -> None:
    assert Pages(2048, 10, used=3, reserved=2).free == 5
    cell = HostCell(0, 1, pcpus=frozenset({1, 2, 3}), pinned=frozenset({2, 9}))
    assert cell.free_pcpus == {1, 3}


def test_who_holds_something() -> None:
    assert not Held()
    assert Held(GuestTopology(()))
    assert Held(None, {"r": ("0000:00:01.0",)})
