"""How uses of a volume make its status, and how its data is reached."""

from __future__ import annotations

import datetime as dt
from typing import Any

from kilonova.base.errors import BadRequest
from kilonova.db.database import Tx
from kilonova.embedded.volume import exports
from kilonova.embedded.volume.app import Volumes
from kilonova.embedded.volume.records import Attachment, Volume
from kilonova.embedded.volume.rules import is_admin
from kilonova.embedded.volume.store import rows
from kilonova.web.call import Call

_FREE = ("available", "downloading")
_ORDER = (("attached", "in-use"), ("attaching", "attaching"), ("reserved", "reserved"))


def settle(tx: Tx, volume_id: str, now: dt.datetime) -> str:
    """Write the status that the volume's attachments mean; that status."""
    present = {item.status for item in rows.where(tx, Attachment, volume_id=volume_id)}
    status = next((word for mark, word in _ORDER if mark in present), "available")
    rows.change(tx, Volume, volume_id, status=status, updated_at=now)
    return status


def reserve(tx: Tx, volume: Volume, made: Attachment, now: dt.datetime) -> None:
    """Write a new attachment; BadRequest when the volume is not free.

    A server that has the volume may have another attachment of it, with which the first can end
    while nobody else gets the volume.
    """
    own = {item.server_id for item in rows.where(tx, Attachment, volume_id=volume.id)}
    usable = volume.status in _FREE or (made.server_id is not None and made.server_id in own)
    if volume.multiattach:
        usable = usable or volume.status in ("in-use", "reserved", "attaching")
    if not usable:
        raise BadRequest(
            f"Invalid volume: Volume {volume.id} status must be available"
            f"{' or in-use' if volume.multiattach else ''} or downloading to reserve, but the "
            f"current status is {volume.status}."
        )
    rows.create(tx, made)
    settle(tx, volume.id, now)


def connection(
    app: Volumes, volume: Volume, mode: str, item: Attachment | None = None, *, secret: bool = False
) -> dict[str, Any]:
    """How a host reaches the data: by its path (``local``), or, from another host, over ``nbd``.

    ``item``: the attachment that is asked for. The key of the exports is told where ``secret``.
    """
    read_only = mode == "ro" or volume.readonly
    common = {
        "access_mode": "ro" if read_only else "rw",
        "volume_id": volume.id,
        "encrypted": False,
        "qos_specs": None,
        "cacheable": False,
        "multiattach": volume.multiattach,
        "discard": True,
    }
    if item is None or app.exports is None or not _remote(app, item):
        path = str(app.files.volume(volume.id))
        return {
            "driver_volume_type": "local",
            "data": {"device_path": path, "format": "raw", **common},
        }
    where: dict[str, Any] = {
        "host": app.exports.address,
        "port": app.exports.port,
        "export": item.id,
    }
    if app.exports.tls:
        where["tls_identity"] = exports.USER
        if secret:
            where["tls_psk"] = app.exports.key()
    return {"driver_volume_type": "nbd", "data": {**where, **common}}


def flat(call: Call[Volumes], volume: Volume, item: Attachment) -> dict[str, Any]:
    """The same as the attachments API shows it; empty without a connector."""
    if not item.connector:
        return {}
    found = connection(call.app, volume, item.mode, item, secret=is_admin(call.caller))
    data: dict[str, Any] = found["data"]
    return {
        **data,
        "driver_volume_type": found["driver_volume_type"],
        "attachment_id": item.id,
    }


# -- exports ---------------------------------------------------------------------------------------


def _remote(app: Volumes, item: Attachment) -> bool:
    return bool(item.connector) and item.connector.get("host") != app.settings.host


async def export(app: Volumes, volume_id: str, *, without: str | None = None) -> None:
    """Have the volume exported to the hosts that use it now; Unavailable.

    ``without``: an attachment that is about to end.
    """
    if app.exports is None:
        return

    async def look() -> dict[str, bool]:
        found = (await app.db.read(_exported, app, volume_id)).get(volume_id, {})
        return {key: value for key, value in found.items() if key != without}

    await app.exports.follow(volume_id, app.files.volume(volume_id), look)


async def export_all(app: Volumes) -> None:
    """The same for all volumes, when the service starts."""
    if app.exports is not None:
        found = await app.db.read(_exported, app)
        wanted = {key: (app.files.volume(key), each) for key, each in found.items()}
        await app.exports.begin(wanted)


def _exported(tx: Tx, app: Volumes, volume_id: str | None = None) -> dict[str, dict[str, bool]]:
    """Volume id → attachment id → whether it may write."""
    only = {} if volume_id is None else {"volume_id": volume_id}
    found: dict[str, dict[str, bool]] = {}
    items = [item for item in rows.where(tx, Attachment, **only) if _remote(app, item)]
    fixed = {v.id for v in rows.where(tx, Volume, id=[i.volume_id for i in items]) if v.readonly}
    for item in items:
        writable = item.mode != "ro" and item.volume_id not in fixed
        found.setdefault(item.volume_id, {})[item.id] = writable
    return found
