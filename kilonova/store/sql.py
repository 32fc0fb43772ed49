"""Small helpers for statements that differ between engines."""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from kilonova.db.database import Tx
from kilonova.db.prepared import Prepared


def insert_missing(tx: Tx, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert the rows; those whose key is there already are left as they are."""
    if not rows:
        return
    _missing(table, tx.dialect.name).many(tx, rows)


@functools.cache
def _missing(table: sa.Table, dialect: str) -> Prepared:
    if dialect == "postgresql":
        from sqlalchemy.dialects import postgresql  # noqa: PLC0415 (slow, and not SQLite's)

        return Prepared(postgresql.insert(table).on_conflict_do_nothing())
    if dialect == "sqlite":
        return Prepared(sqlite.insert(table).on_conflict_do_nothing())
    return Prepared(sa.insert(table).prefix_with("IGNORE"))


def as_text(column: sa.ColumnElement[Any]) -> sa.ColumnElement[str]:
    """A column of instants or nullable text as text, empty for NULL: one order everywhere."""
    return sa.func.coalesce(sa.type_coerce(column, sa.String), "")


def inserted_id(result: sa.CursorResult[Any]) -> int:
    """The number a row was given."""
    key = result.inserted_primary_key
    assert key is not None
    return int(key[0])


def instant(value: dt.datetime) -> str:
    """A time as it stands in an Instant column."""
    return value.astimezone(dt.UTC).isoformat(timespec="microseconds")
