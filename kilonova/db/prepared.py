"""Statements that are run often: compiled once, run without building or looking anything up."""

from __future__ import annotations

import operator
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.sql import visitors

from kilonova.db.database import Tx, counting
from kilonova.db.inline import DRIVER

Processor = Callable[[Any], Any]
Values = Mapping[str, Any]

_NOTHING: Values = {}
_LONGEST = 64
"""Members of an ``IN`` up to which a text for each length is kept; longer ones are rare."""


class _Compiled(NamedTuple):
    """``take`` gives the values in the order of the text; ``binders`` turn some of them."""

    text: str
    take: Callable[[Values], list[Any]]
    binders: tuple[tuple[int, Processor], ...]
    defaults: dict[str, Any]
    makers: dict[str, Processor]
    spread: dict[str, tuple[str, ...]]
    columns: tuple[str, ...]
    readers: tuple[tuple[int, Processor], ...]


class Prepared:
    """A Core statement whose values are ``bindparam``s; make it once, at the top of a module.

    On SQLite it goes straight to the driver with the column types' own conversions, which takes a
    tenth of the time; elsewhere, and to report an error, SQLAlchemy runs it. An ``IN`` takes
    ``bindparam(…, expanding=True)``. An INSERT writes the columns it is given values for, and so
    does an UPDATE made without ``values()``. Rows are plain tuples.
    """

    def __init__(self, statement: sa.Executable) -> None:
        self.statement = statement
        self._compiled: dict[tuple[Any, ...], _Compiled] = {}
        self._lists = tuple(
            part.key
            for part in visitors.iterate(statement)  # type: ignore[arg-type]
            if isinstance(part, sa.BindParameter) and part.expanding
        )

    def all(self, tx: Tx, values: Values = _NOTHING) -> list[tuple[Any, ...]]:
        """Every row."""
        found = self._execute(tx, values)
        if found is None:
            return [tuple(row) for row in tx.execute(self.statement, dict(values))]
        cursor, compiled = found
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        readers = compiled.readers
        return [_read(row, readers) for row in rows] if readers else rows

    def first(self, tx: Tx, values: Values = _NOTHING) -> tuple[Any, ...] | None:
        """The first row; None when there is none."""
        found = self._execute(tx, values)
        if found is None:
            one = tx.execute(self.statement, dict(values)).first()
            return None if one is None else tuple(one)
        cursor, compiled = found
        row: tuple[Any, ...] | None = cursor.fetchone()
        cursor.close()
        readers = compiled.readers
        return _read(row, readers) if row is not None and readers else row

    def scalar(self, tx: Tx, values: Values = _NOTHING) -> Any:
        """The first column of the first row; None when there is none."""
        row = self.first(tx, values)
        return None if row is None else row[0]

    def scalars(self, tx: Tx, values: Values = _NOTHING) -> list[Any]:
        """The first column of every row."""
        return [row[0] for row in self.all(tx, values)]

    def dicts(self, tx: Tx, values: Values = _NOTHING) -> list[dict[str, Any]]:
        """Every row by the names of its columns."""
        found = self._execute(tx, values)
        if found is None:
            return [dict(row._mapping) for row in tx.execute(self.statement, dict(values))]
        cursor, compiled = found
        readers, columns = compiled.readers, compiled.columns
        return [dict(zip(columns, _read(row, readers), strict=True)) for row in cursor.fetchall()]

    def run(self, tx: Tx, values: Values = _NOTHING) -> int:
        """Run a statement that gives no rows; how many it changed."""
        found = self._execute(tx, values)
        if found is None:
            return tx.execute(self.statement, dict(values)).rowcount
        return found[0].rowcount

    def many(self, tx: Tx, rows: Sequence[Values]) -> None:
        """Run a statement that gives no rows for each of these; all give the same names."""
        if not rows:
            return
        if tx.dialect.name != "sqlite":
            tx.execute(self.statement, [dict(row) for row in rows])
            return
        for row in rows:
            self.run(tx, row)

    def insert(self, tx: Tx, values: Values) -> int:
        """Insert a row into a table that numbers them; its number."""
        found = self._execute(tx, values)
        if found is not None:
            return int(found[0].lastrowid or 0)
        key = tx.execute(self.statement, dict(values)).inserted_primary_key
        assert key is not None
        return int(key[0])

    def _execute(self, tx: Tx, given: Values) -> tuple[sqlite3.Cursor, _Compiled] | None:
        if tx.dialect.name != "sqlite":
            return None
        key: tuple[Any, ...] = tuple(given)
        if self._lists:
            sizes = tuple(len(given[name]) for name in self._lists)
            if max(sizes) > _LONGEST:
                return None
            key += sizes
        compiled = self._compiled.get(key)
        if compiled is None:
            compiled = self._compiled[key] = self._compile(tx, given)
        counting(compiled.text)
        # The connection of the event loop carries its driver's; SQLAlchemy's way there is longer.
        dbapi: Any = tx.__dict__.get(DRIVER) or tx.connection.dbapi_connection
        try:
            cursor: sqlite3.Cursor = dbapi.execute(compiled.text, _values(compiled, given))
        except sqlite3.Error:
            # It had no effect; SQLAlchemy raises the same as its own kind of error.
            return None
        return cursor, compiled

    def _compile(self, tx: Tx, given: Values) -> _Compiled:
        statement: Any = self.statement
        free = isinstance(statement, sa.Insert) or (
            isinstance(statement, sa.Update) and not statement._values
        )
        bound = {p.key for p in visitors.iterate(statement) if isinstance(p, sa.BindParameter)}
        columns = [name for name in given if name not in bound] if free else None
        made = statement.compile(dialect=tx.dialect, column_keys=columns)
        if made.literal_execute_params or getattr(made, "update_prefetch", ()):
            raise TypeError(f"cannot be prepared: {made}")
        state = made.construct_expanded_state(
            {name: list(value) if name in self._lists else value for name, value in given.items()}
        )
        names = tuple(state.positiontup or ())
        spread = {name: tuple(parts) for name, parts in state.parameter_expansion.items()}
        inside = {part for parts in spread.values() for part in parts}
        constants, makers = _defaults(made)
        fixed = {
            name: state.parameters[name]
            for name in names
            if name not in given and name not in inside and name not in makers
        }
        binders = {**made._bind_processors, **state.processors}
        results = getattr(made, "_result_columns", None) or ()
        readers = [
            (place, reader)
            for place, column in enumerate(results)
            if (reader := column.type._cached_result_processor(tx.dialect, None)) is not None
        ]
        return _Compiled(
            text=state.statement,
            take=_taker(names),
            binders=tuple((n, turn) for n, name in enumerate(names) if (turn := binders.get(name))),
            defaults=fixed | constants,
            makers=makers,
            spread=spread,
            columns=tuple(column.keyname for column in results),
            readers=tuple(readers),
        )


