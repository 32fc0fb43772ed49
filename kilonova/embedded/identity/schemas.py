"""JSON schemas of the bodies the Identity API takes."""

from __future__ import annotations

from typing import Any

from kilonova.web.schema import Schema

Tree = dict[str, Any]

ID: Tree = {"type": "string", "pattern": r"^[a-zA-Z0-9-]+$", "minLength": 1, "maxLength": 64}
ID_OR_NULL: Tree = {**ID, "type": ["string", "null"]}
REGION_ID: Tree = {"type": "string", "maxLength": 255}
NAME: Tree = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"\S"}
SHORT_NAME: Tree = {**NAME, "maxLength": 64}
TEXT: Tree = {"type": ["string", "null"], "maxLength": 65535}
BOOL: Tree = {"type": "boolean"}
PASSWORD: Tree = {"type": ["string", "null"], "maxLength": 4096}
SECRET: Tree = {"type": "string", "maxLength": 4096}
URL: Tree = {"type": "string", "minLength": 1, "maxLength": 2048, "pattern": r"^[a-zA-Z0-9+.-]+:.+"}
OPTIONS: Tree = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "immutable": {"type": ["boolean", "null"]},
        "ignore_change_password_upon_first_use": {"type": ["boolean", "null"]},
        "ignore_password_expiry": {"type": ["boolean", "null"]},
        "ignore_lockout_failure_attempts": {"type": ["boolean", "null"]},
        "ignore_user_inactivity": {"type": ["boolean", "null"]},
        "lock_password": {"type": ["boolean", "null"]},
        "multi_factor_auth_enabled": {"type": ["boolean", "null"]},
        "multi_factor_auth_rules": {"type": ["array", "null"]},
    },
}
TAG: Tree = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^[^,/]*$"}
TAGS: Tree = {"type": "array", "items": TAG, "maxItems": 80, "uniqueItems": True}


def _body(key: str, properties: Tree, *required: str, least: int = 0) -> Schema:
    inner: Tree = {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": True,
        "maxProperties": 100,
    }
    if least:
        inner["minProperties"] = least
    return Schema(
        {
            "type": "object",
            "properties": {key: inner},
            "required": [key],
            "additionalProperties": False,
        }
    )


def _pair(key: str, properties: Tree, *required: str) -> tuple[Schema, Schema]:
    """The schemas of creating and of changing a thing."""
    return _body(key, properties, *required), _body(key, properties, least=1)


_NAMED: Tree = {"type": "object", "properties": {"id": ID, "name": SHORT_NAME}, "minProperties": 1}
_AUTH_USER: Tree = {"id": ID, "name": NAME, "domain": _NAMED}

TOKEN = Schema(
    {
        "type": "object",
        "required": ["auth"],
        "properties": {
            "auth": {
                "type": "object",
                "required": ["identity"],
                "properties": {
                    "identity": {
                        "type": "object",
                        "required": ["methods"],
                        "properties": {
                            "methods": {
                                "type": "array",
                                "items": {"type": "string", "maxLength": 64},
                                "minItems": 1,
                                "maxItems": 8,
                            },
                            "password": {
                                "type": "object",
                                "required": ["user"],
                                "properties": {
                                    "user": {
                                        "type": "object",
                                        "required": ["password"],
                                        "properties": {**_AUTH_USER, "password": SECRET},
                                    }
                                },
                            },
                            "token": {
                                "type": "object",
                                "required": ["id"],
                                "properties": {"id": {"type": "string", "maxLength": 16384}},
                            },
                            "application_credential": {
                                "type": "object",
                                "required": ["secret"],
                                "properties": {
                                    "id": ID,
                                    "name": NAME,
                                    "secret": SECRET,
                                    "user": {"type": "object", "properties": _AUTH_USER},
                                },
                            },
                        },
                    },
                    "scope": {
                        "anyOf": [
                            {"const": "unscoped"},
                            {
                                "type": "object",
                                "additionalProperties": False,
                                "minProperties": 1,
                                "properties": {
                                    "project": {
                                        "type": "object",
                                        "properties": {
                                            "id": ID,
                                            "name": SHORT_NAME,
                                            "domain": _NAMED,
                                        },
                                        "minProperties": 1,
                                    },
                                    "domain": _NAMED,
                                    "system": {
                                        "type": "object",
                                        "properties": {"all": {"const": True}},
                                        "required": ["all"],
                                    },
                                    "unscoped": {"type": "object"},
                                },
                            },
                        ]
                    },
                },
            }
        },
    }
)

