"""Ports in the store: of a network, of a device, their groups and addresses."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa

from kilonova.db.database import Tx
from kilonova.embedded.network.store import addresses
from kilonova.embedded.network.store.rows import Row
from kilonova.embedded.network.tables import PORT_GROUPS, PORTS, SECURITY_GROUPS

DHCP = "network:dhcp"
ROUTER = "network:router_interface"
GATEWAY = "network:router_gateway"
FLOATING = "network:floatingip"
AUTOMATIC = (DHCP,)


def of_network(tx: Tx, network_id: str) -> list[Row]:
    """All ports of a network."""
    return _all(tx, PORTS.c.network_id == network_id)


def of_device(tx: Tx, device_id: str, owner: str | None = None) -> list[Row]:
    """All ports of a device, perhaps only those of one kind of owner."""
    clause = PORTS.c.device_id == device_id
    return _all(tx, clause if owner is None else sa.and_(clause, PORTS.c.device_owner == owner))


def groups(tx: Tx, port_ids: Iterable[str]) -> dict[str, list[str]]:
    """Port → ids of its security groups."""
    ids = list(port_ids)
    found: dict[str, list[str]] = {}
    for start in range(0, len(ids), 500):
        statement = (
            sa.select(PORT_GROUPS)
            .where(PORT_GROUPS.c.port_id.in_(ids[start : start + 500]))
            .order_by(PORT_GROUPS.c.security_group_id)
        )
        for row in tx.execute(statement):
            found.setdefault(row.port_id, []).append(row.security_group_id)
    return found


def set_groups(tx: Tx, port_id: str, group_ids: Iterable[str]) -> None:
    """Put a port into exactly these groups."""
    tx.execute(PORT_GROUPS.delete().where(PORT_GROUPS.c.port_id == port_id))
    for group_id in dict.fromkeys(group_ids):
        tx.execute(PORT_GROUPS.insert().values(port_id=port_id, security_group_id=group_id))


def remove(tx: Tx, port_id: str) -> None:
    """Delete a port with its addresses and group memberships."""
    addresses.release(tx, port_id)
    tx.execute(PORT_GROUPS.delete().where(PORT_GROUPS.c.port_id == port_id))
    tx.execute(PORTS.delete().where(PORTS.c.id == port_id))


def default_group(tx: Tx, project_id: str) -> str | None:
    """The id of a project's default group."""
    statement = sa.select(SECURITY_GROUPS.c.id).where(SECURITY_GROUPS.c.default_of == project_id)
    found: str | None = tx.execute(statement).scalar()
    return found


def _all(tx: Tx, where: sa.ColumnElement[bool]) -> list[Row]:
    statement = sa.select(PORTS).where(where).order_by(PORTS.c.created_at, PORTS.c.id)
    return [dict(row._mapping) for row in tx.execute(statement)]
