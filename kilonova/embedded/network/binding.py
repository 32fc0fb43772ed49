"""Binding a port to a host: which kind of card the hypervisor plugs there."""

from __future__ import annotations

from typing import Any

from kilonova.db.database import Tx
from kilonova.embedded.network.app import NetworkSettings
from kilonova.embedded.network.plane import names
from kilonova.embedded.network.store import hosts
from kilonova.embedded.network.store.rows import Row

FAILED = "binding_failed"
COMPUTE = "compute:"
COMING = "migrating_to"
VIF_TYPES = {"bridge": "bridge", "user": "user", "none": "tap"}


def bind(tx: Tx, settings: NetworkSettings, port: Row, host: str) -> dict[str, Any]:
    """The columns of a port bound to ``host`` ('' unbinds).

    A port on a bridge is DOWN until the host's data plane has opened it; the other modes have no
    data plane of ours, so such a port is ACTIVE at once. A host nobody announced cannot be bound
    to, unless all hosts are simulated.
    """
    if not host:
        return _columns("", "unbound", {}, active=False)
    mode: str | None = settings.mode
    if mode != "none":
        mode = hosts.mode_of(tx, host)
    if mode is None:
        return _columns(host, FAILED, {}, active=False)
    details: dict[str, Any] = {
        "port_filter": mode == "bridge" and port["port_security_enabled"],
        "connectivity": "l2" if mode == "bridge" else "legacy",
        "bound_drivers": {"0": "kilonova"},
    }
    if mode != "user":
        details |= {
            "bridge_name": names.bridge(port["network_id"]),
            "tap_name": names.tap(port["id"]),
        }
    return _columns(host, VIF_TYPES[mode], details, active=mode != "bridge")


def coming(port: Row) -> str:
    """The host that a running guest's port is about to come to ('' for none)."""
    return str((port["binding_profile"] or {}).get(COMING) or "")


def event(port: Row, name: str) -> list[dict[str, Any]]:
    """What the compute service is told of a port (``os-server-external-events``)."""
    if not port["device_id"] or not port["device_owner"].startswith(COMPUTE):
        return []
    told: dict[str, Any] = {"name": name, "server_uuid": port["device_id"], "tag": port["id"]}
    if name in ("network-vif-plugged", "network-vif-unplugged"):
        told["status"] = "completed"
    return [told]


def _columns(host: str, kind: str, details: dict[str, Any], *, active: bool) -> dict[str, Any]:
    return {
        "binding_host_id": host,
        "binding_vif_type": kind,
        "binding_vif_details": details,
        "status": "ACTIVE" if active else "DOWN",
    }
