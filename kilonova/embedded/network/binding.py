"""Binding a port to a host: which kind of card the hypervisor plugs there."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from kilonova.db.database import Tx
from kilonova.embedded.network.app import NetworkSettings
from kilonova.embedded.network.store.rows import Row
from kilonova.embedded.network.tables import HOSTS

FAILED = "binding_failed"
COMPUTE = "compute:"


def bridge_name(network_id: str) -> str:
    """The bridge of a network on every host."""
    return f"brq{network_id[:11]}"


def tap_name(port_id: str) -> str:
    """The tap of a port."""
    return f"tap{port_id[:11]}"


def bind(tx: Tx, settings: NetworkSettings, port: Row, host: str) -> dict[str, Any]:
    """The columns of a port bound to ``host`` ('' unbinds).

    A port on a bridge is DOWN until the host's data plane has opened it; the other modes have no
    data plane of ours, so such a port is ACTIVE at once.
    """
    if not host:
        return {
            "binding_host_id": "",
            "binding_vif_type": "unbound",
            "binding_vif_details": {},
            "status": "DOWN",
        }
    mode = settings.mode
    if mode != "none":
        known = tx.execute(sa.select(HOSTS.c.mode).where(HOSTS.c.name == host)).scalar()
        if known is None:
            return {
                "binding_host_id": host,
                "binding_vif_type": FAILED,
                "binding_vif_details": {},
                "status": "DOWN",
            }
        mode = known
    details: dict[str, Any] = {"port_filter": mode == "bridge", "connectivity": "l2"}
    if mode != "user":
        details |= {
            "bridge_name": bridge_name(port["network_id"]),
            "tap_name": tap_name(port["id"]),
        }
    return {
        "binding_host_id": host,
        "binding_vif_type": {"bridge": "bridge", "user": "user"}.get(mode, "tap"),
        "binding_vif_details": details,
        "status": "DOWN" if mode == "bridge" else "ACTIVE",
    }


def event(port: Row, name: str) -> list[dict[str, Any]]:
    """What the compute service is told of a port (``os-server-external-events``)."""
    if not port["device_id"] or not port["device_owner"].startswith(COMPUTE):
        return []
    told: dict[str, Any] = {"name": name, "server_uuid": port["device_id"], "tag": port["id"]}
    if name in ("network-vif-plugged", "network-vif-unplugged"):
        told["status"] = "completed"
    return [told]
