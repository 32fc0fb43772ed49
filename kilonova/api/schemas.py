"""Pieces of JSON Schema that many bodies and queries share."""

from __future__ import annotations

from typing import Any

from kilonova.web.schema import Schema, pick, since, until

Tree = dict[str, Any]

# Printable characters and plain spaces, no space at either end.
_PRINTABLE = r"[^\p{Cc}\p{Cs}\p{Co}\p{Cn}\p{Zl}\p{Zp}]"
NAME: Tree = {
    "type": "string",
    "minLength": 1,
    "maxLength": 255,
    "pattern": rf"^(?!\s){_PRINTABLE}*(?<!\s)$",
}
NAME_OR_NONE: Tree = {
    "anyOf": [{"type": "string", "minLength": 1, "maxLength": 255}, {"type": "null"}]
}
NAME_WITH_SPACES: Tree = {
    "type": "string",
    "minLength": 1,
    "maxLength": 255,
    "pattern": rf"^\s*(?!\s){_PRINTABLE}+\s*$",
}
"""As older interfaces take it: spaces at the ends are cut off, but there must be more."""
DESCRIPTION: Tree = {
    "type": ["string", "null"],
    "minLength": 0,
    "maxLength": 255,
    "pattern": rf"^({_PRINTABLE}|[\r\n\t])*$",
}
UUID: Tree = {"type": "string", "format": "uuid"}
TRUE = ("True", "TRUE", "true", "1", "ON", "On", "on", "YES", "Yes", "yes", "Y", "y", "t")
FALSE = ("False", "FALSE", "false", "0", "OFF", "Off", "off", "NO", "No", "no", "N", "n", "f")
BOOLEAN: Tree = {"type": ["boolean", "string"], "enum": [True, False, *TRUE, *FALSE]}
POSITIVE: Tree = {
    "type": ["integer", "string"],
    "pattern": "^[0-9]+$",
    "minimum": 1,
    "minLength": 1,
}
NOT_NEGATIVE: Tree = {
    "type": ["integer", "string"],
    "pattern": "^[0-9]+$",
    "minimum": 0,
    "minLength": 1,
}
NO_VALUE: Tree = {"type": "null"}
METADATA: Tree = {
    "type": "object",
    "patternProperties": {
        r"^[a-zA-Z0-9-_:. ]{1,255}$": {"type": "string", "maxLength": 255},
    },
    "additionalProperties": False,
}
HOST: Tree = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^[a-zA-Z0-9-._]+$"}
TAG: Tree = {"type": "string", "minLength": 1, "maxLength": 60, "pattern": "^[^,/]*$"}
DEVICE_TAG: Tree = {"type": "string", "minLength": 1, "maxLength": 60, "pattern": "^[^,/]*$"}
TAGS: Tree = {"type": "array", "items": TAG, "maxItems": 50}


LINK: dict[Any, Any] = {"rel": str, "href": str}
"""The form of a link (see `kilonova.web.schema.shape`)."""


def closed(properties: Tree, *required: Any, **more: Any) -> Tree:
    """An object with just these properties."""
    tree: Tree = {"type": "object", "properties": properties, "additionalProperties": False, **more}
    if required:
        tree["required"] = list(required)
    return tree


def body(name: str, tree: Any) -> Schema:
    """A body that is an object with one key."""
    return Schema(closed({name: tree}, name))


def truth(value: Any) -> bool:
    """The meaning of a value that fits `BOOLEAN`."""
    return value if isinstance(value, bool) else value in TRUE


QUERY_NONE = Schema(
    {"type": "object", "properties": {}, "additionalProperties": True},
)
"""Any query string, of which nothing is read."""


def no_query(first: int = 102) -> Schema:
    """Any query string before minor version ``first``, none from then on."""
    return Schema(
        {
            "type": "object",
            "properties": {},
            "additionalProperties": pick(until(first - 1, True), since(first, False)),
        }
    )
