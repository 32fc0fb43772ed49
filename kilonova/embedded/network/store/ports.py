"""Ports in the store: of a network, of a device, their groups and MACs."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa

from kilonova.db.database import Tx
from kilonova.db.prepared import Prepared
from kilonova.embedded.network.kinds import PORT
from kilonova.embedded.network.store import addresses, rows
from kilonova.embedded.network.store.rows import Row
from kilonova.embedded.network.tables import ADDRESSES, FLOATING_IPS, PORT_GROUPS, PORTS

DHCP = "network:dhcp"
ROUTER = "network:router_interface"
GATEWAY = "network:router_gateway"
FLOATING = "network:floatingip"
AUTOMATIC = (DHCP,)

_WITH_MAC = Prepared(
    sa.select(PORTS.c.id).where(
        PORTS.c.network_id == sa.bindparam("network"), PORTS.c.mac_address == sa.bindparam("mac")
    )
)
_GROUPS = Prepared(
    sa.select(PORT_GROUPS.c.port_id, PORT_GROUPS.c.security_group_id)
    .where(PORT_GROUPS.c.port_id.in_(sa.bindparam("ports", expanding=True)))
    .order_by(PORT_GROUPS.c.security_group_id)
)
_LEAVE_GROUPS = Prepared(PORT_GROUPS.delete().where(PORT_GROUPS.c.port_id == sa.bindparam("port")))
_JOIN_GROUP = Prepared(PORT_GROUPS.insert())
_REMOVE = Prepared(PORTS.delete().where(PORTS.c.id == sa.bindparam("port")))
_SET_STATUS = Prepared(PORTS.update().where(PORTS.c.id == sa.bindparam("port")))


def of_network(tx: Tx, network_id: str, owner: str | None = None) -> list[Row]:
    """All ports of a network, perhaps only those of one kind of owner."""
    clause = PORTS.c.network_id == network_id
    return _all(tx, clause if owner is None else sa.and_(clause, PORTS.c.device_owner == owner))


def of_device(tx: Tx, device_id: str, owner: str | None = None) -> list[Row]:
    """All ports of a device, perhaps only those of one kind of owner."""
    clause = PORTS.c.device_id == device_id
    return _all(tx, clause if owner is None else sa.and_(clause, PORTS.c.device_owner == owner))


def of_host(tx: Tx, host: str, port_ids: list[str]) -> list[Row]:
    """Those of the named ports that are bound to a host."""
    found: list[Row] = []
    for some in rows.chunks(port_ids):
        found += _all(tx, sa.and_(PORTS.c.id.in_(some), PORTS.c.binding_host_id == host))
    return found


def by_ids(tx: Tx, port_ids: list[str]) -> dict[str, Row]:
    """Ports by id."""
    found: dict[str, Row] = {}
    for some in rows.chunks(port_ids):
        found |= {row["id"]: row for row in _all(tx, PORTS.c.id.in_(some))}
    return found


def users_of_subnet(tx: Tx, subnet_id: str) -> dict[str, str]:
    """Port → owner of everything with an address in a subnet."""
    statement = (
        sa.select(PORTS.c.id, PORTS.c.device_owner)
        .join(ADDRESSES, ADDRESSES.c.port_id == PORTS.c.id)
        .where(ADDRESSES.c.subnet_id == subnet_id)
    )
    return {row.id: row.device_owner for row in tx.execute(statement)}


def owner_of(tx: Tx, port_id: str) -> str | None:
    """The ``device_owner`` of a port."""
    found: str | None = tx.execute(
        sa.select(PORTS.c.device_owner).where(PORTS.c.id == port_id)
    ).scalar()
    return found


def has_mac(tx: Tx, network_id: str, mac: str) -> bool:
    """Whether a MAC is in use in a network."""
    return _WITH_MAC.first(tx, {"network": network_id, "mac": mac}) is not None


def set_status(tx: Tx, port_id: str, status: str) -> None:
    """Write a port's status; that is no change by a user, so the revision stays."""
    _SET_STATUS.run(tx, {"port": port_id, "status": status})


def groups(tx: Tx, port_ids: Iterable[str]) -> dict[str, list[str]]:
    """Port → ids of its security groups."""
    found: dict[str, list[str]] = {}
    for some in rows.chunks(list(port_ids)):
        for port_id, group_id in _GROUPS.all(tx, {"ports": some}):
            found.setdefault(port_id, []).append(group_id)
    return found


def set_groups(tx: Tx, port_id: str, group_ids: Iterable[str]) -> None:
    """Put a port into exactly these groups."""
    _LEAVE_GROUPS.run(tx, {"port": port_id})
    members = [{"port_id": port_id, "security_group_id": g} for g in dict.fromkeys(group_ids)]
    _JOIN_GROUP.many(tx, members)


def leave_floating(tx: Tx, port_id: str, *, keep: Iterable[str] = ()) -> None:
    """Take floating IPs off a port, but for those of the addresses it keeps."""
    tx.execute(
        FLOATING_IPS.update()
        .where(
            FLOATING_IPS.c.port_id == port_id,
            FLOATING_IPS.c.fixed_ip_address.not_in(list(keep)),
        )
        .values(port_id=None, fixed_ip_address=None, router_id=None, status="DOWN")
    )


def remove(tx: Tx, port_id: str) -> None:
    """Delete a port with its addresses and group memberships."""
    addresses.release(tx, port_id)
    _LEAVE_GROUPS.run(tx, {"port": port_id})
    _REMOVE.run(tx, {"port": port_id})


def _all(tx: Tx, where: sa.ColumnElement[bool]) -> list[Row]:
    statement = sa.select(PORTS).where(where).order_by(PORTS.c.created_at, PORTS.c.id)
    return rows.fetch(tx, PORT, statement)
