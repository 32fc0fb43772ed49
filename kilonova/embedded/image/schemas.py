"""The attributes of images and members as JSON Schema: shown to clients and used to check."""

from __future__ import annotations

from typing import Any

from kilonova.embedded.image.records import (
    CONTAINER_FORMATS,
    DISK_FORMATS,
    MEMBER_STATUSES,
    STATUSES,
    VISIBILITIES,
)
from kilonova.web.schema import Schema

Tree = dict[str, Any]

_UUID = r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"
_COUNT: Tree = {"type": "integer", "minimum": 0, "maximum": 2147483647}
_BYTES: Tree = {"type": ["null", "integer"], "readOnly": True}
_TIME: Tree = {"type": "string", "readOnly": True}
_TEXT: Tree = {"type": "string", "maxLength": 255}
TAG: Tree = {"type": "string", "minLength": 1, "maxLength": 255}

WRITABLE: Tree = {
    "id": {"type": "string", "pattern": _UUID, "description": "An identifier for the image"},
    "name": {"type": ["null", "string"], "maxLength": 255, "description": "What people call it"},
    "visibility": {
        "type": "string", "enum": list(VISIBILITIES), "description": "Who can see the image",
    },
    "protected": {"type": "boolean", "description": "Whether it is kept from being deleted"},
    "os_hidden": {"type": "boolean", "description": "Whether lists leave the image out"},
    "owner": {"type": ["null", "string"], "maxLength": 255, "description": "Project it belongs to"},
    "container_format": {
        "type": ["null", "string"], "enum": [None, *CONTAINER_FORMATS],
        "description": "What the disk is packed in",
    },
    "disk_format": {
        "type": ["null", "string"], "enum": [None, *DISK_FORMATS],
        "description": "How the disk is written",
    },
    "min_ram": {**_COUNT, "description": "Memory a guest needs at least (MiB)"},
    "min_disk": {**_COUNT, "description": "Disk a guest needs at least (GiB)"},
    "tags": {"type": "array", "items": TAG, "description": "Words that describe the image"},
}  # fmt: skip

READ_ONLY: Tree = {
    "status": {"type": "string", "readOnly": True, "enum": list(STATUSES)},
    "checksum": {"type": ["null", "string"], "readOnly": True, "maxLength": 32},
    "os_hash_algo": {"type": ["null", "string"], "readOnly": True, "maxLength": 64},
    "os_hash_value": {"type": ["null", "string"], "readOnly": True, "maxLength": 128},
    "size": _BYTES,
    "virtual_size": _BYTES,
    "created_at": _TIME,
    "updated_at": _TIME,
    "direct_url": {"type": "string", "readOnly": True},
    "self": {"type": "string", "readOnly": True},
    "file": {"type": "string", "readOnly": True},
    "schema": {"type": "string", "readOnly": True},
}

RESERVED = ("location", "deleted", "deleted_at", "locations", "stores", "os_glance_import_task")

# What clients expect to find among the properties of an image without asking.
_COMMON: Tree = {
    name: {"type": "string", "is_base": False, "description": text}
    for name, text in (
        ("architecture", "Processor architecture of the guest"),
        ("kernel_id", "Image of the kernel to boot with"),
        ("ramdisk_id", "Image of the ramdisk to boot with"),
        ("os_distro", "Name of the operating system's distribution"),
        ("os_version", "Version of the operating system"),
        ("instance_uuid", "Server the image was made of"),
    )
}

NEW_IMAGE = Schema(
    {
        "type": "object",
        "properties": WRITABLE,
        "additionalProperties": {"type": "string", "maxLength": 65535},
        "propertyNames": {"minLength": 1, "maxLength": 255},
        "maxProperties": 200,
    }
)
CHECK_IMAGE = Schema(
    {
        "type": "object",
        "properties": WRITABLE,
        "additionalProperties": {"type": "string", "maxLength": 65535},
    }
)
PATCH = Schema(
    {
        "type": "array",
        "maxItems": 500,
        "items": {
            "type": "object",
            "properties": {
                "op": {"enum": ["add", "replace", "remove"]},
                "path": {"type": "string", "pattern": "^/", "maxLength": 512},
            },
        },
    }
)
NEW_MEMBER = Schema(
    {
        "type": "object",
        "properties": {"member": {**_TEXT, "minLength": 1}},
        "required": ["member"],
    }
)
MEMBER_STATUS = Schema(
    {
        "type": "object",
        "properties": {"status": {"type": "string", "enum": list(MEMBER_STATUSES)}},
        "required": ["status"],
    }
)
IMPORT = Schema(
    {
        "type": "object",
        "properties": {
            "method": {
                "type": "object",
                "properties": {"name": {"type": "string", "maxLength": 64}},
                "required": ["name"],
            }
        },
        "required": ["method"],
    }
)

_MEMBER: Tree = {
    "name": "member",
    "properties": {
        "image_id": {"type": "string", "pattern": _UUID},
        "member_id": _TEXT,
        "status": {"type": "string", "enum": list(MEMBER_STATUSES)},
        "created_at": _TIME,
        "updated_at": _TIME,
        "schema": {"type": "string", "readOnly": True},
    },
}
_IMAGE: Tree = {
    "name": "image",
    "properties": {**WRITABLE, **READ_ONLY, **_COMMON},
    "additionalProperties": {"type": "string"},
    "links": [
        {"rel": "self", "href": "{self}"},
        {"rel": "enclosure", "href": "{file}"},
        {"rel": "describedby", "href": "{schema}"},
    ],
}
_TASK: Tree = {
    "name": "task",
    "properties": {
        name: {"type": ["null", "string", "object"]}
        for name in (
            "id", "type", "status", "input", "result", "owner", "message", "expires_at",
            "created_at", "updated_at", "self", "schema", "image_id", "request_id", "user_id",
        )
    },
}  # fmt: skip


def _collection(name: str, item: Tree) -> Tree:
    text = {"type": "string"}
    return {
        "name": name,
        "properties": {
            name: {"type": "array", "items": item},
            "first": text,
            "next": text,
            "schema": text,
        },
        "links": [
            {"rel": "first", "href": "{first}"},
            {"rel": "next", "href": "{next}"},
            {"rel": "describedby", "href": "{schema}"},
        ],
    }


DOCUMENTS: dict[str, Tree] = {
    "image": _IMAGE,
    "images": _collection("images", _IMAGE),
    "member": _MEMBER,
    "members": {
        "name": "members",
        "properties": {
            "members": {"type": "array", "items": _MEMBER},
            "schema": {"type": "string"},
        },
        "links": [{"rel": "describedby", "href": "{schema}"}],
    },
    "task": _TASK,
    "tasks": _collection("tasks", _TASK),
}