DOMAIN, DOMAIN_CHANGE = _pair(
    "domain",
    {
        "name": SHORT_NAME,
        "description": TEXT,
        "enabled": BOOL,
        "tags": TAGS,
        "options": OPTIONS,
        "explicit_domain_id": {**ID, "pattern": "^[a-f0-9]{32}$"},
    },
    "name",
)
PROJECT, PROJECT_CHANGE = _pair(
    "project",
    {
        "name": SHORT_NAME,
        "description": TEXT,
        "domain_id": ID_OR_NULL,
        "parent_id": ID_OR_NULL,
        "enabled": BOOL,
        "is_domain": BOOL,
        "tags": TAGS,
        "options": OPTIONS,
    },
    "name",
)
PROJECT_TAGS = Schema(
    {
        "type": "object",
        "properties": {"tags": TAGS},
        "required": ["tags"],
        "additionalProperties": False,
    }
)
USER, USER_CHANGE = _pair(
    "user",
    {
        "name": NAME,
        "domain_id": ID,
        "default_project_id": ID_OR_NULL,
        "description": TEXT,
        "enabled": BOOL,
        "password": PASSWORD,
        "options": OPTIONS,
        "federated": {"type": "array", "maxItems": 0},
    },
    "name",
)
PASSWORD_CHANGE = _body(
    "user", {"original_password": SECRET, "password": SECRET}, "original_password", "password"
)
GROUP, GROUP_CHANGE = _pair(
    "group", {"name": SHORT_NAME, "domain_id": ID, "description": TEXT}, "name"
)
ROLE, ROLE_CHANGE = _pair(
    "role",
    {"name": NAME, "domain_id": ID_OR_NULL, "description": TEXT, "options": OPTIONS},
    "name",
)
REGION, REGION_CHANGE = _pair(
    "region",
    {
        "id": {"type": ["string", "null"], "maxLength": 255, "pattern": r"^[^/]*$"},
        "description": TEXT,
        "parent_region_id": {"type": ["string", "null"], "maxLength": 255},
    },
)
SERVICE, SERVICE_CHANGE = _pair(
    "service",
    {
        "type": NAME,
        "name": {**NAME, "minLength": 0, "pattern": ""},
        "enabled": BOOL,
        "description": TEXT,
    },
    "type",
)
ENDPOINT, ENDPOINT_CHANGE = _pair(
    "endpoint",
    {
        "service_id": ID,
        "interface": {"enum": ["admin", "internal", "public"]},
        "url": URL,
        "region": {"type": ["string", "null"], "maxLength": 255},
        "region_id": {"type": ["string", "null"], "maxLength": 255},
        "enabled": BOOL,
        "name": {"type": "string", "maxLength": 255},
        "description": TEXT,
    },
    "service_id",
    "interface",
    "url",
)
APPLICATION_CREDENTIAL = _body(
    "application_credential",
    {
        "id": ID,
        "name": NAME,
        "description": TEXT,
        "secret": {"type": ["string", "null"], "minLength": 1, "maxLength": 4096},
        "expires_at": {"type": ["string", "null"], "maxLength": 64},
        "project_id": ID_OR_NULL,
        "unrestricted": {"type": ["boolean", "null"]},
        "roles": {
            "type": "array",
            "maxItems": 200,
            "items": {
                "type": "object",
                "properties": {"id": ID, "name": NAME},
                "minProperties": 1,
            },
        },
        "access_rules": {"type": "array"},
    },
    "name",
)
CREDENTIAL, CREDENTIAL_CHANGE = _pair(
    "credential",
    {
        "user_id": ID,
        "project_id": ID_OR_NULL,
        "type": NAME,
        "blob": {"type": "string", "maxLength": 65535},
    },
    "type",
    "blob",
)
EC2_CREDENTIAL = Schema(
    {
        "type": "object",
        "properties": {"tenant_id": ID},
        "required": ["tenant_id"],
        "additionalProperties": False,
    }
)

_AMOUNT: Tree = {"type": "integer", "minimum": -1, "maximum": 2147483647}
_RESOURCE: Tree = {
    "service_id": ID,
    "region_id": {"type": ["string", "null"], "maxLength": 255},
    "resource_name": NAME,
    "description": TEXT,
}
_REGISTERED: Tree = {**_RESOURCE, "default_limit": _AMOUNT}
_LIMIT: Tree = {
    **_RESOURCE,
    "project_id": ID_OR_NULL,
    "domain_id": ID_OR_NULL,
    "resource_limit": _AMOUNT,
}


def _many(key: str, properties: Tree, *required: str) -> Schema:
    item = {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }
    items = {"type": "array", "items": item, "minItems": 1, "maxItems": 500}
    return Schema(
        {
            "type": "object",
            "properties": {key: items},
            "required": [key],
            "additionalProperties": False,
        }
    )


def _change(key: str, properties: Tree) -> Schema:
    inner = {
        "type": "object",
        "properties": properties,
        "minProperties": 1,
        "additionalProperties": False,
    }
    return Schema({"type": "object", "properties": {key: inner}, "required": [key]})


REGISTERED_LIMITS = _many(
    "registered_limits", _REGISTERED, "service_id", "resource_name", "default_limit"
)
REGISTERED_LIMIT_CHANGE = _change("registered_limit", _REGISTERED)
LIMITS = _many("limits", _LIMIT, "service_id", "resource_name", "resource_limit")
LIMIT_CHANGE = _change("limit", {"resource_limit": _AMOUNT, "description": TEXT})
