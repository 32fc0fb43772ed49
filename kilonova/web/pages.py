"""Paging and sorting of lists: limit, marker, sort keys, and the link to the next page."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any
from urllib.parse import urlencode

import msgspec

from kilonova.base.errors import BadRequest
from kilonova.web.call import Call, Query


class Page(msgspec.Struct, frozen=True):
    """Which part of a list is wanted: at most ``limit`` items after the item ``marker``."""

    limit: int
    marker: str | None = None


def page(query: Query, *, maximum: int = 1000, default: int | None = None) -> Page:
    """Read ``limit`` and ``marker``; a limit of nothing means ``default`` or ``maximum``.

    A greater limit than ``maximum`` is cut to it. BadRequest unless it is a number from 0.
    """
    text = query.get("limit")
    marker = query.get("marker") or None
    if text is None:
        return Page(min(default or maximum, maximum), marker)
    if not (text.isascii() and text.isdigit()):
        raise BadRequest(f"The query parameter limit must be an integer from 0, not {text[:32]!r}.")
    return Page(min(int(text[:18]), maximum), marker)


def next_href(call: Call[Any], marker: str, *path: str) -> str:
    """The URL of the next page: the present query with ``marker`` in place of the old one.

    ``path`` names the collection under the service's root; the request's own path by default.
    """
    url = call.link(*path) if path else call.base + call.request.scope["path"]
    rows = [(name, value) for name, value in call.query.items() if name != "marker"]
    return f"{url}?{urlencode([*rows, ('marker', marker)])}"


def next_link(call: Call[Any], marker: str, *path: str) -> dict[str, str]:
    """``{"rel": "next", "href": …}``."""
    return {"rel": "next", "href": next_href(call, marker, *path)}


class Sort(msgspec.Struct, frozen=True):
    """One key to sort by."""

    key: str
    descending: bool


def sorting(
    query: Query,
    *,
    allowed: Collection[str] | None = None,
    default: Sequence[Sort] = (Sort("created_at", descending=True), Sort("id", descending=True)),
    aliases: dict[str, str] | None = None,
) -> list[Sort]:
    """Read ``sort_key`` and ``sort_dir`` (each several times) or ``sort=name:asc,id``.

    ``aliases`` map names of the API to keys. Default keys follow the given ones, so that the
    order is total. BadRequest for keys outside ``allowed`` and other directions.
    """
    keys = [key.strip() for key in query.all("sort_key")]
    directions = [word.strip().lower() for word in query.all("sort_dir")]
    for item in query.all("sort"):
        for part in item.split(","):
            key, _, direction = part.strip().partition(":")
            keys.append(key)
            directions.append(direction.lower() or "desc")
    for word in directions:
        if word not in ("asc", "desc"):
            raise BadRequest(f"The sort direction must be asc or desc, not {word[:32]!r}.")
    if len(directions) > max(len(keys), len(default)):
        raise BadRequest("There are more sort directions than sort keys.")
    fill = (
        directions[0] if directions else ("desc" if not default or default[0].descending else "asc")
    )
    result: list[Sort] = []
    for index, key in enumerate(keys):
        name = (aliases or {}).get(key, key)
        if allowed is not None and key not in allowed and name not in allowed:
            raise BadRequest(f"Sorting by {key[:64]!r} is not possible.")
        direction = directions[index] if index < len(directions) else fill
        result.append(Sort(name, direction == "desc"))
    present = {item.key for item in result}
    for index, rest in enumerate(default):
        if rest.key not in present:
            place = len(keys) + index if keys else index
            given = directions[place] if place < len(directions) else None
            if given is None:
                descending = fill == "desc" if directions or keys else rest.descending
            else:
                descending = given == "desc"
            result.append(Sort(rest.key, descending))
    return result
