"""Reading and writing rows of any resource: get, insert, update, delete, count."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa

from kilonova.base.errors import NotFound
from kilonova.db.database import Tx
from kilonova.db.prepared import Prepared
from kilonova.embedded.network.attrs import Kind
from kilonova.embedded.network.store import addresses
from kilonova.embedded.network.tables import PORTS

Row = dict[str, Any]
T = TypeVar("T")

# Two writers at the same key: the loser runs again.
Clash = sa.exc.IntegrityError

_CHUNK = 500


def chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Pieces short enough for one ``IN``."""
    for start in range(0, len(items), _CHUNK):
        yield items[start : start + _CHUNK]


def fetch(tx: Tx, kind: Kind, statement: sa.Select[Any]) -> list[Row]:
    """The rows of a statement over a kind's table; ports with their ``fixed_ips``."""
    return completed(tx, kind, [dict(row._mapping) for row in tx.execute(statement)])


def completed(tx: Tx, kind: Kind, found: list[Row]) -> list[Row]:
    """Rows of a kind's table with what other tables hold of them."""
    if kind.table is PORTS and found:
        fixed = addresses.of_ports(tx, [row["id"] for row in found])
        for row in found:
            row["fixed_ips"] = fixed.get(row["id"], [])
    return found


def get(tx: Tx, kind: Kind, row_id: str, *, lock: bool = False) -> Row | None:
    """One row by id; ``lock`` keeps others from changing it until the transaction ends."""
    one = _one(kind.table, lock=lock)
    found = completed(tx, kind, one.dicts(tx, {"row": row_id}))
    return found[0] if found else None


@functools.cache
def _one(table: sa.Table, *, lock: bool) -> Prepared:
    statement = sa.select(table).where(table.c.id == sa.bindparam("row"))
    return Prepared(statement.with_for_update() if lock else statement)


def need(tx: Tx, kind: Kind, row_id: str, *, lock: bool = False) -> Row:
    """One row by id; NotFound as Neutron words it."""
    row = get(tx, kind, row_id, lock=lock)
    if row is None:
        raise missing(kind, row_id)
    return row


def missing(kind: Kind, row_id: str) -> NotFound:
    """The NotFound of a resource."""
    return NotFound(f"{kind.title} {row_id} could not be found.", code=kind.missing)


def insert(tx: Tx, kind: Kind, values: Row, now: str) -> Row:
    """Insert a row with its time stamps; the row as it is kept."""
    columns = {c.name for c in kind.table.columns}
    full = {k: v for k, v in values.items() if k in columns}
    full |= {"created_at": now, "updated_at": now}
    for column in kind.table.columns:
        if column.name not in full and column.default is not None:
            default: Any = column.default.arg  # type: ignore[attr-defined]
            full[column.name] = default(None) if callable(default) else default
        full.setdefault(column.name, None)
    _insert(kind.table).run(tx, full)
    return full


@functools.cache
def _insert(table: sa.Table) -> Prepared:
    return Prepared(table.insert())


def update(tx: Tx, kind: Kind, row: Row, changes: Row, now: str) -> Row:
    """Change a row; its revision goes up. Changes without a column (kept elsewhere) count too."""
    if not changes:
        return row
    stamp = {"updated_at": now, "revision_number": row["revision_number"] + 1}
    values = {k: v for k, v in changes.items() if k in kind.table.c} | stamp
    _update(kind.table).run(tx, {"row": row["id"], **values})
    return row | changes | stamp


@functools.cache
def _update(table: sa.Table) -> Prepared:
    return Prepared(table.update().where(table.c.id == sa.bindparam("row")))


def delete(tx: Tx, kind: Kind, row_id: str) -> None:
    """Delete a row."""
    tx.execute(kind.table.delete().where(kind.table.c.id == row_id))


def count(tx: Tx, kind: Kind, project_id: str) -> int:
    """How many rows a project has."""
    return int(_count(kind.table).scalar(tx, {"project": project_id}))


@functools.cache
def _count(table: sa.Table) -> Prepared:
    return Prepared(sa.select(sa.func.count()).where(table.c.project_id == sa.bindparam("project")))