def _defaults(made: Any) -> tuple[dict[str, Any], dict[str, Processor]]:
    """The defaults of columns that the INSERT was given nothing for: constants, and makers."""
    constants: dict[str, Any] = {}
    makers: dict[str, Processor] = {}
    for column in getattr(made, "insert_prefetch", ()):
        default = column.default
        if default.is_scalar:
            constants[column.key] = default.arg
        elif default.is_callable:
            makers[column.key] = default.arg
        else:
            raise TypeError(f"cannot be prepared, because of the default of {column}: {made}")
    return constants, makers


def _values(compiled: _Compiled, given: Values) -> list[Any]:
    values = {**compiled.defaults, **given} if compiled.defaults else given
    if compiled.makers or compiled.spread:
        values = dict(values)
        for name, maker in compiled.makers.items():
            values[name] = maker(None)
        for name, parts in compiled.spread.items():
            values.update(zip(parts, values[name], strict=True))
    taken = compiled.take(values)
    for place, turn in compiled.binders:
        taken[place] = turn(taken[place])
    return taken


def _taker(names: Sequence[str]) -> Callable[[Values], list[Any]]:
    """What gives the values of these names as a list."""
    if not names:
        return lambda _values: []
    if len(names) == 1:
        (only,) = names
        return lambda values: [values[only]]
    several = operator.itemgetter(*names)
    return lambda values: list(several(values))


def _read(row: tuple[Any, ...], readers: tuple[tuple[int, Processor], ...]) -> tuple[Any, ...]:
    values = list(row)
    for place, reader in readers:
        values[place] = reader(values[place])
    return tuple(values)
