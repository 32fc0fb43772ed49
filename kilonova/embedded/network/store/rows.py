"""Reading and writing rows of any resource: list with filters, get, insert, update, delete."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from kilonova.base.errors import BadRequest, NotFound
from kilonova.db.database import Tx
from kilonova.embedded.network.attrs import Attr, Kind, flag

Row = dict[str, Any]

_TAGS = {"tags": False, "tags-any": False, "not-tags": True, "not-tags-any": True}
_CONTROL = frozenset(
    {"fields", "limit", "marker", "page_reverse", "sort_key", "sort_dir", "dry-run", *_TAGS}
)


class Listing(msgspec.Struct, frozen=True):
    """What a list request asks for: filters by attribute, paging and order."""

    filters: tuple[tuple[str, tuple[str, ...]], ...] = ()
    sort: tuple[tuple[str, str], ...] = ()
    limit: int | None = None
    marker: str | None = None
    reverse: bool = False


def listing(kind: Kind, query: Mapping[str, Sequence[str]]) -> Listing:
    """Read a list request's query; BadRequest for a bad limit, order or sort key."""
    filters = tuple(
        (key, tuple(values)) for key, values in query.items() if key not in _CONTROL or key in _TAGS
    )
    keys, directions = list(query.get("sort_key", ())), list(query.get("sort_dir", ()))
    if directions and len(keys) != len(directions):
        raise BadRequest("The number of sort_keys and sort_dirs must be same")
    for direction in directions:
        if direction not in ("asc", "desc"):
            raise BadRequest(f"'{direction}' is not a sort direction; use asc or desc.")
    for key in keys:
        if _attr(kind, key) is None:
            raise BadRequest(f"'{key}' is an invalid attribute for sort key")
    sort = tuple(zip(keys, directions or ["asc"] * len(keys), strict=True))
    raw = next(iter(query.get("limit", ())), "")
    if raw and not raw.isdigit():
        raise BadRequest(f"The limit must be an integer from 0, not '{raw[:32]}'.")
    return Listing(
        filters,
        sort,
        int(raw) if raw and int(raw) else None,
        next(iter(query.get("marker", ())), None),
        flag(next(iter(query.get("page_reverse", ())), "false")),
    )


def find(
    tx: Tx, kind: Kind, wanted: Listing, *, visible: sa.ColumnElement[bool] | None = None
) -> list[Row]:
    """The rows of a list, at most ``limit`` + 1 of them (the last tells there are more)."""
    table = kind.table
    statement = sa.select(table)
    if visible is not None:
        statement = statement.where(visible)
    for key, values in wanted.filters:
        clause = _clause(kind, key, values)
        if clause is not None:
            statement = statement.where(clause)
    order = [(table.c[_column(kind, key)], direction) for key, direction in wanted.sort]
    order.append((table.c.id, "asc"))
    flip = {"asc": "desc", "desc": "asc"} if wanted.reverse else {"asc": "asc", "desc": "desc"}
    if wanted.marker is not None:
        at = get(tx, kind, wanted.marker)
        if at is None:
            raise BadRequest(f"The marker {wanted.marker} could not be found.")
        statement = statement.where(_beyond(order, at, flip))
    for column, direction in order:
        statement = statement.order_by(column.asc() if flip[direction] == "asc" else column.desc())
    if wanted.limit:
        statement = statement.limit(wanted.limit + 1)
    return [dict(row._mapping) for row in tx.execute(statement)]


def get(tx: Tx, kind: Kind, row_id: str, *, lock: bool = False) -> Row | None:
    """One row by id; ``lock`` keeps others from changing it until the transaction ends."""
    statement = sa.select(kind.table).where(kind.table.c.id == row_id)
    row = tx.execute(statement.with_for_update() if lock else statement).first()
    return dict(row._mapping) if row is not None else None


def need(tx: Tx, kind: Kind, row_id: str, *, lock: bool = False) -> Row:
    """One row by id; NotFound as Neutron words it."""
    row = get(tx, kind, row_id, lock=lock)
    if row is None:
        raise missing(kind, row_id)
    return row


def missing(kind: Kind, row_id: str) -> NotFound:
    """The NotFound of a resource."""
    words = kind.name.replace("_", " ").capitalize().replace("ip", "IP")
    return NotFound(f"{words} {row_id} could not be found.", code=kind.missing)


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
    tx.execute(kind.table.insert().values(full))
    return full


def update(tx: Tx, kind: Kind, row: Row, changes: Row, now: str) -> Row:
    """Change a row; its revision goes up."""
    if not changes:
        return row
    values = changes | {"updated_at": now, "revision_number": row["revision_number"] + 1}
    tx.execute(kind.table.update().where(kind.table.c.id == row["id"]).values(values))
    return row | values


def delete(tx: Tx, kind: Kind, row_id: str) -> None:
    """Delete a row."""
    tx.execute(kind.table.delete().where(kind.table.c.id == row_id))


def count(tx: Tx, kind: Kind, project_id: str) -> int:
    """How many rows a project has."""
    statement = sa.select(sa.func.count()).where(kind.table.c.project_id == project_id)
    return int(tx.execute(statement).scalar_one())


def _attr(kind: Kind, name: str) -> Attr | None:
    name = "project_id" if name == "tenant_id" else name
    found = next((a for a in kind.attrs if a.name == name), None)
    if found is None or (found.column or found.name) not in kind.table.c:
        return None
    return found


def _column(kind: Kind, name: str) -> str:
    attr = _attr(kind, name)
    assert attr is not None
    return attr.column or attr.name


def _clause(kind: Kind, key: str, values: tuple[str, ...]) -> sa.ColumnElement[bool] | None:
    if key in _TAGS:
        return _tags(kind, key, values)
    attr = _attr(kind, key)
    if attr is None:
        return None
    column = kind.table.c[attr.column or attr.name]
    if isinstance(column.type, sa.Boolean):
        return column.in_([flag(v) for v in values])
    if isinstance(column.type, sa.Integer):
        return column.in_([int(v) for v in values if v.lstrip("-").isdigit()])
    if isinstance(column.type, sa.JSON):
        return None
    empty = [v for v in values if v in ("", "None")]
    clause = column.in_(values)
    return sa.or_(clause, column.is_(None)) if empty else clause


def _tags(kind: Kind, key: str, values: tuple[str, ...]) -> sa.ColumnElement[bool]:
    text = sa.cast(kind.table.c.tags, sa.Text)
    words = [w for value in values for w in value.split(",") if w]
    has = [text.contains(msgspec.json.encode(word).decode(), autoescape=True) for word in words]
    clause = sa.or_(*has) if key.endswith("any") else sa.and_(*has)
    return sa.not_(clause) if _TAGS[key] else clause


def _beyond(
    order: Sequence[tuple[sa.ColumnElement[Any], str]], at: Row, flip: dict[str, str]
) -> sa.ColumnElement[bool]:
    clauses = []
    equal: list[sa.ColumnElement[bool]] = []
    for column, direction in order:
        value = at[column.key or ""]
        after = column > value if flip[direction] == "asc" else column < value
        clauses.append(sa.and_(*equal, after))
        equal.append(column == value)
    return sa.or_(*clauses)
