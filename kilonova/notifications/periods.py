"""Audit periods: an hour, day, month or year that is over; pure."""

from __future__ import annotations

import datetime as dt

from kilonova.base.clock import UTC
from kilonova.base.errors import BadRequest
from kilonova.notifications.facts import Period

UNITS = ("hour", "day", "month", "year")
_FIRST = {"hour": 0, "day": 0, "month": 1, "year": 1}
_LAST = {"hour": 59, "day": 23, "month": 28, "year": 12}


def parse(text: str) -> tuple[str, int]:
    """``month@15`` as its unit and where it begins: a minute, an hour, a day, a month.

    BadRequest for anything that is no period. Months begin on the 28th at the latest.
    """
    unit, _, begins = text.partition("@")
    if unit not in UNITS or (begins and not (begins.isascii() and begins.isdigit())):
        raise BadRequest(f"{text!r} is no audit period; use hour, day, month or year, or month@15.")
    offset = int(begins or 0) or _FIRST[unit]
    if not _FIRST[unit] <= offset <= _LAST[unit]:
        raise BadRequest(f"{text!r}: a {unit} begins between {_FIRST[unit]} and {_LAST[unit]}.")
    return unit, offset


def last(text: str, now: dt.datetime) -> Period:
    """The last period that was over at ``now``."""
    unit, offset = parse(text)
    end = _begin(unit, offset, now.astimezone(UTC))
    return Period(_before(unit, end), end)


def current(text: str, now: dt.datetime) -> Period:
    """From the end of the last period until ``now``."""
    return Period(last(text, now).end, now)


def _begin(unit: str, offset: int, now: dt.datetime) -> dt.datetime:
    """When the period that ``now`` is in began."""
    if unit == "hour":
        begin = now.replace(minute=offset, second=0, microsecond=0)
    elif unit == "day":
        begin = now.replace(hour=offset, minute=0, second=0, microsecond=0)
    elif unit == "month":
        begin = now.replace(day=offset, hour=0, minute=0, second=0, microsecond=0)
    else:
        begin = now.replace(month=offset, day=1, hour=0, minute=0, second=0, microsecond=0)
    return begin if begin < now else _before(unit, begin)


def _before(unit: str, begin: dt.datetime) -> dt.datetime:
    """The same moment one unit earlier."""
    if unit == "hour":
        return begin - dt.timedelta(hours=1)
    if unit == "day":
        return begin - dt.timedelta(days=1)
    if unit == "month":
        previous = begin.replace(day=1) - dt.timedelta(days=1)
        return previous.replace(day=begin.day)
    return begin.replace(year=begin.year - 1)
