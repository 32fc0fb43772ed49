"""Small helpers for statements that differ between engines."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite

from kilonova.db.database import Tx


def insert_missing(tx: Tx, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert the rows; those whose key is there already are left as they are."""
    if not rows:
        return
    statement: Any
    if tx.dialect.name == "postgresql":
        statement = postgresql.insert(table).on_conflict_do_nothing()
    elif tx.dialect.name == "sqlite":
        statement = sqlite.insert(table).on_conflict_do_nothing()
    else:
        statement = mysql.insert(table).prefix_with("IGNORE")
    tx.execute(statement, [dict(row) for row in rows])


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
