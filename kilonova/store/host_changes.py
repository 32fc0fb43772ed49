"""What has changed about hosts since it was last read (cell database)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from kilonova.db.database import Tx
from kilonova.db.tables.cell import compute_nodes, instances, services
from kilonova.store.hosts import is_busy
from kilonova.store.servers import decode

_CHUNK = 500


class Out(msgspec.Struct, frozen=True, gc=False):
    """A compute service that takes no servers; ``up``: it gives signs of life all the same."""

    host: str
    disabled: bool
    reason: str
    up: bool


class Occupant(msgspec.Struct, frozen=True, gc=False):
    """A server and its host (None: it has none any more). ``busy``: it keeps its host at work;
    ``building``: its row may still be taken back."""

    server_id: str
    host: str | None
    busy: bool
    building: bool
    image: dict[str, str] | None = None


class Since(msgspec.Struct, frozen=True):
    """From when on to look (None: all), the highest number of a node that is known, and between
    which times a service must have been heard of."""

    written: dt.datetime | None
    node_id: int
    heard: tuple[dt.datetime, dt.datetime]


class Changes(msgspec.Struct, frozen=True):
    """``out`` is complete. ``nodes``: uuid → when it was written, of nodes written since;
    ``node_id`` is the highest number among them."""

    out: tuple[Out, ...]
    occupants: tuple[Occupant, ...]
    nodes: dict[str, str]
    node_id: int


def changes(tx: Tx, since: Since, *, images: bool = False) -> Changes:
    """Everything that is new; three statements, none of which reads all servers unless ``since``
    says so. ``images``: image properties of the servers are wanted, too."""
    nodes = _nodes(tx, since)
    return Changes(
        out=_out(tx, since.heard),
        occupants=_occupants(tx, since.written, images=images),
        nodes={uuid: stamp for uuid, stamp, _ in nodes},
        node_id=max((number for _, _, number in nodes), default=0),
    )


def _out(tx: Tx, heard: tuple[dt.datetime, dt.datetime]) -> tuple[Out, ...]:
    s = services.c
    seen = sa.func.coalesce(s.last_seen_up, s.created_at)
    alive = sa.and_(s.forced_down == sa.false(), seen.between(*heard))
    rows = tx.execute(
        sa.select(s.host, s.disabled, s.disabled_reason, alive.label("up")).where(
            s.binary == "nova-compute", sa.or_(s.disabled == sa.true(), sa.not_(alive))
        )
    )
    return tuple(Out(host, bool(off), why or "", bool(up)) for host, off, why, up in rows)


def _occupants(tx: Tx, since: dt.datetime | None, *, images: bool) -> tuple[Occupant, ...]:
    c = instances.c
    query = _occupant_columns(images=images)
    if since is None:
        query = query.where(c.host.is_not(None), c.deleted == sa.false())
    else:
        query = query.where(c.updated_at >= since)
    return tuple([_occupant(row, images=images) for row in tx.execute(query)])


def _occupant_columns(*, images: bool) -> sa.Select[Any]:
    c = instances.c
    columns = [c.uuid, c.host, c.vm_state, c.task_state, c.deleted]
    return sa.select(*columns, c.server) if images else sa.select(*columns)


def _occupant(row: Any, *, images: bool) -> Occupant:
    image = decode(row.server).image if images else None
    return Occupant(
        row.uuid,
        None if row.deleted else row.host,
        is_busy(row.vm_state, row.task_state),
        row.vm_state == "building",
        image.properties if image is not None else None,
    )


def _nodes(tx: Tx, since: Since) -> list[tuple[str, str, int]]:
    c = compute_nodes.c
    query = sa.select(
        c.uuid, sa.type_coerce(sa.func.coalesce(c.updated_at, c.created_at), sa.String), c.id
    )
    if since.written is not None:
        # A new node was never updated.
        query = query.where(sa.or_(c.updated_at >= since.written, c.id > since.node_id))
    return [(uuid, stamp, number) for uuid, stamp, number in tx.execute(query)]


class Whole(msgspec.Struct, frozen=True):
    """What is there at all: nodes' uuids, the versions of compute services by host, and what
    became of certain servers."""

    nodes: frozenset[str]
    versions: dict[str, int]
    occupants: tuple[Occupant, ...]


def whole(tx: Tx, server_ids: Sequence[str], *, images: bool = False) -> Whole:
    """For finding rows that went without a trace; servers that are gone are not among them."""
    s = services.c
    versions = tx.execute(sa.select(s.host, s.version).where(s.binary == "nova-compute"))
    occupants: list[Occupant] = []
    for start in range(0, len(server_ids), _CHUNK):
        some = _occupant_columns(images=images).where(
            instances.c.uuid.in_(server_ids[start : start + _CHUNK])
        )
        occupants += [_occupant(row, images=images) for row in tx.execute(some)]
    return Whole(
        frozenset(tx.execute(sa.select(compute_nodes.c.uuid)).scalars()),
        dict(versions.tuples().all()),
        tuple(occupants),
    )
