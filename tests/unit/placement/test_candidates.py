"""The search for candidates over small worlds."""

from __future__ import annotations

import random
import time
import uuid
from typing import Any

import pytest

from kilonova.placement.candidates import Bounds, Candidate, search, summaries
from kilonova.placement.queries import wanted
from kilonova.placement.rows import SHARING, Inventory
from kilonova.placement.store.snapshot import Delta, Mark, Stock
from kilonova.placement.world import World

AGG = str(uuid.UUID(int=77))
OTHER = str(uuid.UUID(int=78))


def stock(id_: int, resources: dict[str, Any], **more: Any) -> Stock:
    return Stock(
        id=id_,
        uuid=str(uuid.UUID(int=id_)),
        name=f"p{id_}",
        generation=0,
        parent_id=more.get("parent"),
        root_id=more.get("root", id_),
        inventories={
            n: total if isinstance(total, Inventory) else Inventory(total, max_unit=total)
            for n, total in resources.items()
        },
        used=more.get("used", {}),
        traits=frozenset(more.get("traits", ())),
        aggregates=frozenset(more.get("aggregates", ())),
    )


def find(world: World, query: str, version: int = 39, **more: Any) -> list[Candidate]:
    lists: dict[str, list[str]] = {}
    for part in query.split("&"):
        key, _, value = part.partition("=")
        lists.setdefault(key, []).append(value)
    nested = version >= 29
    return search(world, wanted(lists, version), nested=nested, bounds=Bounds(**more))


def allocated(found: list[Candidate]) -> list[dict[int, dict[str, int]]]:
    return [candidate.allocations for candidate in found]


def test_hosts_with_room_the_roomiest_first() -> None:
    world = World(
        [
            stock(1, {"VCPU": 4, "MEMORY_MB": 512}),
            stock(2, {"VCPU": 4, "MEMORY_MB": 512}, used={"VCPU": 4}),
            stock(3, {"VCPU": 4}),
            stock(4, {"VCPU": 8, "MEMORY_MB": 512}),
        ]
    )
    found = find(world, "resources=VCPU:2,MEMORY_MB:512")
    assert allocated(found) == [
        {4: {"VCPU": 2, "MEMORY_MB": 512}},
        {1: {"VCPU": 2, "MEMORY_MB": 512}},
    ]
    assert len(find(world, "resources=VCPU:2&limit=2")) == 2
    assert allocated(find(world, "resources=VCPU:5")) == [{4: {"VCPU": 5}}]


def test_ratio_reserved_and_units_count() -> None:
    inventory = Inventory(4, reserved=1, min_unit=2, max_unit=6, step_size=2, allocation_ratio=2.0)
    world = World([stock(1, {"VCPU": inventory})])
    assert inventory.capacity == 6
    assert len(find(world, "resources=VCPU:6")) == 1
    for amount in (1, 3, 7, 8):
        assert find(world, f"resources=VCPU:{amount}") == []


def test_traits_and_aggregates_of_one_host() -> None:
    world = World(
        [
            stock(1, {"VCPU": 4}, traits=["A", "B"], aggregates=[AGG]),
            stock(2, {"VCPU": 4}, traits=["A"], aggregates=[OTHER]),
            stock(3, {"VCPU": 4}),
        ]
    )

    def ids(query: str) -> list[int]:
        return [i for part in allocated(find(world, "resources=VCPU:1&" + query)) for i in part]

    assert ids("required=A") == [1, 2]
    assert ids("required=A,!B") == [2]
    assert ids("required=in:A,B&required=!B") == [2]
    assert ids(f"member_of={AGG}") == [1]
    assert ids(f"member_of=in:{AGG},{OTHER}") == [1, 2]
    assert ids(f"member_of=!{AGG}") == [2, 3]
    assert ids(f"in_tree={uuid.UUID(int=3)}") == [3]
    assert ids("root_required=!A") == [3]


def test_shared_disk_serves_hosts_of_its_aggregate() -> None:
    world = World(
        [
            stock(1, {"VCPU": 4}, aggregates=[AGG]),
            stock(2, {"VCPU": 4, "DISK_GB": 10}),
            stock(9, {"DISK_GB": 100}, aggregates=[AGG], traits=[SHARING]),
        ]
    )
    found = find(world, "resources=VCPU:1,DISK_GB:5")
    assert {frozenset(part) for part in allocated(found)} == {frozenset({1, 9}), frozenset({2})}
    assert [s.id for s in summaries(world, found, nested=True)] == [1, 2, 9]
    world.apply(Delta(Mark(), changed=(stock(1, {"VCPU": 4}),)))
    assert allocated(find(world, "resources=VCPU:1,DISK_GB:5")) == [{2: {"DISK_GB": 5, "VCPU": 1}}]


