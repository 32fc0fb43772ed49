"""Lists of any resource: filters, tags, order, pages in both directions."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from kilonova.base.errors import BadRequest
from kilonova.db.database import Tx
from kilonova.db.prepared import Prepared
from kilonova.embedded.network.attrs import Attr, Kind, flag
from kilonova.embedded.network.store import rows, visible
from kilonova.embedded.network.store.rows import Row
from kilonova.embedded.network.tables import ADDRESSES, PORT_GROUPS, PORTS

_TAGS = {"tags": False, "tags-any": False, "not-tags": True, "not-tags-any": True}
_CONTROL = frozenset(
    {"fields", "limit", "marker", "page_reverse", "sort_key", "sort_dir", "dry-run"}
)
_MOST = 1_000_000
_PROJECT = "seen_by"

Clause = sa.ColumnElement[bool]


class Listing(msgspec.Struct, frozen=True):
    """What a list request asks for: filters by attribute, paging and order."""

    filters: tuple[tuple[str, tuple[str, ...]], ...] = ()
    sort: tuple[tuple[str, str], ...] = ()
    limit: int | None = None
    marker: str | None = None
    reverse: bool = False


def listing(kind: Kind, query: Mapping[str, Sequence[str]]) -> Listing:
    """Read a list request's query; BadRequest for a bad limit, order or sort key."""
    filters = tuple((key, tuple(values)) for key, values in query.items() if key not in _CONTROL)
    keys, directions = list(query.get("sort_key", ())), list(query.get("sort_dir", ()))
    if directions and len(keys) != len(directions):
        raise BadRequest("The number of sort_keys and sort_dirs must be same")
    for direction in directions:
        if direction not in ("asc", "desc"):
            raise BadRequest(f"'{direction}' is not a sort direction; use asc or desc.")
    for key in keys:
        attr = _attr(kind, key)
        if attr is None or isinstance(_column(kind, attr).type, sa.JSON):
            raise BadRequest(f"['{key}'] is invalid attribute for sort_keys")
    raw = next(iter(query.get("limit", ())), "")
    if raw and not (raw.isascii() and raw.isdigit() and len(raw) <= 18):
        raise BadRequest(f"Limit must be an integer 0 or greater and not '{raw[:32]}'")
    return Listing(
        filters,
        tuple(zip(keys, directions or ["asc"] * len(keys), strict=True)),
        min(int(raw), _MOST) if raw and int(raw) else None,
        next(iter(query.get("marker", ())), None),
        flag(next(iter(query.get("page_reverse", ())), "false")),
    )


def find(tx: Tx, kind: Kind, wanted: Listing, *, project: str | None) -> tuple[list[Row], bool]:
    """A page of rows in the order asked for, and whether more lie beyond it.

    ``project`` sees only what it may; None sees all. Backwards pages end before the marker.
    """
    exact = _exact(kind, wanted)
    if exact is not None:
        query = _by_columns(kind.name, kind.table, tuple(exact), seen=project is not None)
        mine = {} if project is None else {_PROJECT: project}
        return rows.completed(tx, kind, query.dicts(tx, {**exact, **mine})), False
    statement = sa.select(kind.table)
    if project is not None:
        statement = statement.where(visible.clause(kind, project))
    for key, values in wanted.filters:
        clause = _clause(tx, kind, key, values)
        if clause is not None:
            statement = statement.where(clause)
    order: list[tuple[sa.Column[Any], bool]] = []
    for key, direction in wanted.sort:
        attr = _attr(kind, key)
        assert attr is not None
        order.append((_column(kind, attr), (direction == "asc") != wanted.reverse))
    order.append((kind.table.c.id, not wanted.reverse))
    if wanted.marker is not None:
        at = rows.get(tx, kind, wanted.marker)
        if at is None or not (project is None or visible.sees(tx, kind, at["id"], project)):
            raise BadRequest(f"The marker {wanted.marker} could not be found.")
        statement = statement.where(_beyond(order, at))
    for column, up in order:
        # Where NULL sorts differs between engines; here it is always below everything.
        for part in (column.is_not(None), column) if column.nullable else (column,):
            statement = statement.order_by(part.asc() if up else part.desc())
    if wanted.limit:
        statement = statement.limit(wanted.limit + 1)
    found = rows.fetch(tx, kind, statement)
    more = wanted.limit is not None and len(found) > wanted.limit
    found = found[: wanted.limit] if wanted.limit else found
    if wanted.reverse:
        found.reverse()
    return found, more


def _exact(kind: Kind, wanted: Listing) -> dict[str, list[Any]] | None:
    """Column → values, when that is all that is asked for; None when there is more to it."""
    if wanted.sort or wanted.limit or wanted.reverse or wanted.marker is not None:
        return None
    found: dict[str, list[Any]] = {}
    for key, values in wanted.filters:
        attr = _attr(kind, key)
        special = key in _TAGS or (kind.table is PORTS and key in ("fixed_ips", "security_groups"))
        if attr is None or special or {"", "None"} & set(values):
            return None
        column = _column(kind, attr)
        if column.name in found or isinstance(column.type, sa.JSON):
            return None
        found[column.name] = _typed(column, values)
    return found


