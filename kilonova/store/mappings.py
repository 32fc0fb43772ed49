"""Which cell holds which server and host, and the cells themselves (API database)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence

import msgspec
import sqlalchemy as sa

from kilonova.db.database import Tx
from kilonova.db.prepared import Prepared
from kilonova.db.tables.api import (
    build_requests,
    cell_mappings,
    host_mappings,
    instance_group_members,
    instance_group_places,
    instance_mappings,
    request_specs,
)
from kilonova.domain.guest import FlavorSpec
from kilonova.domain.resources import CellRow
from kilonova.domain.server import BuildSpec, Mapping
from kilonova.store import sql

_MAPPING = (
    instance_mappings.c.server_id,
    instance_mappings.c.cell_id,
    instance_mappings.c.project_id,
    instance_mappings.c.user_id,
    instance_mappings.c.queued_for_delete,
)
_HERE = instance_mappings.c.server_id == sa.bindparam("server")
_FIND = Prepared(sa.select(*_MAPPING).where(_HERE))
_ASIDE = Prepared(sa.select(instance_mappings.c.set_aside).where(_HERE))
_CHANGE = Prepared(instance_mappings.update().where(_HERE))
_SPEC = Prepared(
    sa.select(request_specs.c.spec).where(request_specs.c.server_id == sa.bindparam("server"))
)
_SAVE_SPEC = Prepared(
    request_specs.update().where(request_specs.c.server_id == sa.bindparam("server"))
)
_FORGET_REQUEST = Prepared(
    build_requests.delete().where(build_requests.c.server_id == sa.bindparam("server"))
)


def find(tx: Tx, server_id: str) -> Mapping | None:
    """Where a server is."""
    row = _FIND.first(tx, {"server": server_id})
    return Mapping(*row) if row else None


def place(tx: Tx, server_id: str, cell_id: str | None) -> None:
    """Record that the server's row is in that cell (None: only its build request is left)."""
    _CHANGE.run(tx, {"server": server_id, "cell_id": cell_id})


def release(tx: Tx, server_id: str) -> None:
    """The server is deleted: give its quota back, forget its request and group membership.

    The mapping stays, so that its cell is found for its instance actions.
    """
    _CHANGE.run(tx, {"server": server_id, "queued_for_delete": True})
    forget_request(tx, server_id)
    tx.execute(
        instance_group_members.delete().where(instance_group_members.c.server_id == server_id)
    )
    tx.execute(instance_group_places.delete().where(instance_group_places.c.server_id == server_id))
    tx.execute(request_specs.delete().where(request_specs.c.server_id == server_id))


def set_aside(tx: Tx, server_id: str, *, aside: bool = True) -> None:
    """The server counts in no quota (``aside`` False: again).

    Who counts it again holds the project's lock (``quotas.lock``), or knows that it was allowed.
    """
    _CHANGE.run(tx, {"server": server_id, "set_aside": aside})


def is_aside(tx: Tx, server_id: str) -> bool:
    """Whether the server counts in no quota."""
    return bool(_ASIDE.scalar(tx, {"server": server_id}))


def resize(tx: Tx, server_id: str, flavor: FlavorSpec, *, also: FlavorSpec | None = None) -> None:
    """What the server counts for by quota: its flavor, and of ``also`` what that has more."""
    flavors = (flavor, also or flavor)
    values = {
        "vcpus": max(one.vcpus for one in flavors),
        "memory_mb": max(one.memory_mb for one in flavors),
    }
    which = instance_mappings.c.server_id == server_id
    tx.execute(instance_mappings.update().where(which).values(**values))
    spec = find_spec(tx, server_id)
    if spec is not None and spec.flavor is not None:
        save_spec(tx, server_id, msgspec.structs.replace(spec, flavor=flavor))


def forget(tx: Tx, server_id: str) -> None:
    """Remove every trace of a server that never had a row in a cell."""
    release(tx, server_id)
    tx.execute(instance_mappings.delete().where(instance_mappings.c.server_id == server_id))


