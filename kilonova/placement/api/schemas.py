"""The bodies and query strings of the Placement API with the microversions they changed at."""

from __future__ import annotations

from typing import Any

from kilonova.placement.api.validation import Form, QueryForm
from kilonova.web.schema import between, pick, since, until

_MOST = 0x7FFFFFFF
_UUID: dict[str, Any] = {"type": "string", "format": "uuid"}
_UUID_OR_NULL: dict[str, Any] = {"anyOf": [_UUID, {"type": "null"}]}
_CLASS = "^[A-Z0-9_]+$"
_CUSTOM = "^CUSTOM_[A-Z0-9_]+$"
_UUID_KEY = "^[0-9a-fA-F-]{36}$"
_ID: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": 255}
_GENERATION: dict[str, Any] = {"type": "integer"}
SUFFIX = "^([A-Za-z0-9_-]{1,64})?$"


def _object(properties: dict[str, Any], required: list[Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _amount(least: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": least, "maximum": _MOST}


# --- providers, classes, traits, aggregates -------------------------------------------------------

_PROVIDER: dict[str, Any] = {
    "name": {"type": "string", "minLength": 1, "maxLength": 200},
    "parent_provider_uuid": since(14, _UUID_OR_NULL),
}
NEW_PROVIDER = Form(_object({**_PROVIDER, "uuid": _UUID}, ["name"]))
PROVIDER = Form(_object(_PROVIDER, ["name"]))
PROVIDERS_QUERY = QueryForm(
    _object(
        {
            "name": {"type": "string"},
            "uuid": _UUID,
            "member_of": since(3, {"type": "string"}),
            "resources": since(4, {"type": "string"}),
            "in_tree": since(14, _UUID),
            "required": since(18, {"type": "string"}),
        },
        [],
    )
)
CLASS_NAME: dict[str, Any] = {"type": "string", "pattern": _CUSTOM, "maxLength": 255}
RESOURCE_CLASS = Form(_object({"name": CLASS_NAME}, ["name"]))
CLASS_IN_PATH = Form(CLASS_NAME)
TRAITS_QUERY = QueryForm(
    _object({"name": {"type": "string"}, "associated": {"type": "string"}}, [])
)
TRAIT_IN_PATH = Form({"type": "string", "pattern": _CUSTOM, "maxLength": 255})
PROVIDER_TRAITS = Form(
    _object(
        {
            "resource_provider_generation": _GENERATION,
            "traits": {
                "type": "array",
                "items": {"type": "string", "pattern": "^[A-Z0-9_]{1,255}$"},
                "uniqueItems": True,
            },
        },
        ["resource_provider_generation", "traits"],
    )
)
_AGGREGATES: dict[str, Any] = {"type": "array", "items": _UUID, "uniqueItems": True}
AGGREGATES = Form(
    pick(
        until(18, _AGGREGATES),
        since(
            19,
            _object(
                {"resource_provider_generation": _GENERATION, "aggregates": _AGGREGATES},
                ["resource_provider_generation", "aggregates"],
            ),
        ),
    )
)

# --- inventories ----------------------------------------------------------------------------------

_INVENTORY: dict[str, Any] = {
    "total": _amount(1),
    "reserved": _amount(0),
    "min_unit": _amount(1),
    "max_unit": _amount(1),
    "step_size": _amount(1),
    "allocation_ratio": {"type": "number", "maximum": 3.40282e38},
}
_INVENTORIES: dict[str, Any] = {
    "type": "object",
    "patternProperties": {_CLASS: _object(_INVENTORY, ["total"])},
    "additionalProperties": False,
}
NEW_INVENTORY = Form(
    _object(
        {
            **_INVENTORY,
            "resource_provider_generation": _GENERATION,
            "resource_class": {"type": "string", "pattern": _CLASS, "maxLength": 255},
        },
        ["resource_class", "total"],
    )
)
INVENTORY = Form(
    _object(
        {**_INVENTORY, "resource_provider_generation": _GENERATION},
        ["resource_provider_generation", "total"],
    )
)
INVENTORIES = Form(
    _object(
        {"resource_provider_generation": _GENERATION, "inventories": _INVENTORIES},
        ["resource_provider_generation", "inventories"],
    )
)

# --- allocations and usages -----------------------------------------------------------------------

_RESOURCES: dict[str, Any] = {
    "type": "object",
    "minProperties": 1,
    "patternProperties": {_CLASS: {"type": "integer", "minimum": 1, "maximum": _MOST}},
    "additionalProperties": False,
}
_LISTED: dict[str, Any] = {
    "type": "array",
    "minItems": 1,
    "items": _object(
        {"resource_provider": _object({"uuid": _UUID}, ["uuid"]), "resources": _RESOURCES},
        ["resource_provider", "resources"],
    ),
}


def _keyed(least: int) -> dict[str, Any]:
    return {
        "type": "object",
        "minProperties": least,
        "patternProperties": {
            _UUID_KEY: _object(
                {"generation": {"type": "integer"}, "resources": _RESOURCES}, ["resources"]
            )
        },
        "additionalProperties": False,
    }


_CONSUMER: dict[str, Any] = {
    "project_id": since(8, _ID),
    "user_id": since(8, _ID),
    "consumer_generation": since(28, {"type": ["integer", "null"]}),
    "mappings": since(
        34,
        {
            "type": "object",
            "minProperties": 1,
            "patternProperties": {
                SUFFIX: {"type": "array", "minItems": 1, "items": {"type": "string"}}
            },
            "additionalProperties": False,
        },
    ),
    "consumer_type": since(
        38, {"type": "string", "pattern": "^[A-Z0-9_]+$", "minLength": 1, "maxLength": 255}
    ),
}
_CONSUMER_NEEDS: list[Any] = [
    "allocations",
    since(8, "project_id"),
    since(8, "user_id"),
    since(28, "consumer_generation"),
    since(38, "consumer_type"),
]
ALLOCATIONS = Form(
    _object(
        {
            **_CONSUMER,
            "allocations": pick(
                until(11, _LISTED), between(12, 27, _keyed(1)), since(28, _keyed(0))
            ),
        },
        _CONSUMER_NEEDS,
    )
)
_MANY: dict[str, Any] = {
    "type": "object",
    "minProperties": 1,
    "patternProperties": {
        _UUID_KEY: _object({**_CONSUMER, "allocations": _keyed(0)}, _CONSUMER_NEEDS)
    },
    "additionalProperties": False,
}
MANY_ALLOCATIONS = Form(_MANY)
RESHAPE = Form(
    _object(
        {
            "inventories": {
                "type": "object",
                "patternProperties": {
                    _UUID_KEY: _object(
                        {
                            "resource_provider_generation": _GENERATION,
                            "inventories": _INVENTORIES,
                        },
                        ["resource_provider_generation", "inventories"],
                    )
                },
                "additionalProperties": False,
            },
            "allocations": {**_MANY, "minProperties": 0},
        },
        ["inventories", "allocations"],
    )
)
USAGES_QUERY = QueryForm(
    _object({"project_id": _ID, "user_id": _ID, "consumer_type": since(38, _ID)}, ["project_id"])
)

# --- candidates -----------------------------------------------------------------------------------

_TEXT: dict[str, Any] = {"type": "string"}
_NUMBERED = "([1-9][0-9]*)?$"
_NAMED = "([a-zA-Z0-9_-]{1,64})?$"
_POLICY: dict[str, Any] = {"type": "string", "enum": ["none", "isolate"]}
CANDIDATES_QUERY = QueryForm(
    {
        "type": "object",
        "properties": {
            "resources": until(24, _TEXT),
            "limit": since(
                16, {"type": "string", "pattern": "^[1-9][0-9]*$", "minLength": 1, "maxLength": 9}
            ),
            "required": between(17, 24, _TEXT),
            "member_of": between(21, 24, _TEXT),
            "group_policy": since(25, _POLICY),
            "root_required": since(35, _TEXT),
            "same_subtree": since(36, _TEXT),
        },
        "patternProperties": since(
            25,
            {
                f"^resources{_NUMBERED}": until(32, _TEXT),
                f"^required{_NUMBERED}": until(32, _TEXT),
                f"^member_of{_NUMBERED}": until(32, _TEXT),
                f"^in_tree{_NUMBERED}": between(31, 32, _TEXT),
                f"^resources{_NAMED}": since(33, _TEXT),
                f"^required{_NAMED}": since(33, _TEXT),
                f"^member_of{_NAMED}": since(33, _TEXT),
                f"^in_tree{_NAMED}": since(33, _TEXT),
            },
        ),
        "required": [until(24, "resources")],
        "additionalProperties": False,
    }
)
