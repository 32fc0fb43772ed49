"""Daemons and their signs of life (cell database)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from kilonova.db.database import Tx
from kilonova.db.prepared import Prepared
from kilonova.db.tables.cell import services
from kilonova.domain.resources import Service
from kilonova.store.noting import note, notes

TOLD = frozenset({"disabled", "disabled_reason", "forced_down"})
"""What of a service is told when it changes."""

_COLUMNS = [services.c[name] for name in Service.__struct_fields__]
_NAMED = (services.c.host == sa.bindparam("on"), services.c.binary == sa.bindparam("daemon"))
_FIND = Prepared(sa.select(*_COLUMNS).where(*_NAMED))
_COMPUTES = Prepared(
    sa.select(*_COLUMNS).where(
        services.c.host.in_(sa.bindparam("hosts", expanding=True)),
        services.c.binary == "nova-compute",
    )
)
_HEARTBEAT = Prepared(
    services.update()
    .where(*_NAMED)
    .values(
        report_count=services.c.report_count + 1,
        **{name: sa.bindparam(name) for name in ("last_seen_up", "version", "updated_at")},
    )
)


def page(tx: Tx, *, host: str | None = None, binary: str | None = None) -> list[Service]:
    """The cell's services, by id."""
    query = sa.select(*_COLUMNS)
    if host is not None:
        query = query.where(services.c.host == host)
    if binary is not None:
        query = query.where(services.c.binary == binary)
    return [Service(*row) for row in tx.execute(query.order_by(services.c.id))]


def get(tx: Tx, *, uuid: str | None = None, number: int | None = None) -> Service | None:
    """One service by uuid or by its number in this cell."""
    where = services.c.uuid == uuid if uuid is not None else services.c.id == number
    row = tx.execute(sa.select(*_COLUMNS).where(where)).first()
    return Service(*row) if row else None


def find(tx: Tx, host: str, binary: str) -> Service | None:
    """The daemon of that name on a host."""
    row = _FIND.first(tx, {"on": host, "daemon": binary})
    return Service(*row) if row else None


def computes(tx: Tx, hosts: Iterable[str]) -> dict[str, Service]:
    """Host → its nova-compute."""
    found = [Service(*row) for row in _COMPUTES.all(tx, {"hosts": sorted(set(hosts))})]
    return {service.host: service for service in found}


def heartbeat(
    tx: Tx, host: str, binary: str, *, uuid: str, now: dt.datetime, version: int = 0
) -> Service:
    """A sign of life; the first one makes the row (with ``uuid``)."""
    stamp = {"last_seen_up": now, "version": version, "updated_at": now}
    new = not _HEARTBEAT.run(tx, {"on": host, "daemon": binary, **stamp})
    if new:
        tx.execute(
            services.insert().values(
                uuid=uuid,
                host=host,
                binary=binary,
                topic="compute" if binary == "nova-compute" else binary.removeprefix("nova-"),
                last_seen_up=now,
                report_count=1,
                version=version,
                created_at=now,
            )
        )
    found = find(tx, host, binary)
    assert found is not None
    if new:
        note(tx, "service.create", found)
    return found


def update(tx: Tx, /, service_id: int, *, now: dt.datetime, **values: Any) -> Service | None:
    """Change a service; as it is then."""
    tx.execute(
        services.update().where(services.c.id == service_id).values(updated_at=now, **values)
    )
    changed = get(tx, number=service_id)
    if changed is not None and TOLD & values.keys():
        note(tx, "service.update", changed)
    return changed


def stop(tx: Tx, host: str, binary: str, *, before: dt.datetime) -> None:
    """The daemon said good-bye: let it count as last seen at ``before``."""
    where = (services.c.host == host, services.c.binary == binary)
    tx.execute(services.update().where(*where).values(last_seen_up=before))


def delete(tx: Tx, service_id: int) -> None:
    """Remove a service."""
    gone = get(tx, number=service_id) if notes(tx) is not None else None
    if gone is not None:
        note(tx, "service.delete", gone)
    tx.execute(services.delete().where(services.c.id == service_id))
