"""What the query parameters of Placement mean and which are refused."""

from __future__ import annotations

import pytest

from kilonova.base.errors import BadRequest
from kilonova.placement import queries

U = "3a1d1f8c-5a2e-4b53-9b0a-3f2a4a9d8c11"


def test_resources() -> None:
    assert queries.resources("VCPU:2,MEMORY_MB:512") == {"VCPU": 2, "MEMORY_MB": 512}
    for text in ("", "VCPU", "VCPU:", "VCPU:x", "VCPU:0", "VCPU:-1", "VCPU:1,", ":1", "VCPU:1.5"):
        with pytest.raises(BadRequest):
            queries.resources(text)


def test_traits_at_their_versions() -> None:
    found = queries.traits("required", ["A,!B", "in:C,D"], 39)
    assert found.required == (frozenset("A"), frozenset("CD"))
    assert found.forbidden == {"B"}
    assert queries.traits("required", ["A", "C"], 38).required == (frozenset("C"),)
    for values, version in ((["!B"], 21), (["in:A"], 38), ([""], 39), (["A,,B"], 39), (["!"], 39)):
        with pytest.raises(BadRequest):
            queries.traits("required", values, version)


def test_aggregates_at_their_versions() -> None:
    found = queries.aggregates("member_of", [U, f"!in:{U}"], 32)
    assert found.member_of == (frozenset([U]),)
    assert found.forbidden == {U}
    for values, version in (
        ([U, U], 23),
        ([f"!{U}"], 31),
        ([f"{U},{U}"], 39),
        (["in:"], 39),
        (["x"], 39),
    ):
        with pytest.raises(BadRequest):
            queries.aggregates("member_of", values, version)


@pytest.mark.parametrize(
    ("query", "version"),
    [
        ({"required": ["A"]}, 35),
        ({"member_of1": [U]}, 35),
        ({"required1": ["A"], "resources": ["VCPU:1"]}, 39),
        ({"required1": ["A"]}, 39),
        ({"resources1": ["VCPU:1"], "resources2": ["VCPU:1"]}, 39),
        ({"resources": ["VCPU:1"], "same_subtree": ["_x"]}, 39),
        ({"resources": ["VCPU:1"], "same_subtree": [","]}, 39),
        ({"resources": ["VCPU:1"], "root_required": ["A", "B"]}, 39),
        ({"resources": ["VCPU:1"], "root_required": ["A,!A"]}, 39),
        ({"resources": ["VCPU:1"], "required": ["A,!A"]}, 39),
        ({"resources": ["VCPU:1"], "in_tree": ["x"]}, 39),
        ({}, 39),
    ],
)
def test_requests_that_make_no_sense(query: dict[str, list[str]], version: int) -> None:
    with pytest.raises(BadRequest):
        queries.wanted(query, version)


def test_a_whole_request() -> None:
    found = queries.wanted(
        {
            "resources": ["VCPU:1"],
            "resources_NET": ["VF:1"],
            "required_NET": ["A"],
            "in_tree_NET": [U],
            "group_policy": ["isolate"],
            "limit": ["7"],
        },
        39,
    )
    assert [group.suffix for group in found.groups] == ["", "_NET"]
    assert found.isolate
    assert found.limit == 7
    assert found.groups[1].in_tree == U


def test_uuids() -> None:
    assert queries.canonical(U.replace("-", "").upper()) == U
    assert not queries.is_uuid("not-one")
    assert queries.canonical("not-one") == "not-one"
