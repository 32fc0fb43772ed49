"""Query strings of lists as what the store is asked for."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, TypeVar

import msgspec

from kilonova.base.errors import BadRequest
from kilonova.embedded.volume.app import Volumes
from kilonova.embedded.volume.rules import is_admin
from kilonova.embedded.volume.store.rows import Wanted
from kilonova.web import pages
from kilonova.web.call import Call

T = TypeVar("T")

_BOOLEANS = frozenset({"bootable", "multiattach", "readonly"})
_ALIASES = {
    "display_name": "name",
    "tenant_id": "project_id",
    "project_id": "project_id",
    "volume_type_id": "type_id",
}


def wanted(
    call: Call[Volumes], *, filters: Collection[str], sort_keys: Sequence[str]
) -> tuple[Wanted, pages.Page]:
    """The rows the caller asks for; BadRequest for what cannot be understood.

    Others' rows are seen by administrators with ``all_tenants``. Names ending in ``~`` (3.31)
    look for a part of the value.
    """
    query = call.query
    part = pages.page(query, maximum=call.app.settings.list_limit)
    order = pages.sorting(query, allowed=sort_keys, aliases=_ALIASES)
    equal: dict[str, Any] = {}
    like: list[tuple[str, str]] = []
    everybody = is_admin(call.caller) and query.flag("all_tenants")
    for given, value in query.items():
        name = _ALIASES.get(given, given)
        if given.endswith("~") and call.version >= 34 and given[:-1] in filters:
            like.append((_ALIASES.get(given[:-1], given[:-1]), value))
        elif name == "project_id" and not everybody:
            continue
        elif name in filters or name == "project_id":
            equal[name] = query.flag(given) if name in _BOOLEANS else value
    if not everybody:
        equal["project_id"] = call.caller.project_id
    offset = query.number("offset", 0) or 0
    if offset < 0:
        raise BadRequest("offset must not be negative.")
    found = Wanted(
        equal=tuple(equal.items()),
        metadata=tuple(_pairs(query.get("metadata"))),
        like=tuple(like),
        order=tuple((item.key, item.descending) for item in order),
        limit=part.limit,
        offset=offset,
        marker=part.marker,
    )
    return found, part


def _pairs(text: str | None) -> list[tuple[str, str]]:
    """``{'a': 'b'}``, as the clients write a dictionary into a URL."""
    if not text:
        return []
    try:
        found = msgspec.json.decode(text.replace("'", '"'), type=dict[str, str])
    except msgspec.MsgspecError:
        raise BadRequest("The metadata filter must be a dictionary.") from None
    return list(found.items())


def cut(found: list[T], limit: int) -> tuple[list[T], bool]:
    """The page itself, and whether there is more."""
    return found[:limit], len(found) > limit
