"""What several statements share: times, conflicts by generation, inserting what may be there."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa

from kilonova.base.errors import Conflict

T = TypeVar("T")
Tx = sa.Connection

CONCURRENT = "placement.concurrent_update"
_CHUNK = 500


def naive(when: dt.datetime) -> dt.datetime:
    """A time as the tables hold it: UTC without saying so."""
    return when.astimezone(dt.UTC).replace(tzinfo=None)


def aware(when: dt.datetime) -> dt.datetime:
    """The reverse of ``naive``."""
    return when.replace(tzinfo=dt.UTC)


def stale(what: str, *, actual: object, given: object) -> Conflict:
    """The answer to a write made on an old generation."""
    return Conflict(
        f"{what} generation conflict: actual: {actual}, given: {given}. "
        "Please update the generation and try again.",
        code=CONCURRENT,
    )


def chunks(items: Iterable[T]) -> Iterable[Sequence[T]]:
    """Pieces small enough for one ``IN (…)`` on every engine."""
    rest = list(items)
    for start in range(0, len(rest), _CHUNK):
        yield rest[start : start + _CHUNK]


def insert_missing(tx: Tx, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows, leaving those alone whose key is there already."""
    if not rows:
        return
    if tx.dialect.name in ("mysql", "mariadb"):
        tx.execute(sa.insert(table).prefix_with("IGNORE"), rows)
    elif tx.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as pg_insert  # noqa: PLC0415

        tx.execute(pg_insert(table).on_conflict_do_nothing(), rows)
    else:
        tx.execute(sa.insert(table).prefix_with("OR IGNORE"), rows)
