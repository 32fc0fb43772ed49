"""A registry refuses a name twice and says what it knows."""

from __future__ import annotations

import pytest

from kilonova.base.registry import Registry


def test_keeps_the_order_and_the_things() -> None:
    table: Registry[int] = Registry("number")
    table.add("two", 2)
    table.add("one", 1)
    assert list(table) == ["two", "one"]
    assert table.items() == [("two", 2), ("one", 1)]
    assert "one" in table
    assert table.get("one") == 1


def test_same_thing_twice_is_fine_another_is_not() -> None:
    table: Registry[object] = Registry("thing")
    thing = object()
    table.add("a", thing)
    assert table.add("a", thing) is thing
    with pytest.raises(ValueError, match="thing 'a' is registered twice"):
        table.add("a", object())


def test_a_missing_name_tells_the_known_ones() -> None:
    table: Registry[int] = Registry("number")
    with pytest.raises(LookupError, match="known: none"):
        table.get("one")
    table.add("one", 1)
    with pytest.raises(LookupError, match="known: one"):
        table.get("two")
