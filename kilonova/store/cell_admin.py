"""Cells, hosts and their mappings as an operator changes them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

import msgspec
import sqlalchemy as sa

from kilonova.db.database import Tx
from kilonova.db.tables.api import cell_mappings, host_mappings, instance_mappings
from kilonova.db.tables.cell import compute_nodes, instances, services
from kilonova.domain.server import Mapping
from kilonova.domain.states import VmState
from kilonova.store import servers, sql

CHUNK = 500


class Counts(msgspec.Struct, frozen=True):
    """What is mapped to a cell: hosts, living servers, deleted servers."""

    hosts: int
    living: int
    deleted: int


class Unmapped(msgspec.Struct, frozen=True):
    """A server of a cell that the API database does not know; ``aside``: it is soft-deleted."""

    mapping: Mapping
    vcpus: int
    memory_mb: int
    created_at: dt.datetime
    aside: bool = False


def counts(tx: Tx, cell_id: str) -> Counts:
    """What is mapped to a cell (API database)."""
    m = instance_mappings.c
    hosts = tx.execute(
        sa.select(sa.func.count()).where(host_mappings.c.cell_id == cell_id)
    ).scalar_one()
    rows = tx.execute(
        sa.select(m.queued_for_delete, sa.func.count())
        .where(m.cell_id == cell_id)
        .group_by(m.queued_for_delete)
    )
    by_state = {bool(state): count for state, count in rows}
    return Counts(hosts, by_state.get(False, 0), by_state.get(True, 0))


def delete_cell(tx: Tx, cell_id: str) -> None:
    """Forget a cell, its hosts and its servers (API database)."""
    tx.execute(instance_mappings.delete().where(instance_mappings.c.cell_id == cell_id))
    tx.execute(host_mappings.delete().where(host_mappings.c.cell_id == cell_id))
    tx.execute(cell_mappings.delete().where(cell_mappings.c.uuid == cell_id))


def hosts(tx: Tx, cell_id: str | None = None) -> list[tuple[str, str]]:
    """(host, cell id) of all mapped hosts, or of one cell's, by host (API database)."""
    query = sa.select(host_mappings.c.host, host_mappings.c.cell_id)
    if cell_id is not None:
        query = query.where(host_mappings.c.cell_id == cell_id)
    return [(row[0], row[1]) for row in tx.execute(query.order_by(host_mappings.c.host))]


def map_new_host(tx: Tx, host: str, cell_id: str) -> None:
    """Map a host; IntegrityError when somebody else did in between (API database)."""
    tx.execute(host_mappings.insert().values(host=host, cell_id=cell_id))


def reporting(tx: Tx, *, by_service: bool = False) -> list[str]:
    """The hosts that reported a hypervisor, or have a nova-compute (cell database)."""
    if by_service:
        query = sa.select(services.c.host).where(services.c.binary == "nova-compute")
    else:
        query = sa.select(compute_nodes.c.host)
    return sorted(set(tx.execute(query).scalars()))


def servers_on(tx: Tx, host: str) -> int:
    """How many living servers a host has (cell database)."""
    c = instances.c
    query = sa.select(sa.func.count()).where(c.host == host, c.deleted == sa.false())
    return int(tx.execute(query).scalar_one())


def state_of(tx: Tx, server_id: str) -> bool | None:
    """Whether the server's row is marked deleted; None when there is no row (cell database)."""
    found: bool | None = tx.execute(
        sa.select(instances.c.deleted).where(instances.c.uuid == server_id)
    ).scalar()
    return found


def living_servers(tx: Tx, cell_id: str) -> list[Unmapped]:
    """Every living server of a cell as it has to be mapped (cell database)."""
    nothing = servers.Extras()
    rows = tx.execute(
        servers.select_servers(nothing)
        .where(instances.c.deleted == sa.false())
        .order_by(instances.c.id)
    ).all()
    return [
        Unmapped(
            Mapping(server.id, cell_id, server.project_id, server.user_id, False),
            server.flavor.vcpus,
            server.flavor.memory_mb,
            server.created_at,
            server.vm_state == VmState.SOFT_DELETED,
        )
        for server in servers.complete(rows, nothing)
    ]


def mapped(tx: Tx, server_ids: Iterable[str]) -> set[str]:
    """Those of the servers that have a mapping (API database)."""
    wanted = list(server_ids)
    found: set[str] = set()
    for start in range(0, len(wanted), CHUNK):
        part = wanted[start : start + CHUNK]
        query = sa.select(instance_mappings.c.server_id).where(
            instance_mappings.c.server_id.in_(part)
        )
        found.update(tx.execute(query).scalars())
    return found


def map_servers(tx: Tx, rows: Iterable[Unmapped]) -> None:
    """Map servers; those mapped meanwhile are left alone (API database)."""
    sql.insert_missing(
        tx,
        instance_mappings,
        [
            {
                "server_id": row.mapping.server_id,
                "cell_id": row.mapping.cell_id,
                "project_id": row.mapping.project_id,
                "user_id": row.mapping.user_id,
                "queued_for_delete": False,
                "set_aside": row.aside,
                "vcpus": row.vcpus,
                "memory_mb": row.memory_mb,
                "created_at": row.created_at,
            }
            for row in rows
        ],
    )
