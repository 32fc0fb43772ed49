"""What describes a resource of the network API: attributes and kinds, and their schemas."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from kilonova.web.schema import Schema, answers, relax

REQUIRED: Any = object()
COMPUTED: Any = object()
ADMIN = "admin"

TEXT = {"type": ["string", "null"], "maxLength": 255}
FLAG = {
    "anyOf": [
        {"type": "boolean"},
        {"enum": ["true", "True", "false", "False", "0", "1", 0, 1]},
    ]
}
UUID = {"type": "string", "maxLength": 64, "pattern": "^[0-9a-fA-F-]{1,64}$"}
UUID_OR_NONE = {"anyOf": [UUID, {"type": "null"}]}
UUIDS = {"type": ["array", "null"], "items": UUID, "maxItems": 1000}
DNS_NAME = {
    "anyOf": [
        {"type": "null"},
        {"enum": [""]},
        {
            "type": "string",
            "maxLength": 255,
            "pattern": (
                r"^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
                r"(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$"
            ),
        },
    ]
}
DNS_DOMAIN = {
    "anyOf": [
        {"type": "null"},
        {"type": "string", "maxLength": 255, "pattern": "^([A-Za-z0-9_-]{1,63}\\.?)*$"},
    ]
}
WHOLE = {"anyOf": [{"type": "integer"}, {"type": "string", "pattern": "^-?[0-9]{1,9}$"}]}
ROUTES = {
    "type": ["array", "null"],
    "maxItems": 100,
    "items": {
        "type": "object",
        "properties": {
            "destination": {"type": "string", "maxLength": 64},
            "nexthop": {"type": "string", "maxLength": 64},
        },
        "required": ["destination", "nexthop"],
        "additionalProperties": False,
    },
}


class Attr(msgspec.Struct, frozen=True):
    """An attribute: its JSON schema, where it may be given, its default and how it is kept.

    ``default``: REQUIRED, COMPUTED (by the handler when absent), or a value. ``post`` and ``put``
    say who may give it: True, False or ADMIN. ``column`` is the table's, when named otherwise.
    """

    name: str
    schema: dict[str, Any] = msgspec.field(default_factory=lambda: TEXT)
    default: Any = COMPUTED
    post: bool | str = True
    put: bool | str = True
    column: str = ""
    hidden: str = ""


class Kind(msgspec.Struct, frozen=True):
    """A resource: its names in bodies and paths, its table and attributes."""

    name: str
    plural: str
    table: sa.Table
    attrs: tuple[Attr, ...]
    path: str = ""
    missing: str = ""

    @property
    def title(self) -> str:
        """The name in sentences."""
        return {"floatingip": "Floating IP", "subnetpool": "Subnet pool"}.get(
            self.name, self.name.replace("_", " ").capitalize()
        )

    @property
    def url(self) -> str:
        """The collection's path component."""
        return self.path or self.plural.replace("_", "-")

    def body(self, verb: str) -> Schema:
        """The schema of a create (``post``, one or many at once) or update (``put``) body."""
        given = {
            a.name: a.schema
            for a in self.attrs
            if (a.post if verb == "post" else a.put) is not False
        }
        if "project_id" in given:
            given["tenant_id"] = given["project_id"]
        one: dict[str, Any] = {
            "type": "object",
            "properties": given,
            "additionalProperties": False,
        }
        if verb == "post":
            one["required"] = [a.name for a in self.attrs if a.default is REQUIRED]
        tree: dict[str, Any] = {
            "type": "object",
            "properties": {self.name: one},
            "required": [self.name],
            "additionalProperties": False,
        }
        if verb == "post":
            many = {
                "type": "object",
                "properties": {
                    self.plural: {"type": "array", "items": one, "minItems": 1, "maxItems": 200}
                },
                "required": [self.plural],
                "additionalProperties": False,
            }
            tree = {"oneOf": [tree, many]}
        return Schema(tree)

    def answer(self, *, several: bool = False) -> Schema:
        """The form of an answer with one (``several``: many); clients may choose its fields.

        What other tables add to a document is not among the properties.
        """
        given = {
            a.name: {"anyOf": [relax(a.schema), {"type": "null"}]}
            if a.default is COMPUTED
            else relax(a.schema)
            for a in self.attrs
        }
        one = {"type": "object", "properties": {**given, "tenant_id": TEXT}}
        return answers(**{self.plural: [one]}) if several else answers(**{self.name: one})

    def view(self, row: Any, *, admin: bool, more: dict[str, Any] | None = None) -> dict[str, Any]:
        """A row as its document."""
        values = row._mapping if hasattr(row, "_mapping") else row
        doc: dict[str, Any] = {}
        for attr in self.attrs:
            key = attr.column or attr.name
            if attr.hidden == ADMIN and not admin:
                continue
            if key in values:
                doc[attr.name] = values[key]
        if "project_id" in doc:
            doc["tenant_id"] = doc["project_id"]
        if more:
            doc |= more
        return doc


def flag(value: Any) -> bool:
    """A boolean however it was spelled."""
    return value in (True, 1, "1") or str(value).lower() == "true"
