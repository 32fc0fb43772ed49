"""Changing an image by a list of operations (``application/openstack-images-v2.1-json-patch``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from kilonova.base.errors import BadRequest, Conflict, Forbidden
from kilonova.embedded.image.records import Image
from kilonova.embedded.image.schemas import CHECK_IMAGE, READ_ONLY, RESERVED, WRITABLE

MEDIA_TYPES = (
    "application/openstack-images-v2.1-json-patch",
    "application/openstack-images-v2.0-json-patch",
)
_HIDDEN_PREFIX = "os_glance"
_FORMATS = ("disk_format", "container_format")

Allow = Callable[[str], None]


class Operation(msgspec.Struct, frozen=True):
    """One change of one attribute or property."""

    op: str
    name: str
    value: Any = None


def parse(body: Any) -> list[Operation]:
    """Operations of either form of the media type; BadRequest."""
    if not isinstance(body, list):
        raise BadRequest("The body must be a list of operations.")
    return [_operation(item) for item in body]


def apply(image: Image, operations: Sequence[Operation], allow: Allow) -> Image:
    """The changed image; ``allow`` raises Forbidden for rules the caller lacks.

    BadRequest for wrong values, Forbidden for what cannot be changed, Conflict for properties
    that are not there.
    """
    for operation in operations:
        name = operation.name
        if name in READ_ONLY or name == "id":
            raise Forbidden(f"Attribute '{name}' is read-only.")
        if name in RESERVED or name.startswith(_HIDDEN_PREFIX):
            raise Forbidden(f"Attribute '{name}' is reserved.")
        if name in WRITABLE:
            image = _set_attribute(image, operation, allow)
        else:
            image = _set_property(image, operation)
    return image


def check_properties(properties: dict[str, str], most: int) -> None:
    """Forbidden for reserved names, TooLarge beyond ``most``."""
    for name in properties:
        if name in READ_ONLY:
            raise Forbidden(f"Attribute '{name}' is read-only.")
        if name in RESERVED or name.startswith(_HIDDEN_PREFIX):
            raise Forbidden(f"Attribute '{name}' is reserved.")
    if len(properties) > most:
        raise BadRequest(f"An image has at most {most} properties.")


def _operation(item: Any) -> Operation:
    if not isinstance(item, dict):
        raise BadRequest("Each operation must be an object.")
    if "op" in item:
        op, path = item["op"], item.get("path")
    else:
        # The older form names the operation by its key.
        op = next((word for word in ("add", "replace", "remove") if word in item), None)
        path = item.get(op) if op else None
    if op not in ("add", "replace", "remove"):
        raise BadRequest("An operation must be add, replace or remove.")
    if not isinstance(path, str) or not path.startswith("/"):
        raise BadRequest("The path of an operation must start with a slash.")
    name = path[1:].rstrip("/")
    if not name or "/" in name or len(name) > 255 or _bad_escape(name):
        raise BadRequest(f"The path {path[:128]!r} names no attribute of an image.")
    if op != "remove" and "value" not in item:
        raise BadRequest(f"The operation {op} needs a value.")
    name = name.replace("~1", "/").replace("~0", "~")
    return Operation(op, name, item.get("value"))


def _bad_escape(name: str) -> bool:
    return "~" in name.replace("~0", "").replace("~1", "")


def _set_attribute(image: Image, operation: Operation, allow: Allow) -> Image:
    name, value = operation.name, operation.value
    if operation.op == "remove":
        raise Forbidden(f"Attribute '{name}' may not be removed.")
    CHECK_IMAGE.check({name: value}, 0)
    if name in _FORMATS and image.status != "queued" and value != getattr(image, name):
        raise Forbidden(f"Attribute '{name}' can only be changed while the image is queued.")
    if name == "owner" and value != image.owner:
        allow("set_owner")
    if name == "visibility" and value != image.visibility:
        if value == "public":
            allow("publicize_image")
        elif value == "community":
            allow("communitize_image")
    if name == "tags":
        value = tuple(dict.fromkeys(value))
    return msgspec.structs.replace(image, **{name: value})


def _set_property(image: Image, operation: Operation) -> Image:
    name = operation.name
    properties = dict(image.properties)
    if operation.op != "add" and name not in properties:
        raise Conflict(f"The image has no property {name}.")
    if operation.op == "remove":
        del properties[name]
    else:
        CHECK_IMAGE.check({name: operation.value}, 0)
        properties[name] = operation.value
    return msgspec.structs.replace(image, properties=properties)