@functools.lru_cache(maxsize=256)
def _by_columns(name: str, table: sa.Table, columns: tuple[str, ...], *, seen: bool) -> Prepared:
    statement = sa.select(table).order_by(table.c.id)
    for column in columns:
        statement = statement.where(table.c[column].in_(sa.bindparam(column, expanding=True)))
    if seen:
        statement = statement.where(visible.in_table(name, table, sa.bindparam(_PROJECT)))
    return Prepared(statement)


def _attr(kind: Kind, name: str) -> Attr | None:
    name = "project_id" if name == "tenant_id" else name
    found = next((a for a in kind.attrs if a.name == name), None)
    return found if found is not None and (found.column or found.name) in kind.table.c else None


def _column(kind: Kind, attr: Attr) -> sa.Column[Any]:
    return kind.table.c[attr.column or attr.name]


def _clause(tx: Tx, kind: Kind, key: str, values: tuple[str, ...]) -> Clause | None:
    """The clause of one filter; None for what there is no filter for, which is ignored."""
    clause: Clause | None = None
    attr = _attr(kind, key)
    if key in _TAGS:
        clause = _tags(tx, kind, key, values) if "tags" in kind.table.c else None
    elif kind.table is PORTS and key == "fixed_ips":
        clause = _fixed_ips(values)
    elif kind.table is PORTS and key == "security_groups":
        inside = sa.select(PORT_GROUPS.c.port_id).where(PORT_GROUPS.c.security_group_id.in_(values))
        clause = PORTS.c.id.in_(inside)
    elif attr is not None:
        clause = _equals(_column(kind, attr), values)
    return clause


def _equals(column: sa.Column[Any], values: tuple[str, ...]) -> Clause | None:
    if isinstance(column.type, sa.JSON):
        return None
    clause = column.in_(_typed(column, values))
    if isinstance(column.type, (sa.Boolean, sa.Integer)):
        return clause
    return sa.or_(clause, column.is_(None)) if {"", "None"} & set(values) else clause


def _typed(column: sa.Column[Any], values: tuple[str, ...]) -> list[Any]:
    if isinstance(column.type, sa.Boolean):
        return [flag(v) for v in values]
    if isinstance(column.type, sa.Integer):
        return [int(v) for v in values if _small(v)]
    return list(values)


def _small(text: str) -> bool:
    digits = text.removeprefix("-")
    return digits.isascii() and digits.isdigit() and len(digits) <= 9


def _fixed_ips(values: tuple[str, ...]) -> Clause:
    """``ip_address=``, ``ip_address_substr=`` and ``subnet_id=`` of one and the same address."""
    wanted: dict[str, list[str]] = {}
    for value in values:
        field, _, text = value.partition("=")
        wanted.setdefault(field, []).append(text)
    inside = sa.select(ADDRESSES.c.port_id)
    for field, texts in wanted.items():
        if field in ("ip_address", "subnet_id"):
            inside = inside.where(ADDRESSES.c[field].in_(texts))
        elif field == "ip_address_substr":
            inside = inside.where(
                sa.or_(*(ADDRESSES.c.ip_address.contains(t, autoescape=True) for t in texts))
            )
        else:
            raise BadRequest(f"Ports cannot be found by '{field[:64]}' of their fixed_ips.")
    return PORTS.c.id.in_(inside)


def _tags(tx: Tx, kind: Kind, key: str, values: tuple[str, ...]) -> Clause:
    # LIKE and MariaDB's collations would not tell capitals from small letters.
    binary = tx.dialect.name in ("mysql", "mariadb")
    text = sa.cast(kind.table.c.tags, sa.LargeBinary if binary else sa.Text)
    place = sa.func.strpos if tx.dialect.name == "postgresql" else sa.func.instr
    words = [word for value in values for word in value.split(",") if word]
    has = [place(text, json.dumps(word)) > 0 for word in words]
    if not has:
        return sa.true()
    clause = sa.or_(*has) if key.endswith("any") else sa.and_(*has)
    return sa.not_(clause) if _TAGS[key] else clause


def _beyond(order: Sequence[tuple[sa.Column[Any], bool]], at: Row) -> Clause:
    clauses = []
    equal: list[Clause] = []
    for column, up in order:
        value = at[column.name]
        after: Clause
        if value is None:
            after = column.is_not(None) if up else sa.false()
        else:
            after = column > value if up else sa.or_(column < value, column.is_(None))
        clauses.append(sa.and_(*equal, after))
        equal.append(column == value if value is not None else column.is_(None))
    return sa.or_(*clauses)
