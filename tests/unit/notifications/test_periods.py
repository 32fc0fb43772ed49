"""Audit periods: what was the last one at some moment."""

from __future__ import annotations

import datetime as dt

import pytest

from kilonova.base.clock import UTC
from kilonova.base.errors import BadRequest
from kilonova.notifications.periods import current, last


def at(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("period", "now", "begin", "end"),
    [
        ("month", "2026-03-31T12:00:00", "2026-02-01T00:00:00", "2026-03-01T00:00:00"),
        ("month", "2026-01-05T12:00:00", "2025-12-01T00:00:00", "2026-01-01T00:00:00"),
        ("month@15", "2026-03-10T00:00:00", "2026-01-15T00:00:00", "2026-02-15T00:00:00"),
        ("month@28", "2026-03-31T00:00:00", "2026-02-28T00:00:00", "2026-03-28T00:00:00"),
        ("month@1", "2026-03-01T00:00:00", "2026-01-01T00:00:00", "2026-02-01T00:00:00"),
        ("day", "2026-03-10T12:00:00", "2026-03-09T00:00:00", "2026-03-10T00:00:00"),
        ("day@18", "2026-03-10T12:00:00", "2026-03-08T18:00:00", "2026-03-09T18:00:00"),
        ("hour", "2026-03-10T12:34:56", "2026-03-10T11:00:00", "2026-03-10T12:00:00"),
        ("hour@30", "2026-03-10T12:10:00", "2026-03-10T10:30:00", "2026-03-10T11:30:00"),
        ("year", "2026-03-10T12:10:00", "2025-01-01T00:00:00", "2026-01-01T00:00:00"),
        ("year@6", "2026-03-10T12:10:00", "2024-06-01T00:00:00", "2025-06-01T00:00:00"),
    ],
)
def test_last(period: str, now: str, begin: str, end: str) -> None:
    found = last(period, at(now))
    assert (found.begin, found.end) == (at(begin), at(end))


def test_current() -> None:
    now = at("2026-03-10T12:34:56")
    assert current("hour", now).begin == at("2026-03-10T12:00:00")
    assert current("hour", now).end == now


@pytest.mark.parametrize("period", ["week", "month@29", "month@x", "day@24", "hour@60", "", "@1"])
def test_what_is_no_period(period: str) -> None:
    with pytest.raises(BadRequest):
        last(period, at("2026-03-10T12:34:56"))
