"""What an answer costs: SQL statements, and calls of neighbouring services."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kilonova.db.database import counted
from kilonova.web.routes import Api
from kilonova.web.testing import Client


class Watched:
    """Passes everything on to ``inner`` and notes the names of the methods called."""

    def __init__(self, inner: Any, calls: list[str]) -> None:
        self._inner = inner
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not callable(found):
            return found

        def noted(*args: Any, **kwargs: Any) -> Any:
            self._calls.append(f"{type(self._inner).__name__}.{name}")
            return found(*args, **kwargs)

        return noted


async def cost(client: Client, path: str, calls: list[str] | None = None) -> tuple[list[str], Any]:
    """Statements (and ``calls`` noted) of the second GET of a path, and its JSON.

    The first one may fill caches that stay.
    """
    await client.get(path)
    if calls is not None:
        calls.clear()
    with counted() as statements:
        answer = await client.get(path)
    assert answer.status == 200, (path, answer.status, answer.text[:300])
    return [*statements, *(calls or ())], answer.json()


def length(body: Any) -> int:
    """How many things an answer holds: the longest list or table in it."""
    if isinstance(body, list):
        return max([len(body), *map(length, body)])
    if isinstance(body, dict):
        return max([len(body), *map(length, body.values())])
    return 0


def lists(api: Api[Any]) -> set[str]:
    """The paths that may answer with many things: GET, not ending in one thing's name."""
    return {
        route.path
        for route in api.routes
        if route.method == "GET" and route.rooted and not route.gone
        if not route.path.endswith("}")
    }


def unlisted(api: Api[Any], known: Iterable[str], single: Iterable[str]) -> set[str]:
    """Paths that stand in neither table, or in one without need."""
    return lists(api) ^ {*known, *single}


def same(few: dict[str, list[str]], many: dict[str, list[str]]) -> dict[str, list[str]]:
    """Path → what the greater number costs beyond the smaller one."""
    found = {}
    for path, statements in many.items():
        if len(statements) != len(few[path]):
            rest = list(statements)
            for statement in few[path]:
                if statement in rest:
                    rest.remove(statement)
            found[path] = [f"{len(few[path])} → {len(statements)}", *rest[:3]]
    return found


async def costs(
    client: Client, paths: Iterable[str], names: dict[str, str]
) -> tuple[dict[str, list[str]], dict[str, int]]:
    """Path → statements; path → how many things were told."""
    found, lengths = {}, {}
    for path in paths:
        found[path], body = await cost(client, path.format(**names))
        lengths[path] = length(body)
    return found, lengths
