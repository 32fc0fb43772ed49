"""Schemas by version, their messages, the relaxed form, and query strings."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kilonova.base.errors import BadRequest
from kilonova.web.call import Query
from kilonova.web.schema import Schema, between, pick, shape, since, single, until

SERVER = Schema(
    {
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 1},
            "id": {"type": "string", "format": "uuid"},
            "networks": pick(
                until(36, {"type": "array"}),
                since(37, {"oneOf": [{"type": "array"}, {"enum": ["auto", "none"]}]}),
            ),
            "old": between(10, 52, {"type": "integer"}),
            "deep": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"a": {"type": "integer"}, "new": since(60, {})},
                    "additionalProperties": False,
                },
            },
        },
        "required": ["name", since(37, "networks")],
        "additionalProperties": False,
    }
)


def refused(body: Any, version: int) -> str:
    with pytest.raises(BadRequest) as caught:
        SERVER.check(body, version)
    return caught.value.message


def test_spans() -> None:
    SERVER.check({"name": "a"}, 36)
    assert "networks" in refused({"name": "a"}, 37)
    assert refused({"name": "a", "networks": "auto"}, 36)
    SERVER.check({"name": "a", "networks": "auto"}, 37)
    for version, fits in ((9, False), (10, True), (52, True), (53, False)):
        body = {"name": "a", "old": 1, "networks": []}
        assert (SERVER.at(version) is not None) and SERVER.at(version).is_valid(body) == fits  # type: ignore[union-attr]
    assert SERVER.at(10) is SERVER.at(36)
    assert Schema(since(5, {"type": "object"})).at(4) is None


def test_messages_name_path_and_reason() -> None:
    assert "name" in refused({"name": ""}, 1) and "is too short" in refused({"name": ""}, 1)
    assert "deep.0" in refused({"name": "a", "deep": [{"b": 1}]}, 1)
    assert "body" in refused([], 1)
    old = refused({"name": "a", "old": "x"}, 10)
    assert old.startswith("Invalid input for field/attribute old. Value: x. ")
    assert len(refused({"name": "a", "id": "x" * 10_000}, 1)) < 1500


def test_numbers_in_strings_have_the_same_bounds() -> None:
    number = {"type": ["integer", "string"], "pattern": "^-?[0-9]+$", "minimum": -1, "maximum": 5}
    schema = Schema({"type": "object", "properties": {"n": number, "name": {"maxLength": 2}}})
    for value in (-1, 5, "-1", "5", "05"):
        schema.check({"n": value}, 1)
    for value in (-2, 6, "-2", "6", "9" * 5000, "x", ""):
        with pytest.raises(BadRequest):
            schema.check({"n": value}, 1)
    with pytest.raises(BadRequest, match=r"name\. Value: abc\. 'abc' is too long"):
        schema.check({"name": "abc"}, 1)


def test_uuids_as_openstack_reads_them() -> None:
    for text in ("7a1e6a5e-9d5a-4b3f-b9a6-f1b2c3d4e5f6", "7A1E6A5E9D5A4B3FB9A6F1B2C3D4E5F6"):
        SERVER.check({"name": "a", "id": text}, 1)
    for text in ("7a1e6a5e", "7a1e6a5e-9d5a-4b3f-b9a6-f1b2c3d4e5fg", ""):
        refused({"name": "a", "id": text}, 1)


def test_relaxed_drops_unknown_keys() -> None:
    body = {"name": "a", "what": 1, "deep": [{"a": 1, "new": 2}]}
    assert SERVER.check(body, 1, relaxed=True) == {"name": "a", "deep": [{"a": 1}]}
    with pytest.raises(BadRequest):
        SERVER.check({"what": 1}, 1, relaxed=True)
    patterned = Schema(
        {"type": "object", "patternProperties": {"^x-": {}}, "additionalProperties": False}
    )
    assert patterned.check({"x-a": 1, "b": 2}, 1, relaxed=True) == {"x-a": 1}


QUERY = Schema(
    {
        "type": "object",
        "properties": {
            "limit": single({"type": "integer", "minimum": 0}),
            "deleted": {"type": "boolean"},
            "name": {"type": "string", "maxLength": 3},
            "locked": since(73, {"type": "boolean"}),
        },
        "additionalProperties": since(75, False),
    }
)


@pytest.mark.parametrize(
    ("text", "version", "fits"),
    [
        ("", 1, True),
        ("limit=1&deleted=true&name=a&name=b", 1, True),
        ("limit=1&limit=2", 1, False),
        ("limit=-1", 1, False),
        ("limit=1.5", 1, False),
        ("limit=", 1, False),
        ("deleted=maybe", 1, False),
        ("name=a&name=long", 1, False),
        ("other=1", 74, True),
        ("other=1", 75, False),
        ("locked=1", 73, True),
        ("locked=1", 75, True),
        ("locked=x", 73, False),
    ],
)
def test_queries(text: str, version: int, fits: bool) -> None:
    if fits:
        QUERY.check_query(Query(text), version)
    else:
        with pytest.raises(BadRequest):
            QUERY.check_query(Query(text), version)
    if text.startswith("other"):
        QUERY.check_query(Query(text), version, relaxed=True)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=9))
def test_anything_is_either_fine_or_bad_request(body: Any) -> None:
    try:
        SERVER.check({"name": body, "networks": body}, 40)
    except BadRequest as error:
        assert error.message


@pytest.mark.parametrize(
    ("form", "good", "bad"),
    [
        (str, "a", 1),
        (int | None, None, "1"),
        ([bool], [True], [1]),
        ({"a": int, "b?": str}, {"a": 1}, {"b": "x"}),
        ({"a": int, "b?": str}, {"a": 1, "b": "x"}, {"a": 1, "c": 2}),
        ({str: [float]}, {"x": [1.5]}, {"x": 1.5}),
        ({"type": str}, {"type": "novnc"}, {"type": 1}),
        ({"type": "integer"}, 1, "1"),
        ({"links": [object]}, {"links": [1, "x"]}, {"links": {}}),
        ({"enum": ["a"]}, "a", "b"),
    ],
)
def test_forms(form: Any, good: Any, bad: Any) -> None:
    compiled = Schema(shape(form)).at(1)
    assert compiled is not None
    assert compiled.is_valid(good)
    assert not compiled.is_valid(bad)


def test_forms_of_versions() -> None:
    schema = Schema(shape({"id": str, "tag": since(5, str), "old": until(4, int)}))
    for version, good in ((4, {"id": "a", "old": 1}), (5, {"id": "a", "tag": "b"})):
        compiled = schema.at(version)
        assert compiled is not None
        assert compiled.is_valid(good)
        assert not compiled.is_valid({"id": "a"})
