"""Networks: create with a segment of their own, share, delete with their automatic ports."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from kilonova.base.errors import BadRequest, Conflict
from kilonova.db.database import Tx
from kilonova.embedded.network import rules
from kilonova.embedded.network.api.common import Resource
from kilonova.embedded.network.app import Work
from kilonova.embedded.network.attrs import NETWORK
from kilonova.embedded.network.store import ports as port_store
from kilonova.embedded.network.store import rows
from kilonova.embedded.network.store.rows import Row
from kilonova.embedded.network.tables import NETWORKS, SUBNETS

TYPES = ("flat", "vxlan", "local")


def create(job: Work, values: Row) -> Row:
    """Insert a network; external ones are flat, others get a VNI of their own."""
    settings = job.app.settings
    kind = values.get("network_type") or ("flat" if values["external"] else "vxlan")
    if kind not in TYPES:
        raise BadRequest(
            f"network_type value '{kind}' not supported; use one of {', '.join(TYPES)}.",
            code="InvalidInput",
        )
    values["network_type"] = kind
    if kind == "vxlan":
        values["segmentation_id"] = _segment(job, values.get("segmentation_id"))
    else:
        values["segmentation_id"] = None
    largest = settings.mtu - (settings.tunnel_overhead if kind == "vxlan" else 0)
    mtu = values.get("mtu") or largest
    if not 68 <= mtu <= largest:
        raise rules.invalid("mtu", f"{mtu} is not between 68 and {largest}.")
    values["mtu"] = mtu
    if values["is_default"]:
        _only_default(job, values["id"])
    return rows.insert(job.tx, NETWORK, values, job.now)


def update(job: Work, row: Row, changes: Row) -> Row:
    """Change a network; one that others use cannot be taken from them."""
    if changes.get("shared") is False and row["shared"]:
        others = port_store.of_network(job.tx, row["id"])
        if any(
            p["project_id"] not in ("", row["project_id"])
            and not p["device_owner"].startswith("network:")
            for p in others
        ):
            raise Conflict(
                f"Unable to reconfigure sharing settings for network {row['id']}. Multiple "
                "projects are using it.",
                code="InvalidSharedSetting",
            )
    if "mtu" in changes:
        settings = job.app.settings
        overhead = settings.tunnel_overhead if row["network_type"] == "vxlan" else 0
        if not 68 <= (changes["mtu"] or 0) <= settings.mtu - overhead:
            raise rules.invalid("mtu", f"{changes['mtu']} is out of range.")
    if changes.get("is_default"):
        _only_default(job, row["id"])
    return rows.update(job.tx, NETWORK, row, changes, job.now)


def delete(job: Work, row: Row) -> None:
    """Delete a network whose only ports are our own (DHCP); Conflict while others are there."""
    present = port_store.of_network(job.tx, row["id"])
    foreign = [p for p in present if p["device_owner"] not in port_store.AUTOMATIC]
    if foreign:
        raise Conflict(
            f"Unable to complete operation on network {row['id']}. There are one or more ports "
            f"still in use on the network, id for these ports is: "
            f"{','.join(p['id'] for p in foreign)}.",
            code="NetworkInUse",
        )
    for port in present:
        port_store.remove(job.tx, port["id"])
    job.tx.execute(SUBNETS.delete().where(SUBNETS.c.network_id == row["id"]))
    rows.delete(job.tx, NETWORK, row["id"])


def render(tx: Tx, found: list[Row], admin: bool) -> list[dict[str, Any]]:
    """Documents with the subnets' ids."""
    ids = [row["id"] for row in found]
    subnets: dict[str, list[str]] = {}
    versions: dict[str, set[int]] = {}
    if ids:
        statement = sa.select(SUBNETS.c.id, SUBNETS.c.network_id, SUBNETS.c.ip_version).where(
            SUBNETS.c.network_id.in_(ids)
        )
        for item in tx.execute(statement):
            subnets.setdefault(item.network_id, []).append(item.id)
            versions.setdefault(item.network_id, set()).add(item.ip_version)
    return [
        NETWORK.view(
            row,
            admin=admin,
            more={
                "subnets": subnets.get(row["id"], []),
                "availability_zones": ["nova"] if row["id"] in subnets else [],
                "ipv4_address_scope": None,
                "ipv6_address_scope": None,
                "l2_adjacency": True,
                "qos_policy_id": None,
                "vlan_transparent": None,
            },
        )
        for row in found
    ]


def visible(_project: str) -> sa.ColumnElement[bool]:
    """Everybody sees shared and external networks."""
    return sa.or_(NETWORKS.c.shared, NETWORKS.c.external)


NETWORK_RESOURCE = Resource(NETWORK, create, update, delete, render, visible)


def _segment(job: Work, asked: int | None) -> int:
    settings = job.app.settings
    used = set(
        job.tx.execute(
            sa.select(NETWORKS.c.segmentation_id).where(NETWORKS.c.segmentation_id.is_not(None))
        ).scalars()
    )
    if asked is not None:
        if not settings.first_vni <= asked <= settings.last_vni:
            raise rules.invalid("segmentation_id", f"{asked} is no VNI.")
        if asked in used:
            raise Conflict(f"The segment {asked} is in use.", code="TunnelIdInUse")
        return asked
    free = settings.first_vni
    while free in used:
        free += 1
    if free > settings.last_vni:
        raise Conflict("No tenant network is available for allocation.", code="NoNetworkAvailable")
    return free


def _only_default(job: Work, network_id: str) -> None:
    statement = sa.select(NETWORKS.c.id).where(NETWORKS.c.is_default, NETWORKS.c.id != network_id)
    other = job.tx.execute(statement).scalar()
    if other:
        raise Conflict(
            f"A default external network already exists: {other}.",
            code="DefaultExternalNetworkExists",
        )
