"""How volumes, snapshots, attachments and types are shown, at each microversion."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from kilonova.embedded.volume.app import Volumes
from kilonova.embedded.volume.records import Attachment, Snapshot, Transfer, Volume, VolumeType
from kilonova.embedded.volume.rules import is_admin
from kilonova.web.call import Call

View = dict[str, Any]


def time(when: dt.datetime | None) -> str | None:
    """``2026-01-31T12:00:00.000000`` (UTC, without a zone)."""
    return None if when is None else when.strftime("%Y-%m-%dT%H:%M:%S.%f")


def links(call: Call[Volumes], *path: str) -> list[View]:
    """``self`` and ``bookmark``."""
    return [
        {"rel": "self", "href": call.link(*path)},
        {"rel": "bookmark", "href": call.bookmark(*path)},
    ]


def brief(call: Call[Volumes], volume: Volume) -> View:
    """A volume in the short list."""
    return {"id": volume.id, "name": volume.name, "links": links(call, "volumes", volume.id)}


class Around(msgspec.Struct, frozen=True):
    """What is shown beside the volumes themselves: their types and attachments."""

    types: dict[str, VolumeType]
    attachments: dict[str, list[Attachment]]


def volume(call: Call[Volumes], item: Volume, around: Around) -> View:
    """A volume with all its details."""
    version = call.version
    kind = around.types.get(item.type_id)
    attached = [a for a in around.attachments.get(item.id, ()) if a.status == "attached"]
    shown: View = {
        "id": item.id,
        "status": item.status,
        "size": item.size,
        "availability_zone": item.availability_zone,
        "created_at": time(item.created_at),
        "updated_at": time(item.updated_at),
        "name": item.name,
        "description": item.description,
        "volume_type": kind.name if kind else None,
        "snapshot_id": item.snapshot_id,
        "source_volid": item.source_volid,
        "metadata": _metadata(item),
        "links": links(call, "volumes", item.id),
        "user_id": item.user_id,
        "bootable": "true" if item.bootable else "false",
        "encrypted": False,
        "replication_status": None,
        "consistencygroup_id": None,
        "multiattach": item.multiattach,
        "attachments": [_attached(a) for a in attached],
        "os-vol-tenant-attr:tenant_id": item.project_id,
    }
    if item.image_metadata:
        shown["volume_image_metadata"] = item.image_metadata
    if is_admin(call.caller):
        shown["os-vol-host-attr:host"] = call.app.host
        shown["os-vol-mig-status-attr:migstat"] = None
        shown["os-vol-mig-status-attr:name_id"] = None
        shown["migration_status"] = None
    if version >= 13:
        shown["group_id"] = None
    if version >= 21 and is_admin(call.caller):
        shown["provider_id"] = None
    if version >= 48:
        shown["service_uuid"] = None
        shown["shared_targets"] = None if version >= 69 else False
    if version >= 61 and is_admin(call.caller):
        shown["cluster_name"] = None
    if version >= 63:
        shown["volume_type_id"] = item.type_id
    if version >= 65:
        shown["consumes_quota"] = True
    return shown


def created(call: Call[Volumes], item: Volume, around: Around) -> View:
    """A volume as its creation answers: without what Cinder's extensions add where it is shown."""
    shown = volume(call, item, around)
    added = [key for key in shown if key.startswith("os-vol-") or key == "volume_image_metadata"]
    return {key: value for key, value in shown.items() if key not in added}


def _metadata(item: Volume) -> dict[str, str]:
    return {**item.metadata, "readonly": "True"} if item.readonly else item.metadata


def _attached(item: Attachment) -> View:
    return {
        "id": item.volume_id,
        "attachment_id": item.id,
        "volume_id": item.volume_id,
        "server_id": item.server_id,
        "host_name": item.connector.get("host"),
        "device": item.mountpoint,
        "attached_at": time(item.attached_at),
    }


def snapshot(call: Call[Volumes], item: Snapshot, *, detail: bool = True) -> View:
    """A snapshot."""
    shown: View = {
        "id": item.id,
        "name": item.name,
        "description": item.description,
        "volume_id": item.volume_id,
        "status": item.status,
        "size": item.size,
        "created_at": time(item.created_at),
        "updated_at": time(item.updated_at),
        "metadata": item.metadata,
    }
    if detail:
        done = "100%" if item.status == "available" else "0%"
        shown["os-extended-snapshot-attributes:project_id"] = item.project_id
        shown["os-extended-snapshot-attributes:progress"] = done
    if call.version >= 14:
        shown["group_snapshot_id"] = None
    if call.version >= 41:
        shown["user_id"] = item.user_id
    if call.version >= 65:
        shown["consumes_quota"] = True
    return shown


def volume_type(call: Call[Volumes], item: VolumeType) -> View:
    """A volume type; ``extra_specs`` only of use to clients where they are allowed to see them."""
    shown: View = {
        "id": item.id,
        "name": item.name,
        "description": item.description,
        "is_public": item.is_public,
        "os-volume-type-access:is_public": item.is_public,
    }
    visible = ("multiattach",)
    if is_admin(call.caller):
        shown["extra_specs"] = item.extra_specs
        shown["qos_specs_id"] = None
    else:
        shown["extra_specs"] = {k: v for k, v in item.extra_specs.items() if k in visible}
    return shown


def attachment(
    item: Attachment, *, info: Mapping[str, Any] | None = None, detail: bool = True
) -> View:
    """An attachment (3.27); ``info`` tells how the volume is reached."""
    shown: View = {
        "id": item.id,
        "status": item.status,
        "instance": item.server_id,
        "volume_id": item.volume_id,
    }
    if detail:
        shown |= {
            "attached_at": time(item.attached_at) or "",
            "detached_at": "",
            "attach_mode": item.mode,
            "connection_info": dict(info or {}),
        }
    return shown


def transfer(call: Call[Volumes], item: Transfer, *, key: str | None = None) -> View:
    """An offered volume; ``auth_key`` is told once."""
    shown: View = {
        "id": item.id,
        "name": item.name,
        "volume_id": item.volume_id,
        "created_at": time(item.created_at),
        "links": links(call, "volume-transfers" if call.version >= 55 else "os-volume-transfer"),
    }
    if key is not None:
        shown["auth_key"] = key
    if call.version >= 55:
        shown["no_snapshots"] = False
    if call.version >= 57:
        shown["source_project_id"] = item.project_id
        shown["destination_project_id"] = None
        shown["accepted"] = False
    return shown


def quotas(values: Mapping[str, int], types: Sequence[VolumeType]) -> dict[str, int]:
    """Limits, with those of each type, which are not set here."""
    shown = dict(values)
    for kind in types:
        for name in ("volumes", "gigabytes", "snapshots"):
            shown[f"{name}_{kind.name}"] = -1
    return shown
