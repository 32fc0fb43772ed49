"""Statements that are run often: compiled once, run without building or looking anything up."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import sqlalchemy as sa

from kilonova.db.database import Tx, counting

Processor = Callable[[Any], Any]


class _Compiled(NamedTuple):
    text: str
    names: tuple[str, ...]
    defaults: dict[str, Any]
    binders: dict[str, Processor]
    readers: tuple[tuple[int, Processor], ...]


class Prepared:
    """A Core statement whose values are ``bindparam``s; make it once, at the top of a module.

    On SQLite it goes straight to the driver with the column types' own conversions, which takes a
    fifth of the time; elsewhere, and to report an error, SQLAlchemy runs it. Expanding parameters
    (``IN``) and Python-side column defaults are not for it. Rows are plain tuples.
    """

    def __init__(self, statement: sa.Executable) -> None:
        self.statement = statement
        self._compiled: dict[tuple[str, ...], _Compiled] = {}

    def all(self, tx: Tx, values: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Every row."""
        given = values or {}
        cursor = self._execute(tx, given)
        if cursor is None:
            return [tuple(row) for row in tx.execute(self.statement, dict(given))]
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        readers = self._compiled[tuple(given)].readers
        return [_read(row, readers) for row in rows] if readers else rows

    def first(self, tx: Tx, values: Mapping[str, Any] | None = None) -> tuple[Any, ...] | None:
        """The first row; None when there is none."""
        given = values or {}
        cursor = self._execute(tx, given)
        if cursor is None:
            found = tx.execute(self.statement, dict(given)).first()
            return None if found is None else tuple(found)
        row: tuple[Any, ...] | None = cursor.fetchone()
        cursor.close()
        readers = self._compiled[tuple(given)].readers
        return _read(row, readers) if row is not None and readers else row

    def run(self, tx: Tx, values: Mapping[str, Any] | None = None) -> int:
        """Run a statement that gives no rows; how many it changed."""
        given = values or {}
        cursor = self._execute(tx, given)
        if cursor is None:
            return tx.execute(self.statement, dict(given)).rowcount
        return cursor.rowcount

    def _execute(self, tx: Tx, given: Mapping[str, Any]) -> sqlite3.Cursor | None:
        if tx.dialect.name != "sqlite":
            return None
        keys = tuple(given)
        compiled = self._compiled.get(keys)
        if compiled is None:
            compiled = self._compiled[keys] = self._compile(tx, keys)
        values = {**compiled.defaults, **given} if compiled.defaults else given
        for name, binder in compiled.binders.items():
            values = {**values, name: binder(values[name])}
        counting(compiled.text)
        dbapi: Any = tx.connection.dbapi_connection
        try:
            cursor: sqlite3.Cursor = dbapi.execute(
                compiled.text, [values[name] for name in compiled.names]
            )
        except sqlite3.Error:
            # It had no effect; SQLAlchemy raises the same as its own kind of error.
            return None
        return cursor

    def _compile(self, tx: Tx, keys: tuple[str, ...]) -> _Compiled:
        statement: Any = self.statement
        columns = list(keys) if isinstance(statement, sa.Insert) else None
        made = statement.compile(dialect=tx.dialect, column_keys=columns)
        if made.post_compile_params or getattr(made, "insert_prefetch", ()):
            raise TypeError(f"cannot be prepared: {made}")
        names = tuple(made.positiontup or ())
        binders = made._bind_processors
        readers = []
        for place, column in enumerate(getattr(made, "_result_columns", ()) or ()):
            reader = column.type._cached_result_processor(tx.dialect, None)
            if reader is not None:
                readers.append((place, reader))
        return _Compiled(
            str(made),
            names,
            {name: made.params[name] for name in names if name not in keys},
            {name: binders[name] for name in set(names) if name in binders},
            tuple(readers),
        )


def _read(row: tuple[Any, ...], readers: tuple[tuple[int, Processor], ...]) -> tuple[Any, ...]:
    values = list(row)
    for place, reader in readers:
        values[place] = reader(values[place])
    return tuple(values)
