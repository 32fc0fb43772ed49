"""Routers and floating IPs in the store."""

from __future__ import annotations

import sqlalchemy as sa

from kilonova.db.database import Tx
from kilonova.embedded.network.kinds import ROUTER
from kilonova.embedded.network.store import rows
from kilonova.embedded.network.store.ports import ROUTER as ROUTER_LEG
from kilonova.embedded.network.store.rows import Row
from kilonova.embedded.network.tables import ADDRESSES, FLOATING_IPS, PORTS, ROUTERS


def of_router(tx: Tx, router_id: str) -> list[Row]:
    """The associated floating IPs a router carries."""
    statement = sa.select(FLOATING_IPS).where(
        FLOATING_IPS.c.router_id == router_id, FLOATING_IPS.c.port_id.is_not(None)
    )
    return [dict(row._mapping) for row in tx.execute(statement)]


def of_address(tx: Tx, port_id: str, fixed: str) -> Row | None:
    """The floating IP of a port's address."""
    statement = sa.select(FLOATING_IPS).where(
        FLOATING_IPS.c.port_id == port_id, FLOATING_IPS.c.fixed_ip_address == fixed
    )
    row = tx.execute(statement).first()
    return dict(row._mapping) if row is not None else None


def router_between(tx: Tx, subnet_id: str, network_id: str) -> Row | None:
    """The oldest router with a leg in a subnet and its gateway in an external network."""
    statement = (
        sa.select(ROUTERS)
        .join(PORTS, sa.and_(PORTS.c.device_id == ROUTERS.c.id, PORTS.c.device_owner == ROUTER_LEG))
        .join(ADDRESSES, ADDRESSES.c.port_id == PORTS.c.id)
        .where(ADDRESSES.c.subnet_id == subnet_id, ROUTERS.c.gateway_network_id == network_id)
        .order_by(ROUTERS.c.created_at, ROUTERS.c.id)
        .limit(1)
    )
    found = rows.fetch(tx, ROUTER, statement)
    return found[0] if found else None
