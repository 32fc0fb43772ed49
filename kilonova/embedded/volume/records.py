"""What the block storage service remembers, as frozen Structs, and the words it uses."""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec

DEFAULT_TYPE = "__DEFAULT__"
GIB = 1 << 30
STATUSES = (
    "creating", "available", "reserved", "attaching", "detaching", "in-use", "maintenance",
    "deleting", "awaiting-transfer", "error", "error_deleting", "backing-up", "restoring-backup",
    "error_backing-up", "error_restoring", "error_extending", "downloading", "uploading",
    "retyping", "extending", "error_managing", "managing",
)  # fmt: skip
ATTACH_STATUSES = ("attached", "detached", "attaching", "reserved", "error_attaching")


class Work(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is still to be done to a volume or snapshot; it survives a crash in its row.

    ``kind``: blank, image, snapshot, volume, copy (a snapshot's data), delete, extend, upload,
    reimage (an image over the data of before). ``source`` is the id of what is copied, or of the
    image that is filled. ``size``: GiB. ``after`` is the status at the end. ``server_ids`` are told
    of a new size or of new data.
    """

    kind: str
    source: str = ""
    size: int = 0
    after: str = "available"
    disk_format: str = "raw"
    server_ids: tuple[str, ...] = ()


class Volume(msgspec.Struct, frozen=True):
    """A volume; ``size`` in GiB."""

    id: str
    project_id: str
    user_id: str
    name: str | None
    description: str | None
    size: int
    status: str
    bootable: bool
    multiattach: bool
    readonly: bool
    type_id: str
    availability_zone: str
    snapshot_id: str | None
    source_volid: str | None
    metadata: dict[str, str]
    image_metadata: dict[str, str]
    job: Work | None
    created_at: dt.datetime
    updated_at: dt.datetime | None


class Snapshot(msgspec.Struct, frozen=True):
    """A copy of a volume's data at one moment; ``size`` in GiB."""

    id: str
    project_id: str
    user_id: str
    volume_id: str
    type_id: str
    name: str | None
    description: str | None
    size: int
    status: str
    metadata: dict[str, str]
    job: Work | None
    created_at: dt.datetime
    updated_at: dt.datetime | None


class Attachment(msgspec.Struct, frozen=True):
    """A use of a volume by a server (or a host). ``status``: reserved, attaching, attached."""

    id: str
    volume_id: str
    server_id: str | None
    status: str
    mode: str
    mountpoint: str | None
    connector: dict[str, Any]
    attached_at: dt.datetime | None
    created_at: dt.datetime


class VolumeType(msgspec.Struct, frozen=True):
    """A kind of volume. ``projects`` may use one that is not public."""

    id: str
    name: str
    description: str | None
    is_public: bool
    extra_specs: dict[str, str]
    projects: list[str]
    created_at: dt.datetime
    updated_at: dt.datetime | None

    @property
    def multiattach(self) -> bool:
        """Whether volumes of this type may be attached to several servers."""
        words = self.extra_specs.get("multiattach", "").lower().split()
        return words in (["<is>", "true"], ["true"])


class Transfer(msgspec.Struct, frozen=True):
    """An offer of a volume to whoever knows the key (kept as a salted hash)."""

    id: str
    volume_id: str
    project_id: str
    name: str | None
    salt: str
    hash: str
    created_at: dt.datetime


class Limit(msgspec.Struct, frozen=True):
    """A quota set for one project (or, with ``class:`` before, for a quota class)."""

    project_id: str
    resource: str
    value: int
