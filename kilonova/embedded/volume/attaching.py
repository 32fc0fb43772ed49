"""How uses of a volume make its status, and how its data is reached."""

from __future__ import annotations

import datetime as dt
from typing import Any

from kilonova.base.errors import BadRequest
from kilonova.db.database import Tx
from kilonova.embedded.volume.app import Volumes
from kilonova.embedded.volume.records import Attachment, Volume
from kilonova.embedded.volume.store import rows

_FREE = ("available", "downloading")
_ORDER = (("attached", "in-use"), ("attaching", "attaching"), ("reserved", "reserved"))


def settle(tx: Tx, volume_id: str, now: dt.datetime) -> str:
    """Write the status that the volume's attachments mean; that status."""
    present = {item.status for item in rows.where(tx, Attachment, volume_id=volume_id)}
    status = next((word for mark, word in _ORDER if mark in present), "available")
    rows.change(tx, Volume, volume_id, status=status, updated_at=now)
    return status


def reserve(tx: Tx, volume: Volume, made: Attachment, now: dt.datetime) -> None:
    """Write a new attachment; BadRequest when the volume is not free."""
    usable = volume.status in _FREE
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


def connection(app: Volumes, volume: Volume, mode: str) -> dict[str, Any]:
    """How a host with this directory reaches the data (``driver_volume_type`` local)."""
    read_only = mode == "ro" or volume.readonly
    return {
        "driver_volume_type": "local",
        "data": {
            "device_path": str(app.files.volume(volume.id)),
            "format": "raw",
            "access_mode": "ro" if read_only else "rw",
            "volume_id": volume.id,
            "encrypted": False,
            "qos_specs": None,
            "cacheable": False,
            "multiattach": volume.multiattach,
            "discard": True,
        },
    }


def flat(app: Volumes, volume: Volume, item: Attachment) -> dict[str, Any]:
    """The same as the attachments API shows it; empty without a connector."""
    if not item.connector:
        return {}
    found = connection(app, volume, item.mode)
    data: dict[str, Any] = found["data"]
    return {
        **data,
        "driver_volume_type": found["driver_volume_type"],
        "attachment_id": item.id,
    }
