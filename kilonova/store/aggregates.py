"""Host aggregates and the availability zones they make (API database)."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from kilonova.base.errors import Conflict, NotFound
from kilonova.db.database import Tx
from kilonova.db.prepared import Prepared
from kilonova.db.tables.api import aggregate_hosts, aggregates
from kilonova.domain.resources import Aggregate
from kilonova.store import sql
from kilonova.store.noting import note, notes

_A = aggregates.c
_ROWS = sa.select(_A.id, _A.uuid, _A.name, _A.metadata, _A.created_at, _A.updated_at).order_by(
    _A.id
)
_MEMBERS = sa.select(aggregate_hosts.c.aggregate_id, aggregate_hosts.c.host).order_by(
    aggregate_hosts.c.host
)
_ALL = Prepared(_ROWS), Prepared(_MEMBERS)
_ONE = (
    Prepared(_ROWS.where(_A.id == sa.bindparam("key"))),
    Prepared(_MEMBERS.where(aggregate_hosts.c.aggregate_id == sa.bindparam("key"))),
)
_STAMPS = Prepared(
    sa.select(_A.id, sa.type_coerce(sa.func.coalesce(_A.updated_at, _A.created_at), sa.String))
)


def page(tx: Tx) -> list[Aggregate]:
    """All aggregates by id."""
    return _load(tx, None)


def get(tx: Tx, aggregate_id: int) -> Aggregate:
    """One; NotFound."""
    found = _load(tx, aggregate_id)
    if not found:
        raise NotFound(f"Aggregate {aggregate_id} could not be found.")
    return found[0]


def _load(tx: Tx, aggregate_id: int | None) -> list[Aggregate]:
    rows, members = _ALL if aggregate_id is None else _ONE
    which = {} if aggregate_id is None else {"key": aggregate_id}
    hosts: dict[int, list[str]] = defaultdict(list)
    for owner, host in members.all(tx, which):
        hosts[owner].append(host)
    return [
        Aggregate(number, uuid, name, metadata, tuple(hosts[number]), created, updated)
        for number, uuid, name, metadata, created, updated in rows.all(tx, which)
    ]


def signature(tx: Tx) -> tuple[tuple[int, str], ...]:
    """Differs when anything about any aggregate does: every change writes its row's time."""
    return tuple((number, text) for number, text in _STAMPS.all(tx))


def zones(tx: Tx) -> dict[str, str]:
    """Host → availability zone, of the hosts that are in one."""
    return {host: item.zone for item in page(tx) if item.zone for host in item.hosts}


def create(
    tx: Tx, *, uuid: str, name: str, metadata: Mapping[str, str], now: dt.datetime
) -> Aggregate:
    """A new aggregate; Conflict when the name is taken."""
    _free_name(tx, name)
    note(tx, "aggregate.create.start", Aggregate(0, uuid, name, dict(metadata), (), now, None))
    result = tx.execute(
        aggregates.insert().values(uuid=uuid, name=name, metadata=dict(metadata), created_at=now)
    )
    made = get(tx, sql.inserted_id(result))
    note(tx, "aggregate.create.end", made)
    return made


def _free_name(tx: Tx, name: str, but: int | None = None) -> None:
    taken = tx.execute(sa.select(_A.id).where(_A.name == name)).scalar()
    if taken is not None and taken != but:
        raise Conflict(f"Aggregate {name} already exists.")


def update(
    tx: Tx, /, aggregate_id: int, *, now: dt.datetime, event: str = "", **values: Any
) -> Aggregate:
    """Change name or metadata; ``event`` is what it is told as: update_prop, update_metadata."""
    if event and notes(tx) is not None:
        note(tx, f"aggregate.{event}.start", get(tx, aggregate_id))
    if "name" in values:
        _free_name(tx, values["name"], aggregate_id)
    changed = tx.execute(
        aggregates.update().where(_A.id == aggregate_id).values(updated_at=now, **values)
    )
    if not changed.rowcount:
        raise NotFound(f"Aggregate {aggregate_id} could not be found.")
    found = get(tx, aggregate_id)
    if event:
        note(tx, f"aggregate.{event}.end", found)
    return found


def delete(tx: Tx, aggregate_id: int) -> None:
    """Remove an empty aggregate; Conflict while it has hosts."""
    gone = get(tx, aggregate_id)
    if gone.hosts:
        raise Conflict(
            f"Cannot remove host aggregate {aggregate_id}: it has hosts. Remove them first."
        )
    note(tx, "aggregate.delete.start", gone)
    tx.execute(aggregates.delete().where(_A.id == aggregate_id))
    note(tx, "aggregate.delete.end", gone)


def add_host(tx: Tx, aggregate_id: int, host: str, *, now: dt.datetime) -> Aggregate:
    """Put a host in; Conflict when it is in already, or in another availability zone."""
    wanted = get(tx, aggregate_id)
    if host in wanted.hosts:
        raise Conflict(f"Aggregate {aggregate_id} already has host {host}.")
    if wanted.zone:
        require_zone(tx, host, wanted.zone, but=aggregate_id)
    note(tx, "aggregate.add_host.start", wanted, host=host)
    tx.execute(aggregate_hosts.insert().values(aggregate_id=aggregate_id, host=host))
    found = update(tx, aggregate_id, now=now)
    note(tx, "aggregate.add_host.end", found, host=host)
    return found


def require_zone(tx: Tx, host: str, zone: str, *, but: int) -> None:
    """Conflict when another aggregate than ``but`` puts the host into another zone."""
    for other in page(tx):
        if other.id != but and host in other.hosts and other.zone and other.zone != zone:
            raise Conflict(
                f"Host {host} is already in the availability zone {other.zone}; a host can be in "
                "one only."
            )


def remove_host(tx: Tx, aggregate_id: int, host: str, *, now: dt.datetime) -> Aggregate:
    """Take a host out; NotFound when it is not in."""
    before = get(tx, aggregate_id)
    where = (aggregate_hosts.c.aggregate_id == aggregate_id, aggregate_hosts.c.host == host)
    if not tx.execute(aggregate_hosts.delete().where(*where)).rowcount:
        raise NotFound(f"Aggregate {aggregate_id} has no host {host}.")
    note(tx, "aggregate.remove_host.start", before, host=host)
    found = update(tx, aggregate_id, now=now)
    note(tx, "aggregate.remove_host.end", found, host=host)
    return found
