"""Pages of servers: filters, order and marker, in one statement per cell."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from kilonova.db.database import Tx
from kilonova.db.tables.api import build_requests, instance_mappings
from kilonova.db.tables.cell import fixed_ips, instances, tags
from kilonova.domain.server import BuildRequest, Server
from kilonova.store import sql
from kilonova.store.servers import Extras, complete, select_servers

_CHUNK = 500


class Order(msgspec.Struct, frozen=True):
    """One key to sort by: a column of ``instances``."""

    key: str
    descending: bool = True


class ServerFilter(msgspec.Struct, frozen=True):
    """Which servers; everything given must hold.

    ``equal``: column → any of these values (None for NULL). ``patterns``: column → regular
    expression found anywhere. ``states``: any of (vm_state, tasks that it must have or None,
    tasks it must not have). ``tags``: (all, any, not all, not any). ``addresses``: (version,
    regular expression). ``deleted`` None: both.
    """

    project_id: str | None = None
    equal: Mapping[str, tuple[Any, ...]] = {}
    patterns: Mapping[str, str] = {}
    states: tuple[tuple[str, tuple[str, ...] | None, tuple[str, ...]], ...] | None = None
    metadata: tuple[tuple[str, str], ...] = ()
    image_id: str | None = None
    flavor_id: str | None = None
    tags_all: tuple[str, ...] = ()
    tags_any: tuple[str, ...] = ()
    tags_not_all: tuple[str, ...] = ()
    tags_not_any: tuple[str, ...] = ()
    addresses: tuple[tuple[int, str], ...] = ()
    locked: bool | None = None
    changes_since: dt.datetime | None = None
    changes_before: dt.datetime | None = None
    deleted: bool | None = False
    ids: tuple[str, ...] | None = None

    @property
    def only_cells(self) -> bool:
        """Whether no server that is still being placed can match."""
        return self.deleted is True or bool(self.addresses)


DEFAULT_ORDER = (Order("created_at"), Order("uuid"))


def page(
    tx: Tx,
    wanted: ServerFilter,
    order: Sequence[Order] = DEFAULT_ORDER,
    *,
    limit: int,
    marker: Server | None = None,
    extras: Extras = Extras(),  # noqa: B008  (frozen)
) -> list[Server]:
    """At most ``limit`` servers of this cell, in order, after the marker."""
    return complete(rows(tx, wanted, order, limit=limit, marker=marker, extras=extras), extras)


def rows(
    tx: Tx,
    wanted: ServerFilter,
    order: Sequence[Order] = DEFAULT_ORDER,
    *,
    limit: int,
    marker: Server | None = None,
    extras: Extras = Extras(),  # noqa: B008  (frozen)
) -> Sequence[Any]:
    """The same as rows that `kilonova.store.servers.complete` takes.

    The values of the keys of the order stand last in each.
    """
    where = _conditions(wanted)
    keys = [_key(item.key) for item in order]
    if marker is not None:
        where.append(_after(keys, order, marker))
    if _by_index(wanted, order):
        query = select_servers(extras).add_columns(*keys).where(*where)
        return tx.execute(query.order_by(*_directions(keys, order)).limit(limit)).all()
    # Without an index for the order, all that match are sorted: their keys, not whole servers.
    named = [key.label(f"key_{number}") for number, key in enumerate(keys)]
    first = sa.select(instances.c.id.label("number"), *named).where(*where)
    chosen = first.order_by(*_directions(keys, order)).limit(limit).subquery("chosen")
    found = [chosen.c[f"key_{number}"] for number in range(len(keys))]
    query = select_servers(extras).add_columns(*found)
    query = query.join(chosen, chosen.c.number == instances.c.id)
    return tx.execute(query.order_by(*_directions(found, order))).all()


def _by_index(wanted: ServerFilter, order: Sequence[Order]) -> bool:
    """Whether an index gives the order, so that nothing needs sorting."""
    if wanted.changes_since is not None or wanted.changes_before is not None:
        return False
    if len({item.descending for item in order}) != 1:
        return False
    keys = [item.key for item in order]
    by_name = wanted.project_id is None and wanted.deleted is not None
    return keys == ["created_at", "uuid"] or (by_name and keys == ["name", "created_at", "uuid"])


def _directions(
    keys: Sequence[sa.ColumnElement[Any]], order: Sequence[Order]
) -> list[sa.ColumnElement[Any]]:
    return [
        key.desc() if item.descending else key.asc() for key, item in zip(keys, order, strict=True)
    ]


def building(tx: Tx, wanted: ServerFilter) -> list[BuildRequest]:
    """The servers that are not in a cell and match (API database)."""
    if wanted.only_cells:
        return []
    b, m = build_requests.c, instance_mappings.c
    query = (
        sa.select(b.request)
        .join(instance_mappings, m.server_id == b.server_id)
        .where(m.cell_id.is_(None), m.queued_for_delete == sa.false())
    )
    if wanted.project_id is not None:
        query = query.where(b.project_id == wanted.project_id)
    return [row[0] for row in tx.execute(query) if matches(row[0].server, wanted)]


def merge(
    parts: Iterable[Sequence[Server]], order: Sequence[Order], limit: int, marker: Server | None
) -> list[Server]:
    """One page out of the pages of several cells and of the servers being placed.

    A server found twice (it moved while we looked) is taken from the first part that has it.
    """
    unique: dict[str, Server] = {}
    for part in parts:
        for server in part:
            unique.setdefault(server.id, server)
    found = list(unique.values())
    if marker is not None:
        found = [server for server in found if _is_after(server, marker, order)]
    for item in reversed(order):
        found.sort(key=lambda s, k=item.key: value_of(s, k), reverse=item.descending)  # type: ignore[misc]
    return found[:limit]


def merge_rows(
    parts: Iterable[Sequence[Any]],
    requests: Iterable[Server],
    order: Sequence[Order],
    limit: int,
    marker: Server | None,
) -> list[Any]:
    """One page out of the `rows` of several cells and of servers being placed, not yet decoded.

    A server found twice (it moved while we looked) is taken from the first part that has it.
    """
    places = [place - len(order) for place in range(len(order))]
    name = next(place for place, item in zip(places, order, strict=True) if item.key == "uuid")
    unique: dict[str, tuple[Any, Any]] = {}
    for part in parts:
        for row in part:
            unique.setdefault(row[name], (row, row))
    for server in requests:
        if marker is None or _is_after(server, marker, order):
            values = tuple(value_of(server, item.key) for item in order)
            unique.setdefault(server.id, (values, server))
    found = list(unique.values())
    for place, item in zip(reversed(places), reversed(order), strict=True):
        found.sort(key=lambda pair, at=place: pair[0][at], reverse=item.descending)  # type: ignore[misc]
    return [item for _, item in found[:limit]]


def value_of(server: Server, key: str) -> Any:
    """What a server is sorted by under ``key``, as the database compares it."""
    if key == "uuid":
        return server.id
    if key == "id":
        return server.number
    if key == "image_id":
        return server.image.id if server.image else ""
    if key == "flavor_id":
        return server.flavor.flavorid
    value = getattr(server, key)
    if isinstance(value, dt.datetime):
        return sql.instant(value)
    return "" if value is None else value


def _is_after(server: Server, marker: Server, order: Sequence[Order]) -> bool:
    for item in order:
        mine, theirs = value_of(server, item.key), value_of(marker, item.key)
        if mine != theirs:
            return bool(mine < theirs) if item.descending else bool(mine > theirs)
    return False


_INSTANTS = frozenset({"created_at", "updated_at", "launched_at", "terminated_at"})
_NEVER_NULL = frozenset(c.name for c in instances.c if not c.nullable)


def _key(name: str) -> sa.ColumnElement[Any]:
    column: sa.ColumnElement[Any] = instances.c[name]
    if name in _NEVER_NULL:
        return sa.type_coerce(column, sa.String) if name in _INSTANTS else column
    return sql.as_text(column)


def _after(
    keys: Sequence[sa.ColumnElement[Any]], order: Sequence[Order], marker: Server
) -> sa.ColumnElement[bool]:
    values = [value_of(marker, item.key) for item in order]
    ways = []
    for index, (key, item) in enumerate(zip(keys, order, strict=True)):
        same = [k == v for k, v in zip(keys[:index], values[:index], strict=True)]
        beyond = key < values[index] if item.descending else key > values[index]
        ways.append(sa.and_(*same, beyond))
    # The bound of the first key says nothing new, but an index can begin there.
    begin = keys[0] <= values[0] if order[0].descending else keys[0] >= values[0]
    return sa.and_(begin, sa.or_(*ways))


def _conditions(wanted: ServerFilter) -> list[sa.ColumnElement[bool]]:
    c = instances.c
    where: list[sa.ColumnElement[bool]] = []
    if wanted.deleted is not None:
        where.append(c.deleted == (sa.true() if wanted.deleted else sa.false()))
    if wanted.project_id is not None:
        where.append(c.project_id == wanted.project_id)
    if wanted.ids is not None:
        where.append(c.uuid.in_(wanted.ids))
    for name, values in wanted.equal.items():
        where.append(_any_of(c[name], values))
    for name, pattern in wanted.patterns.items():
        where.append(_like(c[name], pattern))
    if wanted.states is not None:
        where.append(sa.or_(*(_state(*row) for row in wanted.states)))
    if wanted.image_id is not None:
        where.append(c.image_id == wanted.image_id)
    if wanted.flavor_id is not None:
        where.append(c.flavor_id == wanted.flavor_id)
    for key, value in wanted.metadata:
        pair = msgspec.json.encode({key: value}).decode()[1:-1]
        where.append(sa.type_coerce(c.metadata, sa.Text).like(f"%{_escape(pair)}%", escape="\\"))
    where.extend(_tag_conditions(wanted))
    for version, pattern in wanted.addresses:
        sign = fixed_ips.c.address.like("%:%")
        where.append(
            c.uuid.in_(
                sa.select(fixed_ips.c.server_id).where(
                    sign if version == 6 else ~sign, _like(fixed_ips.c.address, pattern)
                )
            )
        )
    if wanted.locked is not None:
        where.append(c.locked_by.is_not(None) if wanted.locked else c.locked_by.is_(None))
    return [*where, *_changed(wanted)]


def _changed(wanted: ServerFilter) -> list[sa.ColumnElement[bool]]:
    where = []
    if wanted.changes_since is not None:
        where.append(instances.c.updated_at >= wanted.changes_since)
    if wanted.changes_before is not None:
        where.append(instances.c.updated_at <= wanted.changes_before)
    return where


def _any_of(column: sa.ColumnElement[Any], values: Sequence[Any]) -> sa.ColumnElement[bool]:
    plain = [value for value in values if value is not None]
    ways: list[sa.ColumnElement[bool]] = []
    if plain:
        ways.append(column == plain[0] if len(plain) == 1 else column.in_(plain))
    if len(plain) != len(values):
        ways.append(column.is_(None))
    return sa.or_(*ways) if ways else sa.false()


def _state(
    vm_state: str, tasks: tuple[str, ...] | None, without: tuple[str, ...]
) -> sa.ColumnElement[bool]:
    c = instances.c
    match = c.vm_state == vm_state
    if tasks is not None:
        return sa.and_(match, c.task_state.in_(tasks))
    if without:
        return sa.and_(match, sa.or_(c.task_state.is_(None), c.task_state.not_in(without)))
    return match


_PLAIN = re.compile(r"(\^?)((?:[\w\s:@,/.-]|\\[.-])*)(\$?)")
_WORD = re.compile(r"\\(.)|(.)", re.DOTALL)


def _like(column: sa.ColumnElement[Any], pattern: str) -> sa.ColumnElement[bool]:
    """Patterns of characters and dots alone as LIKE or equality: no engine searches faster."""
    plain = _PLAIN.fullmatch(pattern)
    if plain is None:
        return column.regexp_match(pattern)
    start, text, end = plain.groups()
    if start and end and not re.search(r"(?<!\\)\.", text):
        return column == text.replace("\\", "")
    wanted = _WORD.sub(lambda m: "_" if m[2] == "." else _escape(m[1] or m[2]), text)
    return column.like(f"{'' if start else '%'}{wanted}{'' if end else '%'}", escape="\\")


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _tag_conditions(wanted: ServerFilter) -> list[sa.ColumnElement[bool]]:
    def having(tag: str) -> sa.ColumnElement[bool]:
        return instances.c.uuid.in_(sa.select(tags.c.server_id).where(tags.c.tag == tag))

    where = [having(tag) for tag in wanted.tags_all]
    if wanted.tags_any:
        where.append(sa.or_(*(having(tag) for tag in wanted.tags_any)))
    if wanted.tags_not_all:
        where.append(~sa.and_(*(having(tag) for tag in wanted.tags_not_all)))
    if wanted.tags_not_any:
        where.append(~sa.or_(*(having(tag) for tag in wanted.tags_not_any)))
    return where


def matches(server: Server, wanted: ServerFilter) -> bool:  # noqa: PLR0911, PLR0912
    """Whether a server that is not in a cell fits the filter."""
    if wanted.project_id is not None and server.project_id != wanted.project_id:
        return False
    if wanted.ids is not None and server.id not in wanted.ids:
        return False
    for name, values in wanted.equal.items():
        if value_or_none(server, name) not in values:
            return False
    for name, pattern in wanted.patterns.items():
        if not re.search(pattern, str(getattr(server, name) or "")):
            return False
    if wanted.states is not None and not any(
        server.vm_state == vm_state
        and (server.task_state in tasks if tasks is not None else server.task_state not in without)
        for vm_state, tasks, without in wanted.states
    ):
        return False
    if wanted.image_id is not None and (not server.image or server.image.id != wanted.image_id):
        return False
    if wanted.flavor_id is not None and server.flavor.flavorid != wanted.flavor_id:
        return False
    if any(server.metadata.get(key) != value for key, value in wanted.metadata):
        return False
    if wanted.locked is not None and bool(server.locked_by) != wanted.locked:
        return False
    changed = server.updated_at or server.created_at
    if wanted.changes_since is not None and changed < wanted.changes_since:
        return False
    if wanted.changes_before is not None and changed > wanted.changes_before:
        return False
    return _tags_match(set(server.tags), wanted)


def value_or_none(server: Server, column: str) -> Any:
    """A server's value of a column of ``instances``."""
    names = {"uuid": "id", "id": "number"}
    return getattr(server, names.get(column, column))


def _tags_match(own: set[str], wanted: ServerFilter) -> bool:
    if not set(wanted.tags_all) <= own:
        return False
    if wanted.tags_any and not own & set(wanted.tags_any):
        return False
    if wanted.tags_not_all and set(wanted.tags_not_all) <= own:
        return False
    return not own & set(wanted.tags_not_any)


def chunks(items: Sequence[str]) -> Iterable[Sequence[str]]:
    """Parts small enough for one IN list."""
    for start in range(0, len(items), _CHUNK):
        yield items[start : start + _CHUNK]
