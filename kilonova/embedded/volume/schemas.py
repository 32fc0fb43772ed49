"""Bodies of the block storage API."""

from __future__ import annotations

from typing import Any

from kilonova.web.schema import Schema, since

Tree = dict[str, Any]

_WORDS = ("true", "True", "TRUE", "1", "yes", "on", "false", "False", "FALSE", "0", "no", "off")
BOOLEAN: Tree = {"type": ["boolean", "string", "null"], "enum": [True, False, None, *_WORDS]}
NAME: Tree = {"type": ["string", "null"], "maxLength": 255}
TEXT: Tree = {"type": ["string", "null"], "maxLength": 255}
UUID: Tree = {"type": "string", "format": "uuid"}
UUID_OR_NULL: Tree = {"anyOf": [UUID, {"type": "null"}]}
SIZE: Tree = {"type": ["integer", "string", "null"], "pattern": "^[0-9]+$", "minimum": 1}
METADATA: Tree = {
    "type": ["object", "null"],
    "patternProperties": {
        "^[^\\x00]{1,255}$": {"type": ["string", "boolean", "integer", "number"], "maxLength": 255}
    },
    "additionalProperties": False,
}
CONNECTOR: Tree = {"type": ["object", "null"]}
ANY: Tree = {}


def truth(value: Any) -> bool:
    """The meaning of a value that fits `BOOLEAN`."""
    if isinstance(value, str):
        return value.lower() in ("true", "1", "yes", "on")
    return bool(value)


def closed(properties: Tree, *required: Any) -> Tree:
    """An object with just these properties."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def body(name: str, tree: Tree, **beside: Tree) -> Schema:
    """A body with one key (and optional others ``beside`` it)."""
    return Schema(closed({name: tree, **beside}, name))


CREATE_VOLUME = body(
    "volume",
    closed(
        {
            "name": NAME,
            "display_name": NAME,
            "description": TEXT,
            "display_description": TEXT,
            "size": SIZE,
            "volume_type": {"type": ["string", "null"], "maxLength": 255},
            "metadata": METADATA,
            "snapshot_id": UUID_OR_NULL,
            "source_volid": UUID_OR_NULL,
            "imageRef": {"type": ["string", "null"], "maxLength": 255},
            "image_id": {"type": ["string", "null"], "maxLength": 255},
            "consistencygroup_id": UUID_OR_NULL,
            "multiattach": BOOLEAN,
            "availability_zone": {"type": ["string", "null"], "maxLength": 255},
            "user_id": {"type": ["string", "null"]},
            "project_id": {"type": ["string", "null"]},
            "id": {"anyOf": [UUID, {"type": "null"}]},
            "status": ANY,
            "attach_status": ANY,
            "source_replica": ANY,
            "scheduler_hints": ANY,
            "group_id": since(13, UUID_OR_NULL),
            "backup_id": since(47, UUID_OR_NULL),
        }
    ),
    **{
        "OS-SCH-HNT:scheduler_hints": {"type": ["object", "null"]},
        "scheduler_hints": {"type": ["object", "null"]},
    },
)
UPDATE_VOLUME = body(
    "volume",
    closed(
        {
            "name": NAME,
            "display_name": NAME,
            "description": TEXT,
            "display_description": TEXT,
            "metadata": METADATA,
        }
    ),
)
SET_METADATA = body("metadata", METADATA)
SET_META = body("meta", METADATA)

CREATE_SNAPSHOT = body(
    "snapshot",
    closed(
        {
            "volume_id": UUID,
            "name": NAME,
            "display_name": NAME,
            "description": TEXT,
            "metadata": METADATA,
            "force": BOOLEAN,
        },
        "volume_id",
    ),
)
UPDATE_SNAPSHOT = body(
    "snapshot",
    closed({"name": NAME, "display_name": NAME, "description": TEXT}),
)

CREATE_ATTACHMENT = body(
    "attachment",
    closed(
        {
            "volume_uuid": UUID,
            "instance_uuid": UUID_OR_NULL,
            "connector": CONNECTOR,
            "mode": since(54, {"type": "string", "enum": ["rw", "ro"]}),
        },
        "volume_uuid",
    ),
)
UPDATE_ATTACHMENT = body("attachment", closed({"connector": {"type": "object"}}, "connector"))

CREATE_TYPE = body(
    "volume_type",
    closed(
        {
            "name": {"type": "string", "minLength": 1, "maxLength": 255},
            "description": TEXT,
            "extra_specs": METADATA,
            "os-volume-type-access:is_public": BOOLEAN,
        },
        "name",
    ),
)
UPDATE_TYPE = body(
    "volume_type",
    closed(
        {
            "name": {"type": ["string", "null"], "maxLength": 255},
            "description": TEXT,
            "is_public": BOOLEAN,
        }
    ),
)
EXTRA_SPECS = body("extra_specs", METADATA)
QUOTAS: Tree = {
    "type": "object",
    "properties": {"tenant_id": {"type": "string"}, "force": BOOLEAN},
    "additionalProperties": {
        "type": ["integer", "string"],
        "pattern": "^-?[0-9]+$",
        "minimum": -1,
        "maximum": 2147483647,
    },
}
QUOTA_SET = body("quota_set", QUOTAS)
QUOTA_CLASS = body("quota_class_set", QUOTAS)
CREATE_TRANSFER = body(
    "transfer",
    closed({"volume_id": UUID, "name": NAME, "no_snapshots": since(55, BOOLEAN)}, "volume_id"),
)
ACCEPT_TRANSFER = body("accept", closed({"auth_key": {"type": "string"}}, "auth_key"))
