"""Floating IPs in the store."""

from __future__ import annotations

import sqlalchemy as sa

from kilonova.db.database import Tx
from kilonova.embedded.network.store.rows import Row
from kilonova.embedded.network.tables import FLOATING_IPS


def leave(tx: Tx, port_id: str) -> None:
    """Take every floating IP off a port that goes."""
    tx.execute(
        FLOATING_IPS.update()
        .where(FLOATING_IPS.c.port_id == port_id)
        .values(port_id=None, fixed_ip_address=None, router_id=None, status="DOWN")
    )


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
