"""Lists: filters and pages from the query string, and the links around them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from kilonova.base.errors import BadRequest
from kilonova.embedded.identity.app import Identity
from kilonova.embedded.identity.store import rows
from kilonova.embedded.identity.store.rows import Part, Where
from kilonova.embedded.identity.views import Link, View
from kilonova.web import pages
from kilonova.web.call import Call

T = TypeVar("T")


def filters(call: Call[Identity], table: rows.Table, names: Sequence[str]) -> list[Where]:
    """The filters of the query string on ``names``: ``name=x``, ``name__icontains=x``.

    ``enabled`` is false for ``0`` and ``false``, true for anything else; an empty or ``null``
    value means: has none.
    """
    return rows.given(table, call.query.items(), names)


def part(call: Call[Identity]) -> Part:
    """``limit`` and ``marker`` of the query string; BadRequest."""
    found = pages.page(call.query, maximum=call.app.settings.list_limit)
    if call.query.get("limit") is not None and found.limit == 0:
        raise BadRequest("The query parameter limit must be greater than 0.")
    return Part(found.limit, found.marker)


def answer(
    call: Call[Identity],
    key: str,
    items: Sequence[T],
    view: Callable[[T, Link], View],
    limit: int | None = None,
) -> View:
    """``{key: […], "links": {…}}``; with more than ``limit`` items a next link."""
    shown = items if limit is None else items[:limit]
    links: dict[str, Any] = {"next": None, "self": self_link(call), "previous": None}
    body: View = {"links": links, key: [view(item, call.link) for item in shown]}
    if len(shown) < len(items):
        links["next"] = pages.next_href(call, _id_of(shown[-1]))
        body["truncated"] = True
    return body


def self_link(call: Call[Identity]) -> str:
    """The URL of the present request."""
    url = call.base + str(call.request.scope["path"])
    return f"{url}?{call.query.raw}" if call.query.raw else url


def _id_of(item: Any) -> str:
    return str((item[0] if isinstance(item, tuple) else item).id)
