"""Migrations: the records of servers' moves (cell database)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from kilonova.db.database import Tx
from kilonova.db.tables.cell import migrations
from kilonova.domain.resources import Migration

_COLUMNS = [migrations.c[name] for name in Migration.__struct_fields__]
LIVE = "live-migration"
EVACUATION = "evacuation"
ENDED = frozenset(
    {"accepted", "confirmed", "reverted", "error", "failed", "completed", "cancelled", "done"}
)
"""The statuses of migrations that are over."""


class MigrationFilter(msgspec.Struct, frozen=True):
    """Which migrations; everything given must hold. ``host``: of either end."""

    project_id: str | None = None
    user_id: str | None = None
    status: str | None = None
    type: str | None = None
    server_id: str | None = None
    host: str | None = None
    source_host: str | None = None
    changes_since: dt.datetime | None = None
    changes_before: dt.datetime | None = None


def add(tx: Tx, row: Migration) -> Migration:
    """Write a new record; the row with its number."""
    values = {name: getattr(row, name) for name in Migration.__struct_fields__ if name != "id"}
    key = tx.execute(migrations.insert().values(**values)).inserted_primary_key
    assert key is not None
    return msgspec.structs.replace(row, id=int(key[0]))


def update(tx: Tx, uuid: str, /, *, now: dt.datetime, **values: Any) -> Migration | None:
    """Change a record (``status``, ``dest_host``, ``data``, …); None when it is not there."""
    c = migrations.c
    tx.execute(migrations.update().where(c.uuid == uuid).values(updated_at=now, **values))
    return by_uuid(tx, uuid)


def unsettled(tx: Tx, server_id: str) -> list[Migration]:
    """A server's moves that have not been confirmed, reverted, or ended otherwise, oldest first."""
    c = migrations.c
    query = sa.select(*_COLUMNS).where(c.server_id == server_id, c.status.not_in(sorted(ENDED)))
    return [Migration(*row) for row in tx.execute(query.order_by(c.id))]


def evacuated(tx: Tx, host: str | None = None) -> list[Migration]:
    """Evacuations from a host (any when None) that has not cleaned up yet."""
    c = migrations.c
    query = sa.select(*_COLUMNS).where(c.type == EVACUATION, c.status == "done")
    if host is not None:
        query = query.where(c.source_host == host)
    return [Migration(*row) for row in tx.execute(query.order_by(c.id))]


def holders(tx: Tx) -> dict[str, str]:
    """Migration's uuid → server, of moves that are not over or whose source is not cleaned yet."""
    c = migrations.c
    waiting = sa.and_(c.type == EVACUATION, c.status == "done")
    query = sa.select(c.uuid, c.server_id).where(sa.or_(c.status.not_in(sorted(ENDED)), waiting))
    return {row.uuid: row.server_id for row in tx.execute(query)}


def leaving(tx: Tx, host: str) -> list[Migration]:
    """Live migrations from a host that are not over, oldest first."""
    c = migrations.c
    query = sa.select(*_COLUMNS).where(
        c.source_host == host, c.type == LIVE, c.status.not_in(sorted(ENDED))
    )
    return [Migration(*row) for row in tx.execute(query.order_by(c.id))]


def concerning(tx: Tx, host: str) -> bool:
    """Whether moves from or to that host are under way; those accepted count too."""
    c = migrations.c
    query = sa.select(c.id).where(
        sa.or_(c.source_host == host, c.dest_host == host),
        c.status.not_in(sorted(ENDED - {"accepted"})),
    )
    return tx.execute(query.limit(1)).first() is not None


def finished(tx: Tx, before: dt.datetime) -> list[Migration]:
    """Resizes and cold migrations that wait since before that time for somebody to confirm them."""
    c = migrations.c
    query = sa.select(*_COLUMNS).where(
        c.status == "finished",
        c.type != LIVE,
        sa.func.coalesce(c.updated_at, c.created_at) < before,
    )
    return [Migration(*row) for row in tx.execute(query.order_by(c.id))]


def get(tx: Tx, server_id: str, number: int) -> Migration | None:
    """A server's migration of that number."""
    c = migrations.c
    return _first(tx, c.server_id == server_id, c.id == number)


def by_uuid(tx: Tx, uuid: str) -> Migration | None:
    """The migration of that uuid."""
    return _first(tx, migrations.c.uuid == uuid)


def running(tx: Tx, server_id: str) -> list[Migration]:
    """A server's live migrations that are not over."""
    c = migrations.c
    query = sa.select(*_COLUMNS).where(
        c.server_id == server_id, c.type == LIVE, c.status.not_in(sorted(ENDED))
    )
    return [Migration(*row) for row in tx.execute(query.order_by(c.id))]


def page(
    tx: Tx, wanted: MigrationFilter, *, limit: int | None = None, after: Migration | None = None
) -> list[Migration]:
    """Those that match, newest first, after the one of the marker."""
    c = migrations.c
    query = sa.select(*_COLUMNS).where(*_conditions(wanted))
    if after is not None:
        query = query.where(
            sa.or_(
                c.created_at < after.created_at,
                sa.and_(c.created_at == after.created_at, c.uuid < after.uuid),
            )
        )
    query = query.order_by(c.created_at.desc(), c.uuid.desc())
    if limit is not None:
        query = query.limit(limit)
    return [Migration(*row) for row in tx.execute(query)]


def merge(parts: Sequence[Sequence[Migration]], limit: int | None) -> list[Migration]:
    """One page of the pages of several cells."""
    found = sorted(
        (row for part in parts for row in part),
        key=lambda row: (row.created_at, row.uuid),
        reverse=True,
    )
    return found[:limit]


def _first(tx: Tx, *where: sa.ColumnElement[bool]) -> Migration | None:
    row = tx.execute(sa.select(*_COLUMNS).where(*where)).first()
    return Migration(*row) if row else None


def _conditions(wanted: MigrationFilter) -> list[sa.ColumnElement[bool]]:
    c = migrations.c
    pairs: tuple[tuple[sa.ColumnElement[Any], Any], ...] = (
        (c.project_id, wanted.project_id),
        (c.user_id, wanted.user_id),
        (c.status, wanted.status),
        (c.type, wanted.type),
        (c.server_id, wanted.server_id),
        (c.source_host, wanted.source_host),
    )
    where: list[sa.ColumnElement[bool]] = [
        column == value for column, value in pairs if value is not None
    ]
    if wanted.host is not None:
        where.append(sa.or_(c.source_host == wanted.host, c.dest_host == wanted.host))
    changed = sa.func.coalesce(c.updated_at, c.created_at, type_=c.created_at.type)
    if wanted.changes_since is not None:
        where.append(changed >= wanted.changes_since)
    if wanted.changes_before is not None:
        where.append(changed <= wanted.changes_before)
    return where
