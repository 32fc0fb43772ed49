"""What the image service remembers, as frozen Structs, and the words it uses."""

from __future__ import annotations

import msgspec

VISIBILITIES = ("public", "private", "shared", "community")
MEMBER_STATUSES = ("pending", "accepted", "rejected")
STATUSES = (
    "queued", "saving", "active", "killed", "deleted", "uploading", "importing",
    "pending_delete", "deactivated",
)  # fmt: skip
DISK_FORMATS = (
    "ami", "ari", "aki", "vhd", "vhdx", "vmdk", "raw", "qcow2", "vdi", "iso", "ploop", "gpt",
)  # fmt: skip
CONTAINER_FORMATS = ("ami", "ari", "aki", "bare", "ovf", "ova", "docker", "compressed")
STORE = "files"


class Image(msgspec.Struct, frozen=True):
    """An image. ``min_disk`` in GiB, ``min_ram`` in MiB, sizes in bytes."""

    id: str
    name: str | None
    status: str
    owner: str | None
    visibility: str
    disk_format: str | None
    container_format: str | None
    size: int | None
    virtual_size: int | None
    min_disk: int
    min_ram: int
    protected: bool
    os_hidden: bool
    checksum: str | None
    os_hash_algo: str | None
    os_hash_value: str | None
    created_at: int
    updated_at: int
    properties: dict[str, str] = {}
    tags: tuple[str, ...] = ()


class Member(msgspec.Struct, frozen=True):
    """A project an image is shared with."""

    image_id: str
    member_id: str
    status: str
    created_at: int
    updated_at: int


class Task(msgspec.Struct, frozen=True):
    """An import: ``status`` is ``success`` or ``failure``, ``message`` says why."""

    id: str
    image_id: str
    owner: str | None
    user_id: str
    request_id: str
    status: str
    message: str
    created_at: int
    updated_at: int


class Content(msgspec.Struct, frozen=True):
    """What is known of data that was read to its end."""

    size: int
    checksum: str
    os_hash_value: str
    virtual_size: int | None
