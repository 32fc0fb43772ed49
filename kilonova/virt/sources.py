"""Volumes that QEMU opens by itself over a network: from a connection to a block node."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec

from kilonova.base.errors import Unavailable
from kilonova.domain.guest import Disk

RECONNECT_SECONDS = 120
"""How long a guest's requests wait for a volume service that went away."""
_KEY = re.compile(r"key\s*=\s*(\S+)")
Data = dict[str, Any]


class Source(msgspec.Struct, frozen=True):
    """``node``: the protocol node; ``objects``: what it names, to be made before.

    ``files``: name → content of files below a directory, whose path stands for ``{directory}`` in
    the objects. Secrets are in files only, so that no list of processes shows them.
    """

    node: Data
    objects: tuple[Data, ...] = ()
    files: dict[str, str] = {}
    format: str = "raw"


def source(disk: Disk) -> Source | None:
    """None for kinds of connection that the host opens; Unavailable when something is missing."""
    connection = disk.connection or {}
    make = KINDS.get(str(connection.get("driver_volume_type")))
    if make is None:
        return None
    try:
        return make(connection.get("data", {}), (disk.volume_id or disk.id).replace("-", ""))
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise Unavailable(
            f"The connection of volume {disk.volume_id} cannot be understood: {error!r}."
        ) from None


def by_qemu(disk: Disk) -> bool:
    """Whether QEMU opens the volume by itself."""
    return (disk.connection or {}).get("driver_volume_type") in (*KINDS, "local")


def _nbd(data: Data, mark: str) -> Source:
    """``tls_psk``: hexadecimal digits of a key shared with the server (RFC 4279)."""
    node: Data = {
        "driver": "nbd",
        "server": {"type": "inet", "host": data["host"], "port": str(data["port"])},
        "export": data["export"],
        "reconnect-delay": RECONNECT_SECONDS,
    }
    if "tls_psk" not in data:
        return Source(node)
    name, user = f"tls-{mark}", data["tls_identity"]
    shown: Data = {
        "qom-type": "tls-creds-psk",
        "id": name,
        "dir": f"{{directory}}/{name}",
        "endpoint": "client",
        "username": user,
    }
    key = {f"{name}/keys.psk": f"{user}:{data['tls_psk']}\n"}
    return Source({**node, "tls-creds": name}, (shown,), key)


def _iscsi(data: Data, mark: str) -> Source:
    """Through libiscsi, without a session of the host."""
    node: Data = {
        "driver": "iscsi",
        "transport": "tcp",
        "portal": data["target_portal"],
        "target": data["target_iqn"],
        "lun": int(data["target_lun"]),
    }
    if data.get("auth_method") != "CHAP":
        return Source(node)
    name = f"chap-{mark}"
    node |= {"user": data["auth_username"], "password-secret": name}
    return Source(node, (_secret(name),), {name: data["auth_password"]})


def _rbd(data: Data, mark: str) -> Source:
    """Through librbd; the cluster's own files in /etc/ceph say what the connection does not."""
    pool, _, image = data["name"].partition("/")
    node: Data = {
        "driver": "rbd",
        "pool": pool,
        "image": image,
        "conf": f"/etc/ceph/{data.get('cluster_name') or 'ceph'}.conf",
        "server": [
            {"host": host.strip("[]"), "port": str(port)}
            for host, port in zip(data["hosts"], data["ports"], strict=True)
        ],
    }
    if not data.get("auth_enabled"):
        return Source(node)
    node["user"] = data["auth_username"]
    key = _KEY.search(data.get("keyring") or "")
    if key is None:
        return Source(node)
    name = f"ceph-{mark}"
    secret = {**_secret(name), "format": "base64"}
    return Source({**node, "key-secret": name}, (secret,), {name: key.group(1)})


def _nfs(data: Data, _mark: str) -> Source:
    """Through libnfs, without a mount of the host."""
    host, _, path = data["export"].rpartition(":")
    if not host or not path.startswith("/"):
        raise ValueError(data["export"])
    server = {"type": "inet", "host": host.strip("[]")}
    node = {"driver": "nfs", "server": server, "path": f"{path.rstrip('/')}/{data['name']}"}
    return Source(node, format="qcow2" if data.get("format") == "qcow2" else "raw")


def _secret(name: str) -> Data:
    return {"qom-type": "secret", "id": name, "file": f"{{directory}}/{name}", "format": "raw"}


KINDS: dict[str, Callable[[Data, str], Source]] = {
    "nbd": _nbd,
    "iscsi": _iscsi,
    "rbd": _rbd,
    "nfs": _nfs,
}
