"""Errors carry their HTTP meaning."""

from __future__ import annotations

from kilonova.base import errors


def test_each_kind_has_a_status_of_its_own() -> None:
    kinds = [k for k in vars(errors).values() if isinstance(k, type) and k is not errors.Fault]
    statuses = [kind.status for kind in kinds]
    assert len(set(statuses)) == len(kinds)
    assert all(400 <= status < 600 for status in statuses)


def test_a_fault_keeps_what_it_was_given() -> None:
    fault = errors.Conflict("Wait.", code="busy", headers={"Retry-After": "1"}, details={"by": 2})
    assert str(fault) == fault.message == "Wait."
    assert (fault.status, fault.code) == (409, "busy")
    assert fault.headers == {"Retry-After": "1"}
    assert fault.details == {"by": 2}


def test_headers_are_not_shared() -> None:
    errors.NotFound("a").headers["X"] = "y"
    assert errors.NotFound("b").headers == {}
