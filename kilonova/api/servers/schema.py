"""Bodies and query strings of ``/servers``, with what each microversion added."""

from __future__ import annotations

from kilonova.api.schemas import (
    BOOLEAN,
    DESCRIPTION,
    DEVICE_TAG,
    HOST,
    METADATA,
    NAME,
    NAME_OR_NONE,
    POSITIVE,
    TAGS,
    UUID,
    Tree,
    closed,
)
from kilonova.web.schema import Schema, between, pick, since, single, until

IPV4: Tree = {"type": "string", "format": "ipv4"}
IPV6: Tree = {"type": "string", "format": "ipv6"}
IP: Tree = {"anyOf": [IPV4, IPV6]}
HOSTNAME = pick(
    between(
        90,
        93,
        {
            "type": "string",
            "minLength": 2,
            "maxLength": 63,
            "pattern": "^[a-zA-Z0-9]+[a-zA-Z0-9-]*[a-zA-Z0-9]+$",
        },
    ),
    since(
        94,
        {
            "type": "string",
            "minLength": 1,
            "maxLength": 255,
            "pattern": r"^[a-zA-Z0-9]+([a-zA-Z0-9-.]*[a-zA-Z0-9]+)?$",
        },
    ),
)
DISK_CONFIG: Tree = {"type": "string", "enum": ["AUTO", "MANUAL"]}
FILES: Tree = {
    "type": "array",
    "items": closed(
        {"path": {"type": "string"}, "contents": {"type": "string", "format": "base64"}},
        "path",
        "contents",
    ),
}
TRUSTED_CERTS: Tree = {
    "type": ["array", "null"],
    "minItems": 1,
    "maxItems": 50,
    "uniqueItems": True,
    "items": {"type": "string", "minLength": 1},
}

_NIC = closed(
    {
        "fixed_ip": IP,
        "port": {"anyOf": [UUID, {"type": "null"}]},
        "uuid": pick(until(36, {"type": "string"}), since(37, UUID)),
        "tag": pick(between(32, 36, DEVICE_TAG), since(42, DEVICE_TAG)),
    }
)
_NICS: Tree = {"type": "array", "items": _NIC}

_DEVICE: Tree = {
    "virtual_name": {"type": "string", "maxLength": 255},
    "volume_id": UUID,
    "snapshot_id": UUID,
    "volume_size": {
        "type": ["integer", "string"],
        "pattern": "^[0-9]+$",
        "minimum": 1,
        "minLength": 1,
        "maximum": 2147483647,
    },
    "device_name": {
        "type": "string",
        "minLength": 1,
        "maxLength": 255,
        "pattern": "^[a-zA-Z0-9._/-]*$",
    },
    "delete_on_termination": BOOLEAN,
    "no_device": {},
    "connection_info": {"type": "string", "maxLength": 16777215},
}
_DEVICE_V1 = closed(_DEVICE)
_DEVICE_V2 = closed(
    {
        **_DEVICE,
        "source_type": {"type": "string", "enum": ["volume", "image", "snapshot", "blank"]},
        "uuid": {
            "type": "string",
            "minLength": 1,
            "maxLength": 255,
            "pattern": "^[a-zA-Z0-9._-]*$",
        },
        "image_id": UUID,
        "destination_type": {"type": "string", "enum": ["local", "volume"]},
        "guest_format": {"type": "string", "maxLength": 255},
        "device_type": {"type": "string", "maxLength": 255},
        "disk_bus": {"type": "string", "maxLength": 255},
        "boot_index": {"type": ["integer", "string", "null"], "pattern": "^-?[0-9]+$"},
        "tag": pick(between(32, 32, DEVICE_TAG), since(42, DEVICE_TAG)),
        "volume_type": since(67, {"type": ["string", "null"], "minLength": 0, "maxLength": 255}),
    }
)

_HINTS: Tree = {
    "type": "object",
    "properties": {
        "group": UUID,
        "different_host": {"anyOf": [UUID, {"type": "array", "items": UUID}]},
        "same_host": {"type": ["string", "array"], "items": UUID},
        "query": {"type": ["string", "object"]},
        "target_cell": NAME,
        "different_cell": {
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]
        },
        "build_near_host_ip": IP,
        "cidr": {"type": "string", "pattern": "^/[0-9a-f.:]+$"},
    },
    "additionalProperties": True,
}