def forget_request(tx: Tx, server_id: str) -> None:
    """The server is made (or failed for good): its build request and secrets are not needed."""
    _FORGET_REQUEST.run(tx, {"server": server_id})
    spec = find_spec(tx, server_id)
    if spec is not None and (spec.admin_pass or spec.files):
        save_spec(tx, server_id, _without_secrets(spec))


def _without_secrets(spec: BuildSpec) -> BuildSpec:
    return BuildSpec(
        **{
            name: getattr(spec, name)
            for name in spec.__struct_fields__
            if name not in ("admin_pass", "files")
        }
    )


def find_spec(tx: Tx, server_id: str) -> BuildSpec | None:
    """What was asked for beyond the server's own fields."""
    spec: BuildSpec | None = _SPEC.scalar(tx, {"server": server_id})
    return spec


def save_spec(tx: Tx, server_id: str, spec: BuildSpec) -> None:
    """Replace a request spec."""
    _SAVE_SPEC.run(tx, {"server": server_id, "spec": spec})


def cells(tx: Tx) -> list[CellRow]:
    """All cells, cell0 first."""
    t = cell_mappings.c
    rows = tx.execute(
        sa.select(t.uuid, t.name, t.transport_url, t.database_connection, t.disabled).order_by(t.id)
    )
    return [CellRow(*row) for row in rows]


def add_cell(tx: Tx, cell: CellRow) -> None:
    """Record a cell; one that is there gets the new URLs and name."""
    values = {
        "name": cell.name,
        "transport_url": cell.transport_url,
        "database_connection": cell.database,
        "disabled": cell.disabled,
    }
    changed = tx.execute(
        cell_mappings.update().where(cell_mappings.c.uuid == cell.uuid).values(**values)
    )
    if not changed.rowcount:
        sql.insert_missing(tx, cell_mappings, [{"uuid": cell.uuid, **values}])


def map_host(tx: Tx, host: str, cell_id: str) -> None:
    """A host belongs to that cell; the first word counts."""
    sql.insert_missing(tx, host_mappings, [{"host": host, "cell_id": cell_id}])


def unmap_host(tx: Tx, host: str) -> None:
    """Forget a host."""
    tx.execute(host_mappings.delete().where(host_mappings.c.host == host))


def host_cell(tx: Tx, host: str) -> str | None:
    """The cell of a host."""
    cell_id: str | None = tx.execute(
        sa.select(host_mappings.c.cell_id).where(host_mappings.c.host == host)
    ).scalar()
    return cell_id


def host_cells(tx: Tx, hosts: Iterable[str] | None = None) -> dict[str, str]:
    """Host → cell id, of these hosts or of all."""
    query = sa.select(host_mappings.c.host, host_mappings.c.cell_id)
    if hosts is not None:
        query = query.where(host_mappings.c.host.in_(list(hosts)))
    return {row[0]: row[1] for row in tx.execute(query)}


def in_cells(
    tx: Tx, cell_ids: Sequence[str], project_id: str | None, *, limit: int = 1000
) -> list[tuple[str, str, dt.datetime]]:
    """(server, project, created) of the living servers of these cells."""
    m = instance_mappings.c
    query = sa.select(m.server_id, m.project_id, m.created_at).where(
        m.cell_id.in_(list(cell_ids)), m.queued_for_delete == sa.false()
    )
    if project_id is not None:
        query = query.where(m.project_id == project_id)
    rows = tx.execute(query.order_by(m.created_at.desc()).limit(limit))
    return [(row[0], row[1], row[2]) for row in rows]


class Brief(msgspec.Struct, frozen=True):
    """What the API database knows of a server that is in a cell."""

    mapping: Mapping
    created_at: dt.datetime
    spec: BuildSpec | None


def brief(tx: Tx, server_id: str) -> Brief | None:
    """One living server."""
    row = tx.execute(
        sa.select(*_MAPPING, instance_mappings.c.created_at).where(
            instance_mappings.c.server_id == server_id,
            instance_mappings.c.queued_for_delete == sa.false(),
        )
    ).first()
    return Brief(Mapping(*row[:5]), row[5], find_spec(tx, server_id)) if row else None
