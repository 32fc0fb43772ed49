from __future__ import annotations

from kilonova.base.ids import RandomIds, SeededIds


def test_the_same_seed_gives_the_same_ids_in_order() -> None:
    one, two = SeededIds("project", "key"), SeededIds("project", "key")
    assert [one.uuid(), one.hex()] == [two.uuid(), two.hex()]
    assert one.uuid() != SeededIds("project", "other").uuid()


def test_random_ids_differ() -> None:
    ids = RandomIds()
    assert ids.uuid() != ids.uuid()
    assert len(ids.hex()) == 32