@pytest.fixture
def numa() -> World:
    """One host with two NUMA cells, each with a network card of two functions."""
    return World(
        [
            stock(1, {"DISK_GB": 100}),
            stock(2, {"VCPU": 4}, parent=1, root=1, traits=["CELL0"]),
            stock(3, {"VCPU": 4}, parent=1, root=1),
            stock(4, {"VF": 2}, parent=2, root=1),
            stock(5, {"VF": 2}, parent=3, root=1),
        ]
    )


def test_a_tree_serves_from_several_providers(numa: World) -> None:
    assert len(find(numa, "resources=VCPU:1,DISK_GB:1")) == 2
    assert find(numa, "resources=VCPU:1,DISK_GB:1", 28) == []
    assert find(numa, "resources=VCPU:5") == []
    assert find(numa, "resources1=VCPU:1,DISK_GB:1") == []


def test_groups_isolate_and_subtree(numa: World) -> None:
    pair = "resources_a=VCPU:1&resources_b=VF:1"
    assert len(find(numa, f"{pair}&group_policy=none")) == 4
    near = find(numa, f"{pair}&group_policy=none&same_subtree=_a,_b")
    assert {frozenset(part) for part in allocated(near)} == {frozenset({2, 4}), frozenset({3, 5})}
    two = "resources_a=VF:1&resources_b=VF:1"
    assert {frozenset(p) for p in allocated(find(numa, f"{two}&group_policy=isolate"))} == {
        frozenset({4, 5})
    }
    none = find(numa, f"{two}&group_policy=none")
    assert {4: {"VF": 2}} in allocated(none)


def test_resourceless_group_picks_the_subtree(numa: World) -> None:
    found = find(numa, "required_c=CELL0&resources_n=VF:1&same_subtree=_c,_n&group_policy=none")
    assert allocated(found) == [{4: {"VF": 1}}]
    assert found[0].mappings == {"_c": (2,), "_n": (4,)}


def test_many_equal_devices_stay_bounded() -> None:
    """Eight groups over sixteen equal children have 16!/8! combinations."""
    world = World([stock(1, {"VCPU": 4})])
    for id_ in range(2, 18):
        world.put(stock(id_, {"PCI_DEVICE": 1}, parent=1, root=1))
    groups = "&".join(f"resources{n}=PCI_DEVICE:1" for n in range(8))
    began = time.perf_counter()
    found = find(world, f"resources=VCPU:1&{groups}&group_policy=none&limit=100", at_most=1000)
    assert len(found) == 100
    assert time.perf_counter() - began < 1.0


def test_breadth_first_and_chance_spread_over_trees() -> None:
    world = World([])
    for root in (1, 11, 21):
        world.put(stock(root, {}))
        for child in (1, 2, 3):
            world.put(stock(root + child, {"VCPU": 4}, parent=root, root=root))
    first = find(world, "resources=VCPU:1", at_most=3)
    spread = find(world, "resources=VCPU:1", at_most=3, breadth_first=True)
    assert {id_ // 10 for part in allocated(first) for id_ in part} == {0}
    assert {id_ // 10 for part in allocated(spread) for id_ in part} == {0, 1, 2}
    orders = {
        tuple(next(iter(part)) for part in allocated(find(world, "resources=VCPU:1", chance=c)))
        for c in (random.Random(seed) for seed in range(8))
    }
    assert len(orders) > 1


def test_a_thousand_candidates_of_many_hosts_are_quick() -> None:
    world = World([stock(i, {"VCPU": 8, "MEMORY_MB": 99, "DISK_GB": 9}) for i in range(1, 5001)])
    began = time.perf_counter()
    assert len(find(world, "resources=VCPU:1,MEMORY_MB:9,DISK_GB:1&limit=1000")) == 1000
    assert time.perf_counter() - began < 1.0


def test_the_world_forgets() -> None:
    world = World([stock(1, {"VCPU": 1}, traits=["A"], aggregates=[AGG])])
    world.apply(Delta(Mark(), gone=(1,)))
    assert not (world.stocks or world.ids or world.by_class or world.by_trait or world.trees)
    assert not (world.by_aggregate or world.names or world.rooms)