CREATE = Schema(
    {
        "type": "object",
        "properties": {
            "server": closed(
                {
                    "name": NAME,
                    "imageRef": {"anyOf": [UUID, {"type": "string", "maxLength": 0}]},
                    "flavorRef": {"type": ["string", "integer"], "minLength": 1},
                    "adminPass": {"type": "string"},
                    "metadata": METADATA,
                    "networks": pick(
                        until(36, _NICS),
                        since(37, {"anyOf": [_NICS, {"type": "string", "enum": ["none", "auto"]}]}),
                    ),
                    "OS-DCF:diskConfig": DISK_CONFIG,
                    "accessIPv4": IPV4,
                    "accessIPv6": IPV6,
                    "personality": until(56, FILES),
                    "availability_zone": NAME,
                    "block_device_mapping": {"type": "array", "items": _DEVICE_V1},
                    "block_device_mapping_v2": {"type": "array", "items": _DEVICE_V2},
                    "config_drive": BOOLEAN,
                    "key_name": NAME,
                    "min_count": POSITIVE,
                    "max_count": POSITIVE,
                    "return_reservation_id": BOOLEAN,
                    "security_groups": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "properties": {"name": NAME},
                            "additionalProperties": False,
                        },
                    },
                    "user_data": {"type": "string", "format": "base64", "maxLength": 65535},
                    "description": since(19, DESCRIPTION),
                    "tags": since(52, TAGS),
                    "trusted_image_certificates": since(63, TRUSTED_CERTS),
                    "host": since(74, HOST),
                    "hypervisor_hostname": since(74, HOST),
                    "hostname": HOSTNAME,
                },
                "name",
                "flavorRef",
                since(37, "networks"),
            ),
            "os:scheduler_hints": _HINTS,
            "OS-SCH-HNT:scheduler_hints": _HINTS,
        },
        "required": ["server"],
        "additionalProperties": False,
    }
)

UPDATE = Schema(
    closed(
        {
            "server": closed(
                {
                    "name": NAME,
                    "OS-DCF:diskConfig": DISK_CONFIG,
                    "accessIPv4": IPV4,
                    "accessIPv6": IPV6,
                    "description": since(19, DESCRIPTION),
                    "hostname": HOSTNAME,
                    "pinned_availability_zone": since(104, NAME_OR_NONE),
                }
            )
        },
        "server",
    )
)

_MANY: Tree = {"type": "array", "items": {"type": "string"}}
SORT_KEYS = (
    "access_ip_v4", "access_ip_v6", "auto_disk_config", "availability_zone", "config_drive",
    "created_at", "display_description", "display_name", "host", "hostname", "image_ref",
    "instance_type_id", "kernel_id", "key_name", "launch_index", "launched_at", "locked_by", "node",
    "power_state", "progress", "project_id", "ramdisk_id", "root_device_name", "task_state",
    "terminated_at", "updated_at", "user_id", "uuid", "vm_state",
)  # fmt: skip
IGNORED_SORT_KEYS = (
    "architecture", "cell_name", "cleaned", "default_ephemeral_device", "default_swap_device",
    "deleted", "deleted_at", "disable_terminate", "ephemeral_gb", "ephemeral_key_uuid", "id",
    "key_data", "launched_on", "memory_mb", "os_type", "reservation_id", "root_gb",
    "shutdown_terminate", "user_data", "vcpus", "vm_mode",
)  # fmt: skip
"""Before 2.75 clients may name them; nothing is sorted by them."""

_SORT: Tree = {
    "type": "array",
    "items": {
        "type": "string",
        "enum": pick(
            until(74, [*SORT_KEYS, "locked", *IGNORED_SORT_KEYS]),
            since(75, [*SORT_KEYS, "locked"]),
        ),
    },
}

FILTERS = (
    "access_ip_v4", "access_ip_v6", "all_tenants", "auto_disk_config", "availability_zone",
    "config_drive", "created_at", "deleted", "description", "display_description", "display_name",
    "flavor", "host", "hostname", "image", "image_ref", "ip", "ip6", "kernel_id", "key_name",
    "launch_index", "launched_at", "locked_by", "metadata", "name", "node", "power_state",
    "progress", "project_id", "ramdisk_id", "reservation_id", "root_device_name", "soft_deleted",
    "status", "task_state", "tenant_id", "terminated_at", "user_id", "uuid", "vm_state",
    # Taken and not looked at: other tables of Nova's database.
    "block_device_mapping", "info_cache", "pci_devices", "security_groups", "services",
    "system_metadata",
)  # fmt: skip

LIST = Schema(
    {
        "type": "object",
        "properties": {
            **dict.fromkeys(FILTERS, _MANY),
            "limit": {"type": "array", "items": {"type": "string", "pattern": "^[0-9]+$"}},
            "marker": {"type": "array", "items": {"type": "string"}},
            "sort_key": _SORT,
            "sort_dir": {
                "type": "array",
                "items": {"type": "string", "enum": ["asc", "desc", "ASC", "DESC"]},
            },
            "changes-since": single({"type": "string", "minLength": 1}),
            "changes-before": since(66, single({"type": "string", "minLength": 1})),
            "tags": since(26, _MANY),
            "tags-any": since(26, _MANY),
            "not-tags": since(26, _MANY),
            "not-tags-any": since(26, _MANY),
            "locked": since(73, {"type": "array", "items": {"type": "string"}}),
        },
        "patternProperties": {"^_": _MANY},
        "additionalProperties": pick(until(74, True), since(75, False)),
    }
)
