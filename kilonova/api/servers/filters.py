"""From the query string of ``GET /servers`` to a `ServerFilter` and an order; pure."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

import msgspec

from kilonova.api.schemas import FALSE, TRUE
from kilonova.api.servers.schema import IGNORED_SORT_KEYS
from kilonova.base.errors import BadRequest, Forbidden
from kilonova.domain import states
from kilonova.domain.states import VmState
from kilonova.store.lists import Order, ServerFilter
from kilonova.web.call import Query
from kilonova.web.pages import Sort, sorting

FOR_ALL = {
    "reservation_id": 0, "name": 0, "status": 0, "image": 0, "flavor": 0, "ip": 0, "ip6": 5,
    "changes-since": 0, "changes-before": 66, "all_tenants": 0, "tags": 26, "tags-any": 26,
    "not-tags": 26, "not-tags-any": 26, "locked": 73, "availability_zone": 83, "config_drive": 83,
    "key_name": 83, "created_at": 83, "launched_at": 83, "terminated_at": 83, "power_state": 83,
    "task_state": 83, "vm_state": 83, "progress": 83, "user_id": 83,
}  # fmt: skip
"""Filter → the first minor version at which everybody may use it."""

_EQUAL = {
    "host": "host", "node": "node", "uuid": "uuid", "user_id": "user_id",
    "reservation_id": "reservation_id", "availability_zone": "availability_zone",
    "key_name": "key_name", "hostname": "hostname", "task_state": "task_state",
    "vm_state": "vm_state", "locked_by": "locked_by", "access_ip_v4": "access_ip_v4",
    "access_ip_v6": "access_ip_v6", "root_device_name": "root_device",
}  # fmt: skip
_NUMBERS = {"power_state": "power_state", "progress": "progress", "launch_index": "launch_index"}
_TIMES = ("created_at", "launched_at", "terminated_at")
_PATTERNS = {
    "name": "name",
    "display_name": "name",
    "description": "description",
    "display_description": "description",
}
_ORDER = {
    "display_name": "name",
    "display_description": "description",
    "root_device_name": "root_device",
    "locked": "locked_by",
    "image_ref": "image_id",
    "instance_type_id": "flavor_id",
}
_NOT_KEPT = {"kernel_id", "ramdisk_id", *IGNORED_SORT_KEYS}
_FOR_ADMINS = ("host", "node")


def order(query: Query, *, admin: bool = True) -> list[Order]:
    """The keys to sort by; always total. Forbidden for a user who sorts by hosts."""
    for key in query.all("sort_key"):
        if key in _FOR_ADMINS and not admin:
            raise Forbidden(f"Only administrators can sort servers by {key}")
    default = (Sort("created_at", descending=True), Sort("uuid", descending=True))
    found = sorting(query, default=default, aliases=_ORDER)
    return [Order(item.key, item.descending) for item in found if item.key not in _NOT_KEPT]


def all_tenants(query: Query) -> bool:
    """Whether servers of every project are asked for; an empty value means yes."""
    value = query.get("all_tenants")
    if value is None:
        return False
    return True if value == "" else _flag("all_tenants", value)


def filters(
    query: Query, version: int, *, project_id: str | None, everything: bool, admin: bool
) -> ServerFilter | None:
    """What the query asks for; None when nothing can match.

    ``project_id`` None: every project. ``everything``: filters not meant for users count too.
    Forbidden for a user who asks for deleted servers.
    """
    known = {
        name: query.all(name) for name in query if everything or FOR_ALL.get(name, 1000) <= version
    }

    def last(name: str) -> str | None:
        return known[name][-1] if name in known else None

    values: dict[str, Any] = {"project_id": project_id}
    if project_id is None:
        wanted = last("project_id") or last("tenant_id")
        values["project_id"] = wanted or None
    equal: dict[str, tuple[Any, ...]] = {
        column: (known[name][-1] or None,) for name, column in _EQUAL.items() if name in known
    }
    for name, column in _NUMBERS.items():
        if name in known:
            equal[column] = (_number(name, known[name][-1]),)
    for name in _TIMES:
        if name in known:
            equal[name] = (instant(name, known[name][-1]),)
    if "config_drive" in known:
        equal["config_drive"] = (_flag("config_drive", known["config_drive"][-1] or "false"),)
    if "auto_disk_config" in known:
        equal["auto_disk_config"] = (_flag("auto_disk_config", known["auto_disk_config"][-1]),)
    values["equal"] = equal
    values["patterns"] = {
        column: _pattern(name, known[name][-1])
        for name, column in _PATTERNS.items()
        if name in known
    }
    values["addresses"] = tuple(
        (number, _pattern(name, known[name][-1]))
        for name, number in (("ip", 4), ("ip6", 6))
        if name in known
    )
    if known.get("metadata"):
        values["metadata"] = _items(known["metadata"][-1])
    values["image_id"] = last("image") or last("image_ref")
    values["flavor_id"] = last("flavor")
    for name, field in (
        ("tags", "tags_all"),
        ("tags-any", "tags_any"),
        ("not-tags", "tags_not_all"),
        ("not-tags-any", "tags_not_any"),
    ):
        if name in known:
            values[field] = tuple(tag for tag in known[name][-1].split(",") if tag)
    if "locked" in known and version >= 73:
        values["locked"] = _flag("locked", known["locked"][-1])
    _times(values, last)
    return _deleted(values, known, version, admin=admin)


def _times(values: dict[str, Any], last: Any) -> None:
    since, before = last("changes-since"), last("changes-before")
    if since is not None:
        values["changes_since"] = instant("changes-since", since)
    if before is not None:
        values["changes_before"] = whole_second("changes-before", before)
    if since and before and values["changes_since"] > values["changes_before"]:
        raise BadRequest("The value of changes-since must be less than or equal to changes-before.")


def _deleted(
    values: dict[str, Any], known: dict[str, list[str]], version: int, *, admin: bool
) -> ServerFilter | None:
    changes = "changes_since" in values or "changes_before" in values
    values["deleted"] = None if changes else False
    if "deleted" in known:
        values["deleted"] = _flag("deleted", known["deleted"][-1] or "true")
    if "soft_deleted" in known and _flag("soft_deleted", known["soft_deleted"][-1] or "true"):
        values["equal"]["vm_state"] = (str(VmState.SOFT_DELETED),)
    if "status" in known:
        found: list[tuple[str, tuple[str, ...] | None, tuple[str, ...]]] = []
        for word in known["status"]:
            found.extend(_status(word, version))
        if not found:
            return None
        if any(vm_state == VmState.DELETED for vm_state, _, _ in found):
            if not admin:
                raise Forbidden("Only administrators may list deleted instances")
            values["deleted"] = True if len(found) == 1 else None
        values["states"] = tuple(found)
    return ServerFilter(**values)


def _status(word: str, version: int) -> list[tuple[str, tuple[str, ...] | None, tuple[str, ...]]]:
    pairs = states.of_status(word)
    if not pairs and version >= 38:
        raise BadRequest(f"Invalid status value: {word[:64]!r}")
    found: list[tuple[str, tuple[str, ...] | None, tuple[str, ...]]] = []
    for vm_state, tasks in pairs:
        if tasks is None:
            found.append((vm_state, None, states.special_tasks(vm_state)))
        else:
            found.append((vm_state, tuple(task for task in tasks if task), ()))
    return found


def _flag(name: str, value: str) -> bool:
    if value in TRUE or value in ("T",):
        return True
    if value in FALSE or value in ("F",):
        return False
    raise BadRequest(f"Invalid boolean value for {name}: {value[:64]!r}")


def _number(name: str, value: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,9}", value):
        raise BadRequest(f"The filter {name} must be an integer, not {value[:64]!r}.")
    return int(value)


def _items(value: str) -> tuple[tuple[str, str], ...]:
    try:
        return tuple(msgspec.json.decode(value, type=dict[str, str]).items())
    except msgspec.DecodeError:
        raise BadRequest("The filter metadata must be a JSON object of texts.") from None


def _pattern(name: str, value: str) -> str:
    try:
        re.compile(value)
    except (re.error, RecursionError):
        raise BadRequest(f"The filter {name} is not a valid regular expression.") from None
    return value


def whole_second(name: str, value: str) -> dt.datetime:
    """The end of the second: what clients are shown, and give back, is cut to seconds."""
    found = instant(name, value)
    return found if found.microsecond else found.replace(microsecond=999_999)


def instant(name: str, value: str) -> dt.datetime:
    """A time of the query string (ISO 8601, UTC where it names no zone); BadRequest."""
    try:
        when = dt.datetime.fromisoformat(value.strip().replace(" ", "+") if "T" in value else value)
    except ValueError:
        raise BadRequest(f"Invalid {name} value: {value[:64]!r} is not an ISO 8601 time.") from None
    return when if when.tzinfo else when.replace(tzinfo=dt.UTC)
