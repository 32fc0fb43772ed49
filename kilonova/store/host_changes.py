"""What has changed about hosts since it was last read (cell database)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from kilonova.db.database import Tx
from kilonova.db.prepared import Prepared
from kilonova.db.tables.cell import compute_nodes, instances, services
from kilonova.db.types import Instant
from kilonova.store.hosts import is_busy
from kilonova.store.servers import decode

_CHUNK = 500

_S, _I, _N = services.c, instances.c, compute_nodes.c
_HEARD = sa.func.coalesce(_S.last_seen_up, _S.created_at)
_FIRST = sa.bindparam("first", type_=Instant)
_LAST = sa.bindparam("last", type_=Instant)
_ALIVE = sa.and_(_S.forced_down == sa.false(), _HEARD.between(_FIRST, _LAST))


def _out_where(*where: sa.ColumnElement[bool]) -> sa.Select[Any]:
    return sa.select(_S.host, _S.disabled, _S.disabled_reason, _ALIVE.label("up")).where(
        _S.binary == "nova-compute", *where
    )


_ENABLED = _S.disabled == sa.false()
_IN_USE = (_ENABLED, _S.forced_down == sa.false())
# Each part is a range of ix_services_out, so that services which are well cost nothing.
_OUT = Prepared(
    sa.union_all(
        _out_where(_S.disabled == sa.true()),
        _out_where(_ENABLED, _S.forced_down == sa.true()),
        _out_where(*_IN_USE, _S.last_seen_up < _FIRST),
        _out_where(*_IN_USE, _S.last_seen_up > _LAST),
        _out_where(*_IN_USE, _S.last_seen_up.is_(None), sa.not_(_ALIVE)),
    )
)


_VERSIONS = Prepared(sa.select(_S.host, _S.version).where(_S.binary == "nova-compute"))
_UUIDS = Prepared(sa.select(_N.uuid))


def _occupants_by(*where: sa.ColumnElement[bool]) -> tuple[Prepared, Prepared]:
    """The statement without the servers' images, and with them."""
    brief = sa.select(_I.uuid, _I.host, _I.vm_state, _I.task_state, _I.deleted).where(*where)
    return Prepared(brief), Prepared(brief.add_columns(_I.server))


_OCCUPANTS = _occupants_by(_I.host.is_not(None), _I.deleted == sa.false())
_OCCUPANTS_SINCE = _occupants_by(_I.updated_at >= sa.bindparam("since"))
_OCCUPANTS_NAMED = _occupants_by(_I.uuid.in_(sa.bindparam("servers", expanding=True)))

_STAMPED = sa.select(
    _N.uuid, sa.type_coerce(sa.func.coalesce(_N.updated_at, _N.created_at), sa.String), _N.id
)
_NODES = Prepared(_STAMPED)
# A new node was never updated.
_NODES_SINCE = Prepared(
    _STAMPED.where(sa.or_(_N.updated_at >= sa.bindparam("since"), _N.id > sa.bindparam("highest")))
)


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
    rows = _OUT.all(tx, {"first": heard[0], "last": heard[1]})
    return tuple(Out(host, bool(off), why or "", bool(up)) for host, off, why, up in rows)


def _occupants(tx: Tx, since: dt.datetime | None, *, images: bool) -> tuple[Occupant, ...]:
    if since is None:
        rows = _OCCUPANTS[images].all(tx)
    else:
        rows = _OCCUPANTS_SINCE[images].all(tx, {"since": since})
    return tuple([_occupant(*row) for row in rows])


def _occupant(
    uuid: str,
    host: str | None,
    vm_state: str,
    task_state: str | None,
    deleted: object,
    server: bytes | None = None,
) -> Occupant:
    image = decode(server).image if server is not None else None
    return Occupant(
        uuid,
        None if deleted else host,
        is_busy(vm_state, task_state),
        vm_state == "building",
        image.properties if image is not None else None,
    )


def _nodes(tx: Tx, since: Since) -> list[tuple[Any, ...]]:
    if since.written is None:
        return _NODES.all(tx)
    return _NODES_SINCE.all(tx, {"since": since.written, "highest": since.node_id})


class Whole(msgspec.Struct, frozen=True):
    """What is there at all: nodes' uuids, the versions of compute services by host, and what
    became of certain servers."""

    nodes: frozenset[str]
    versions: dict[str, int]
    occupants: tuple[Occupant, ...]


def whole(tx: Tx, server_ids: Sequence[str], *, images: bool = False) -> Whole:
    """For finding rows that went without a trace; servers that are gone are not among them."""
    occupants: list[Occupant] = []
    for start in range(0, len(server_ids), _CHUNK):
        some = server_ids[start : start + _CHUNK]
        rows = _OCCUPANTS_NAMED[images].all(tx, {"servers": some})
        occupants += [_occupant(*row) for row in rows]
    return Whole(
        frozenset(_UUIDS.scalars(tx)),
        dict(_VERSIONS.all(tx)),
        tuple(occupants),
    )
