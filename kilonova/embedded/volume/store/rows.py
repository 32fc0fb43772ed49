"""Reading and writing rows whose columns are the fields of a Struct."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy import exc

from kilonova.base.errors import BadRequest, Conflict
from kilonova.db.database import Tx
from kilonova.embedded.volume.records import (
    Attachment,
    Snapshot,
    Transfer,
    Volume,
    VolumeType,
)
from kilonova.embedded.volume.tables import ATTACHMENT, SNAPSHOT, TRANSFER, TYPE, VOLUME

R = TypeVar("R", Volume, Snapshot, Attachment, VolumeType, Transfer)

TABLES: dict[Any, sa.Table] = {
    Volume: VOLUME,
    Snapshot: SNAPSHOT,
    Attachment: ATTACHMENT,
    VolumeType: TYPE,
    Transfer: TRANSFER,
}


class Wanted(msgspec.Struct, frozen=True):
    """Which rows of a list: filters by column, order, and the part of it."""

    equal: tuple[tuple[str, Any], ...] = ()
    metadata: tuple[tuple[str, str], ...] = ()
    like: tuple[tuple[str, str], ...] = ()
    order: tuple[tuple[str, bool], ...] = (("created_at", True), ("id", True))
    limit: int = 1000
    offset: int = 0
    marker: str | None = None


def find(tx: Tx, kind: type[R], key: str, *, lock: bool = False) -> R | None:
    """One row by its id; ``lock``: until the transaction ends."""
    table = TABLES[kind]
    query = sa.select(table).where(table.c.id == key)
    row = tx.execute(query.with_for_update() if lock else query).first()
    return None if row is None else kind(**row._mapping)


def where(tx: Tx, kind: type[R], **equal: Any) -> list[R]:
    """All rows with these values (a list: any of them), oldest first."""
    table = TABLES[kind]
    query = sa.select(table).where(*(_equal(table, name, value) for name, value in equal.items()))
    found = tx.execute(query.order_by(table.c.created_at, table.c.id))
    return [kind(**row._mapping) for row in found]


def create(tx: Tx, record: Any) -> None:
    """Write a new row; Conflict when its id or name is taken."""
    table = TABLES[type(record)]
    try:
        tx.execute(table.insert().values(**msgspec.structs.asdict(record)))
    except exc.IntegrityError as error:
        raise Conflict(f"There is another one with the id or name of {record.id}.") from error


def change(tx: Tx, kind: type[Any], key: str, /, **values: Any) -> bool:
    """Change columns of a row; whether it was there."""
    table = TABLES[kind]
    return tx.execute(table.update().where(table.c.id == key).values(**values)).rowcount == 1


def delete(tx: Tx, kind: type[Any], key: str) -> bool:
    """Remove a row; whether it was there."""
    table = TABLES[kind]
    return tx.execute(table.delete().where(table.c.id == key)).rowcount == 1


def pending(tx: Tx, kind: type[R]) -> list[R]:
    """Rows with work to be done."""
    table = TABLES[kind]
    found = tx.execute(sa.select(table).where(table.c.job.is_not(None)))
    return [kind(**row._mapping) for row in found]


def page(tx: Tx, kind: type[R], wanted: Wanted) -> list[R]:
    """At most ``limit`` + 1 rows; BadRequest for a marker that is not there."""
    table = TABLES[kind]
    query = sa.select(table).where(*_clauses(table, wanted))
    if wanted.marker is not None:
        query = query.where(_after(tx, table, wanted))
    for name, descending in wanted.order:
        column = _ordered(table, name)
        query = query.order_by(column.desc() if descending else column.asc())
    found = tx.execute(query.limit(wanted.limit + 1).offset(wanted.offset or None))
    return [kind(**row._mapping) for row in found]


def count(tx: Tx, kind: type[Any], wanted: Wanted) -> int:
    """How many rows the whole list has."""
    table = TABLES[kind]
    query = sa.select(sa.func.count()).select_from(table).where(*_clauses(table, wanted))
    return int(tx.execute(query).scalar_one())


def _clauses(table: sa.Table, wanted: Wanted) -> list[sa.ColumnElement[bool]]:
    made = [_equal(table, name, value) for name, value in wanted.equal]
    for name, part in wanted.like:
        made.append(table.c[name].contains(part, autoescape=True))
    for name, value in wanted.metadata:
        # Metadata is JSON text: a key and its value stand side by side in it.
        pair = msgspec.json.encode({name: value}).decode()[1:-1]
        made.append(sa.cast(table.c.metadata, sa.Text).contains(pair, autoescape=True))
    return made


def _equal(table: sa.Table, name: str, value: Any) -> sa.ColumnElement[bool]:
    column = table.c[name]
    clause: sa.ColumnElement[bool]
    if isinstance(value, (list, tuple)):
        clause = column.in_(list(value))
    else:
        clause = column.is_(None) if value is None else column == value
    return clause


def _ordered(table: sa.Table, name: str) -> sa.ColumnElement[Any]:
    column: sa.ColumnElement[Any] = table.c[name]
    return sa.func.coalesce(column, "") if table.c[name].nullable else column


def _after(tx: Tx, table: sa.Table, wanted: Wanted) -> sa.ColumnElement[bool]:
    row = tx.execute(sa.select(table).where(table.c.id == wanted.marker)).first()
    if row is None:
        raise BadRequest(f"marker [{wanted.marker}] not found")
    same: list[sa.ColumnElement[bool]] = []
    steps: list[sa.ColumnElement[bool]] = []
    for name, descending in wanted.order:
        column = _ordered(table, name)
        value = row._mapping[name]
        if value is None:
            value = ""
        steps.append(sa.and_(*same, column < value if descending else column > value))
        same.append(column == value)
    return sa.or_(*steps)


def first(tx: Tx, kind: type[R], names: Sequence[str], value: str) -> R | None:
    """The row whose first matching column of ``names`` has the value."""
    for name in names:
        found = where(tx, kind, **{name: value})
        if found:
            return found[0]
    return None
