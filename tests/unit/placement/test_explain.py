"""What the search says of trees that it leaves out."""

from __future__ import annotations

import uuid

import pytest

from kilonova.domain.whynot import Constraint, Obstacle, WhyNot
from kilonova.placement.explain import explain
from kilonova.placement.queries import wanted
from kilonova.placement.rows import SHARING, Inventory
from kilonova.placement.world import World
from tests.unit.placement.test_candidates import AGG, OTHER, stock

C = Constraint


def why(world: World, query: str) -> WhyNot:
    lists: dict[str, list[str]] = {}
    for part in query.split("&"):
        key, _, value = part.partition("=")
        lists.setdefault(key, []).append(value)
    told = explain(world, wanted(lists, 39))
    assert told.left + sum(one.removed for one in told.obstacles) == told.trees
    return told


def only(world: World, query: str) -> Obstacle:
    (found,) = why(world, query).obstacles
    return found


def uuids(*ids: int) -> tuple[str, ...]:
    return tuple(str(uuid.UUID(int=id_)) for id_ in ids)


@pytest.fixture
def hosts() -> World:
    return World(
        [
            stock(1, {"VCPU": 4, "MEMORY_MB": 512}, traits=["A"], aggregates=[AGG]),
            stock(2, {"VCPU": 8, "MEMORY_MB": 512}, traits=["B"], used={"VCPU": 7}),
            stock(3, {"VCPU": 8, "MEMORY_MB": 256}, traits=["A", "B"], aggregates=[OTHER]),
        ]
    )


def test_what_fits_is_not_explained_away(hosts: World) -> None:
    assert why(hosts, "resources=VCPU:1") == WhyNot(3, 3)


def test_too_little_in_one_place(hosts: World) -> None:
    found = why(hosts, "resources=VCPU:6,MEMORY_MB:512").obstacles
    unit, memory, capacity = found
    assert (unit.constraint, unit.asked, unit.most, unit.fits) == (C.UNIT, 6, 8, 4)
    assert unit.roots == uuids(1)
    assert memory.constraint is C.UNIT
    assert memory.names == ("MEMORY_MB",)
    assert (memory.fits, memory.roots, memory.removed) == (256, uuids(3), 1)
    assert (capacity.constraint, capacity.most, capacity.fits) == (C.CAPACITY, 8, 1)


def test_capacity_says_by_how_much(hosts: World) -> None:
    found = why(hosts, "resources=VCPU:5&required=B,!A")
    (capacity,) = (one for one in found.obstacles if one.constraint is C.CAPACITY)
    assert (capacity.asked, capacity.most, capacity.fits) == (5, 8, 1)
    assert capacity.roots == uuids(2)
    (forbidden,) = (one for one in found.obstacles if one.constraint is C.FORBIDDEN_TRAIT)
    assert (forbidden.names, forbidden.roots) == (("A",), uuids(3))


@pytest.mark.parametrize(
    ("more", "constraint", "names", "roots"),
    [
        ("required=C", C.REQUIRED_TRAIT, ("C",), (1, 2, 3)),
        (f"member_of={uuid.UUID(int=5)}", C.MEMBER_OF, uuids(5), (1, 2, 3)),
        (f"in_tree={uuid.UUID(int=5)}", C.IN_TREE, uuids(5), (1, 2, 3)),
        ("root_required=C", C.ROOT_REQUIRED, ("C",), (1, 2, 3)),
        ("resources1=VGPU:1", C.RESOURCE, ("VGPU",), (1, 2, 3)),
    ],
)
def test_what_nobody_has(
    hosts: World, more: str, constraint: Constraint, names: tuple[str, ...], roots: tuple[int, ...]
) -> None:
    found = only(hosts, f"resources=VCPU:1&{more}")
    assert (found.constraint, found.names, found.removed) == (constraint, names, 3)
    assert found.roots == uuids(*roots)
    assert found.would_help


def test_forbidden_places(hosts: World) -> None:
    told = why(hosts, f"resources=VCPU:1&member_of=!in:{AGG},{OTHER}&root_required=!B")
    assert {(one.constraint, one.names, one.removed) for one in told.obstacles} == {
        (C.FORBIDDEN_AGGREGATE, (AGG,), 1),
        (C.ROOT_FORBIDDEN, ("B",), 2),
    }


def test_units_may_ask_for_more() -> None:
    pages = Inventory(8, min_unit=4, max_unit=8, step_size=4)
    found = only(World([stock(1, {"X": pages})]), "resources=X:2")
    assert (found.constraint, found.fits, found.most) == (C.UNIT, 4, 8)


@pytest.fixture
def tree() -> World:
    """A host with two cells, each with a card of two functions, and a shared disk."""
    return World(
        [
            stock(1, {}, aggregates=[AGG]),
            stock(2, {"VCPU": 4}, parent=1, root=1),
            stock(3, {"VCPU": 4}, parent=1, root=1, used={"VCPU": 4}),
            stock(4, {"VF": 2}, parent=2, root=1, used={"VF": 2}),
            stock(5, {"VF": 2}, parent=3, root=1),
            stock(9, {"DISK_GB": 50}, aggregates=[AGG], traits=[SHARING]),
        ]
    )


def of(told: WhyNot, constraint: Constraint) -> Obstacle:
    (found,) = (one for one in told.obstacles if one.constraint is constraint)
    return found


def test_places_that_do_not_go_together(tree: World) -> None:
    told = why(tree, "resources_a=VCPU:1&resources_b=VF:1&group_policy=none&same_subtree=_a,_b")
    assert of(told, C.SAME_SUBTREE).roots == uuids(1)
    assert of(told, C.SAME_SUBTREE).names == ("_a", "_b")
    told = why(tree, "resources_a=VF:1&resources_b=VF:1&group_policy=isolate")
    assert of(told, C.ISOLATE).roots == uuids(1)


def test_groups_that_want_the_same(tree: World) -> None:
    told = why(tree, "resources_a=VCPU:3&resources_b=VCPU:3&group_policy=none")
    assert of(told, C.TOGETHER).removed == 1
    helping = [one for one in told.obstacles if one.constraint is C.CAPACITY]
    assert [(one.group, one.fits, one.roots) for one in helping] == [
        ("_a", 1, uuids(1)),
        ("_b", 1, uuids(1)),
    ]


def test_sharing_providers_are_seen(tree: World) -> None:
    told = why(tree, "resources=VCPU:1,DISK_GB:60")
    disk = of(told, C.UNIT)
    assert (disk.names, disk.fits, disk.roots) == (("DISK_GB",), 50, uuids(1))
