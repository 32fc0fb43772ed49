"""Everything the plans of hosts are made of, read in a fixed number of statements."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from kilonova.db.database import Tx
from kilonova.embedded.network.store.addresses import in_order
from kilonova.embedded.network.store.rows import Row
from kilonova.embedded.network.tables import (
    ADDRESSES,
    FLOATING_IPS,
    HOSTS,
    NETWORKS,
    PORT_GROUPS,
    PORTS,
    ROUTERS,
    RULES,
    SUBNETS,
)


class Cloud(msgspec.Struct):
    """All rows, by what they belong to: subnets and ports by network, legs and floating IPs by
    router, rules by group, groups by port, members (ports) by group; bridge hosts by age."""

    networks: dict[str, Row]
    subnets: dict[str, list[Row]]
    ports: dict[str, list[Row]]
    legs: dict[str, list[Row]]
    routers: list[Row]
    rules: dict[str, list[Row]]
    groups: dict[str, list[str]]
    members: dict[str, list[Row]]
    floating: dict[str, list[Row]]
    hosts: list[Row]


def read(tx: Tx) -> Cloud:
    """Read all of it."""
    fixed: dict[str, list[dict[str, str]]] = {}
    for row in tx.execute(sa.select(ADDRESSES)):
        fixed.setdefault(row.port_id, []).append(
            {"subnet_id": row.subnet_id, "ip_address": row.ip_address}
        )
    ports = _rows(tx, PORTS)
    for port in ports:
        port["fixed_ips"] = in_order(fixed.get(port["id"], []))
    by_id = {port["id"]: port for port in ports}
    groups: dict[str, list[str]] = {}
    members: dict[str, list[Row]] = {}
    for row in tx.execute(
        sa.select(PORT_GROUPS).order_by(PORT_GROUPS.c.security_group_id, PORT_GROUPS.c.port_id)
    ):
        if row.port_id in by_id:
            groups.setdefault(row.port_id, []).append(row.security_group_id)
            members.setdefault(row.security_group_id, []).append(by_id[row.port_id])
    associated = FLOATING_IPS.c.port_id.is_not(None)
    return Cloud(
        networks={row["id"]: row for row in _rows(tx, NETWORKS)},
        subnets=_by("network_id", _rows(tx, SUBNETS)),
        ports=_by("network_id", ports),
        legs=_by("device_id", [p for p in ports if p["device_owner"].startswith("network:router")]),
        routers=_rows(tx, ROUTERS),
        rules=_by("security_group_id", _rows(tx, RULES)),
        groups=groups,
        members=members,
        floating=_by("router_id", _rows(tx, FLOATING_IPS, associated)),
        hosts=sorted(
            _rows(tx, HOSTS, HOSTS.c.mode == "bridge"), key=lambda h: (h["started_at"], h["name"])
        ),
    )


def _rows(tx: Tx, table: sa.Table, *where: Any) -> list[Row]:
    statement = sa.select(table).where(*where).order_by(table.c.id)
    return [dict(row._mapping) for row in tx.execute(statement)]


def _by(key: str, found: list[Row]) -> dict[str, list[Row]]:
    made: dict[str, list[Row]] = {}
    for row in found:
        made.setdefault(row[key], []).append(row)
    return made
