"""What the stores share: rows to Structs and back, filters, pages, the revision of everything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy import exc

from kilonova.base.errors import Conflict
from kilonova.db.database import Tx
from kilonova.embedded.identity.tables import REVISION

S = TypeVar("S", bound=msgspec.Struct)

Table = sa.Table

_JSON = ("extra", "options")
_HOWS = (
    "contains", "startswith", "endswith", "equals",
    "icontains", "istartswith", "iendswith",
)  # fmt: skip


class Where(msgspec.Struct, frozen=True):
    """One filter: ``column`` compared by ``how`` (``equals``, ``contains``, ``startswith``,
    ``endswith`` and the same with an ``i`` before: whatever the case) with ``value``."""

    column: str
    value: Any
    how: str = "equals"


class Part(msgspec.Struct, frozen=True):
    """Which part of a list: at most ``limit`` rows after the row with id ``marker``."""

    limit: int
    marker: str | None = None


def fields(struct: msgspec.Struct, table: sa.Table) -> dict[str, Any]:
    """The column values of a Struct."""
    values = {column.name: getattr(struct, column.name) for column in table.columns}
    for name in _JSON:
        if name in values:
            values[name] = msgspec.json.encode(values[name]).decode()
    return values


def load(kind: type[S], row: sa.Row[Any], **more: Any) -> S:
    """A Struct from a row that has its columns."""
    values = dict(row._mapping)
    for name in _JSON:
        if name in values:
            values[name] = msgspec.json.decode(values[name])
    return kind(**values, **more)


def insert(tx: Tx, table: sa.Table, struct: msgspec.Struct, *, what: str) -> None:
    """Write a new row; Conflict when its id or name is taken."""
    try:
        tx.execute(table.insert().values(**fields(struct, table)))
    except exc.IntegrityError as error:
        raise Conflict(f"There is another {what} with this name or id.") from error


def replace(tx: Tx, table: sa.Table, struct: msgspec.Struct, *, what: str) -> None:
    """Write a changed row; Conflict when its new name is taken."""
    values = fields(struct, table)
    key = values.pop("id")
    try:
        tx.execute(table.update().where(table.c.id == key).values(**values))
    except exc.IntegrityError as error:
        raise Conflict(f"There is another {what} with this name.") from error


def find(tx: Tx, kind: type[S], table: sa.Table, **equal: Any) -> S | None:
    """The row whose columns have these values."""
    query = sa.select(table).where(*(table.c[name] == value for name, value in equal.items()))
    row = tx.execute(query).first()
    return None if row is None else load(kind, row)


def remove(tx: Tx, table: sa.Table, **equal: Any) -> int:
    """Delete rows; how many there were."""
    query = table.delete().where(*(table.c[name] == value for name, value in equal.items()))
    return tx.execute(query).rowcount


def given(table: sa.Table, pairs: Sequence[tuple[str, str]], names: Sequence[str]) -> list[Where]:
    """Filters from words: ``name``, or ``name__icontains``, and a text the column understands.

    Other names are passed over. Booleans are false for ``0`` and ``false``, true for anything
    else; an empty or ``null`` text means: has none.
    """
    result = []
    for key, value in pairs:
        name, _, how = key.partition("__")
        if name not in names or (how and how not in _HOWS):
            continue
        column = table.c[name]
        if isinstance(column.type, sa.Boolean):
            result.append(Where(name, value.strip().lower() not in ("0", "false", "no", "off")))
        elif column.nullable and value in ("", "null", "None"):
            result.append(Where(name, None))
        else:
            result.append(Where(name, value, how or "equals"))
    return result


def clauses(table: sa.Table, filters: Sequence[Where]) -> list[sa.ColumnElement[bool]]:
    """The filters as SQL."""
    return [_clause(table.c[item.column], item) for item in filters]


def select(
    table: sa.Table,
    filters: Sequence[Where],
    part: Part | None = None,
    more: Sequence[sa.ColumnElement[bool]] = (),
) -> sa.Select[Any]:
    """Rows by filters in the order of their ids, one more than ``part`` wants."""
    query = sa.select(table).where(*clauses(table, filters), *more).order_by(table.c.id)
    if part is not None:
        query = query.limit(part.limit + 1)
        if part.marker is not None:
            query = query.where(table.c.id > part.marker)
    return query


def bump(tx: Tx) -> None:
    """Say that something changed that tokens may depend on."""
    done = tx.execute(
        REVISION.update().where(REVISION.c.id == 1).values(number=REVISION.c.number + 1)
    )
    if done.rowcount == 0:
        tx.execute(REVISION.insert().values(id=1, number=1))


def revision(tx: Tx) -> int:
    """How many changes there were."""
    return tx.execute(sa.select(REVISION.c.number).where(REVISION.c.id == 1)).scalar() or 0


def pick(values: Mapping[str, Any], known: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The known attributes of a body, and the rest."""
    mine = {name: value for name, value in values.items() if name in known}
    rest = {name: value for name, value in values.items() if name not in known}
    return mine, rest


def _clause(column: sa.ColumnElement[Any], item: Where) -> sa.ColumnElement[bool]:
    value = item.value
    match item.how:
        case "equals":
            clause: sa.ColumnElement[bool] = column == value
        case "contains":
            clause = column.contains(value, autoescape=True)
        case "startswith":
            clause = column.startswith(value, autoescape=True)
        case "endswith":
            clause = column.endswith(value, autoescape=True)
        case "icontains":
            clause = column.icontains(value, autoescape=True)
        case "istartswith":
            clause = column.istartswith(value, autoescape=True)
        case "iendswith":
            clause = column.iendswith(value, autoescape=True)
        case _:
            raise ValueError(item.how)
    return clause
