"""Hosts with a data plane, and automatic topologies, in the store."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from kilonova.db.database import Tx
from kilonova.embedded.network.store.rows import Row
from kilonova.embedded.network.tables import HOSTS, TOPOLOGIES


def announce(tx: Tx, name: str, *, host_id: str, mode: str, vtep_ip: str | None, now: str) -> bool:
    """Record that a host lives; True when it is new or plugs otherwise than before."""
    values: dict[str, Any] = {"mode": mode, "vtep_ip": vtep_ip}
    row = tx.execute(sa.select(HOSTS).where(HOSTS.c.name == name).with_for_update()).first()
    if row is None:
        tx.execute(
            HOSTS.insert().values(name=name, id=host_id, started_at=now, seen_at=now, **values)
        )
        return True
    tx.execute(HOSTS.update().where(HOSTS.c.name == name).values(seen_at=now, **values))
    return bool(row.mode != mode or row.vtep_ip != vtep_ip)


def mode_of(tx: Tx, name: str) -> str | None:
    """How a host plugs cards; None for one that never announced itself."""
    found: str | None = tx.execute(sa.select(HOSTS.c.mode).where(HOSTS.c.name == name)).scalar()
    return found


def everyone(tx: Tx) -> list[Row]:
    """All hosts by name."""
    return [dict(row._mapping) for row in tx.execute(sa.select(HOSTS).order_by(HOSTS.c.name))]


def forget(tx: Tx, host_id: str) -> bool:
    """Remove a host; False when there is none of that id."""
    return bool(tx.execute(HOSTS.delete().where(HOSTS.c.id == host_id)).rowcount)


def topology(tx: Tx, project_id: str) -> Row | None:
    """The automatic topology of a project."""
    row = tx.execute(sa.select(TOPOLOGIES).where(TOPOLOGIES.c.project_id == project_id)).first()
    return dict(row._mapping) if row is not None else None


def set_topology(tx: Tx, project_id: str, network_id: str, router_id: str) -> None:
    """Record a project's automatic topology."""
    forget_topology(tx, project_id)
    tx.execute(
        TOPOLOGIES.insert().values(
            project_id=project_id, network_id=network_id, router_id=router_id
        )
    )


def forget_topology(tx: Tx, project_id: str) -> None:
    """Forget a project's automatic topology."""
    tx.execute(TOPOLOGIES.delete().where(TOPOLOGIES.c.project_id == project_id))
