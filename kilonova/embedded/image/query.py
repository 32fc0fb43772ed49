"""The query string of ``GET /v2/images`` as what the store is asked for."""

from __future__ import annotations

from kilonova.base.errors import BadRequest
from kilonova.embedded.image.records import MEMBER_STATUSES, STATUSES, VISIBILITIES
from kilonova.embedded.image.rules import is_admin
from kilonova.embedded.image.settings import Settings
from kilonova.embedded.image.store.listing import SORT_KEYS, Wanted, Where, moment, split_in
from kilonova.web import pages
from kilonova.web.call import Caller, Query

_OWN_WORDS = frozenset(
    {"limit", "marker", "sort", "sort_key", "sort_dir", "visibility", "member_status", "tag",
     "os_hidden", "size_min", "size_max"}
)  # fmt: skip
_TEXTS = frozenset(
    {"id", "name", "status", "owner", "disk_format", "container_format", "checksum",
     "os_hash_algo", "os_hash_value"}
)  # fmt: skip
_LISTS = frozenset({"id", "name", "status", "disk_format", "container_format"})
_NUMBERS = frozenset({"min_disk", "min_ram", "size", "virtual_size"})
_TIMES = frozenset({"created_at", "updated_at"})


def wanted(query: Query, caller: Caller, settings: Settings) -> Wanted:
    """What the caller asks for; BadRequest."""
    visibility = query.get("visibility")
    if visibility is not None and visibility not in (*VISIBILITIES, "all"):
        raise BadRequest(f"visibility must be one of {', '.join(VISIBILITIES)} or all.")
    member_status = query.get("member_status", "accepted") or ""
    if member_status not in (*MEMBER_STATUSES, "all"):
        raise BadRequest(f"member_status must be one of {', '.join(MEMBER_STATUSES)} or all.")
    part = pages.page(query, maximum=settings.list_limit, default=settings.list_default)
    order = pages.sorting(query, allowed=SORT_KEYS)
    return Wanted(
        project_id=caller.project_id,
        admin=is_admin(caller),
        visibility=visibility,
        member_status=member_status,
        filters=tuple(_filters(query)),
        order=tuple((item.key, item.descending) for item in order),
        limit=part.limit,
        marker=part.marker,
    )


def _filters(query: Query) -> list[Where]:
    found = [Where("os_hidden", "eq", query.flag("os_hidden"))]
    for tag in query.all("tag"):
        found.append(Where("tag", "eq", tag, "tag"))
    for name, how in (("size_min", "gte"), ("size_max", "lte")):
        number = query.number(name)
        if number is not None:
            if number < 0:
                raise BadRequest(f"{name} must not be negative.")
            found.append(Where("size", how, number))
    for name, value in query.items():
        if name not in _OWN_WORDS:
            found.append(_filter(query, name, value))
    return found


def _filter(query: Query, name: str, value: str) -> Where:
    if name in _TIMES:
        return Where(name, *moment(value))
    if name in _NUMBERS:
        return Where(name, "eq", query.number(name))
    if name == "protected":
        return Where(name, "eq", query.flag(name))
    if name not in _TEXTS:
        return Where(name, "eq", value, "property")
    if name in _LISTS and value.startswith("in:"):
        return Where(name, "in", split_in(value[3:]))
    if name == "status" and value not in STATUSES:
        raise BadRequest(f"There is no status {value[:32]!r}.")
    return Where(name, "eq", value)
