"""Networks: create with a segment of their own, share, delete with their automatic ports."""

from __future__ import annotations

from typing import Any

from kilonova.base.errors import BadRequest, Conflict
from kilonova.db.database import Tx
from kilonova.embedded.network import rules
from kilonova.embedded.network.api.resource import Resource
from kilonova.embedded.network.app import Work
from kilonova.embedded.network.kinds import NETWORK
from kilonova.embedded.network.store import networks, quotas, rows
from kilonova.embedded.network.store import ports as port_store
from kilonova.embedded.network.store.rows import Row

# Names of locks (projects have no such names).
SEGMENTS, DEFAULTS = "#segments", "#defaults"
TYPES = ("flat", "vxlan", "local")


def create(job: Work, values: Row) -> Row:
    """Insert a network; external ones are flat, others get a VNI of their own."""
    kind = values.get("network_type") or ("flat" if values.get("external") else "vxlan")
    if kind not in TYPES:
        raise BadRequest(
            f"Invalid input for operation: network_type value '{kind}' not supported; use one of "
            f"{', '.join(TYPES)}.",
            code="InvalidInput",
        )
    values["network_type"] = kind
    values["segmentation_id"] = (
        _segment(job, values.get("segmentation_id")) if kind == "vxlan" else None
    )
    values["mtu"] = _mtu(job, kind, values.get("mtu"))
    if values.get("is_default"):
        _only_default(job, values["id"], external=bool(values.get("external")))
    return rows.insert(job.tx, NETWORK, values, job.now)


def update(job: Work, row: Row, changes: Row) -> Row:
    """Change a network; one that others use cannot be taken from them."""
    if changes.get("shared") is False and row["shared"]:
        _refuse_unsharing(job.tx, row)
    if changes.get("external") is False and row["external"]:
        _refuse_losing_gateways(job.tx, row)
    if "mtu" in changes:
        changes["mtu"] = _mtu(job, row["network_type"], changes["mtu"])
    if changes.get("is_default"):
        _only_default(job, row["id"], external=bool(changes.get("external", row["external"])))
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
    networks.remove_subnets(job.tx, row["id"])
    rows.delete(job.tx, NETWORK, row["id"])


def render(tx: Tx, found: list[Row], admin: bool) -> list[dict[str, Any]]:
    """Documents with the subnets' ids."""
    subnets: dict[str, list[str]] = {}
    for item in networks.subnets(tx, [row["id"] for row in found]):
        subnets.setdefault(item["network_id"], []).append(item["id"])
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


NETWORK_RESOURCE = Resource(NETWORK, create, update, delete, render)


def _mtu(job: Work, kind: str, asked: int | None) -> int:
    settings = job.app.settings
    largest = settings.mtu - (settings.tunnel_overhead if kind == "vxlan" else 0)
    mtu = asked or largest
    if not 68 <= mtu <= largest:
        raise rules.invalid("mtu", f"{mtu} is not between 68 and {largest}.")
    return mtu


def _segment(job: Work, asked: int | None) -> int:
    settings = job.app.settings
    quotas.lock(job.tx, SEGMENTS)
    used = networks.segments(job.tx)
    if asked is not None:
        if not settings.first_vni <= asked <= settings.last_vni:
            raise rules.invalid("segmentation_id", f"{asked} is no VNI.")
        if asked in used:
            raise Conflict(
                f"Unable to create the network. The tunnel ID {asked} is in use.",
                code="TunnelIdInUse",
            )
        return asked
    free = settings.first_vni
    while free in used:
        free += 1
    if free > settings.last_vni:
        raise Conflict("No tenant network is available for allocation.", code="NoNetworkAvailable")
    return free


def _only_default(job: Work, network_id: str, *, external: bool) -> None:
    if not external:
        raise BadRequest(
            "Only external networks can be the default one.", code="IsDefaultRequiresExternal"
        )
    quotas.lock(job.tx, DEFAULTS)
    other = networks.other_default(job.tx, network_id)
    if other:
        raise Conflict(
            f"A default external network already exists: {other}.",
            code="DefaultExternalNetworkExists",
        )


def _refuse_unsharing(tx: Tx, row: Row) -> None:
    others = {p["project_id"] for p in _guests(tx, row)} - {row["project_id"]}
    if others:
        raise Conflict(
            f"Unable to reconfigure sharing settings for network {row['id']}. Multiple projects "
            "are using it.",
            code="InvalidSharedSetting",
        )


def _refuse_losing_gateways(tx: Tx, row: Row) -> None:
    owners = {p["device_owner"] for p in port_store.of_network(tx, row["id"])}
    if owners & {port_store.GATEWAY, port_store.FLOATING}:
        raise Conflict(
            f"External network {row['id']} cannot be updated to be made non-external, since it "
            "has existing gateway ports.",
            code="ExternalNetworkInUse",
        )


def _guests(tx: Tx, row: Row) -> list[Row]:
    return [
        p
        for p in port_store.of_network(tx, row["id"])
        if not p["device_owner"].startswith("network:")
    ]
