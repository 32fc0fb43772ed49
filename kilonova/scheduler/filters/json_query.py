"""JsonFilter: the hint ``query``, an expression like ``[">=", "$free_ram_mb", 1024]``."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import msgspec

from kilonova.domain.request import RequestSpec
from kilonova.scheduler.filters.base import Env, host_filter
from kilonova.scheduler.state import HostState

_DEEPEST = 32
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
}


@host_filter("JsonFilter")
def check(host: HostState, request: RequestSpec, _env: Env) -> str | None:
    """Lists are ``[operator, argument …]``; ``$name`` is an attribute of the host."""
    query = request.hints.get("query")
    if isinstance(query, list) and len(query) == 1 and isinstance(query[0], str):
        query = query[0]
    if not query:
        return None
    try:
        tree = msgspec.json.decode(query) if isinstance(query, str) else query
        met = bool(_value(tree, host, _DEEPEST))
    except (msgspec.DecodeError, ValueError, TypeError) as error:
        return f"the query cannot be evaluated: {error}"
    return None if met else "the query is not met"


_JOIN: dict[str, Callable[[list[Any]], Any]] = {
    "not": lambda values: not all(values),
    "or": any,
    "and": all,
    "in": lambda values: bool(values) and values[0] in values[1:],
}


def _value(tree: Any, host: HostState, depth: int) -> Any:
    if not depth:
        raise ValueError("it is nested too deep")
    if isinstance(tree, str) and tree.startswith("$"):
        return _attribute(tree[1:], host)
    if not isinstance(tree, list) or not tree:
        return tree if tree != [] else True
    name, values = tree[0], [_value(part, host, depth - 1) for part in tree[1:]]
    if name in _JOIN:
        return _JOIN[name](values)
    if name not in _COMPARE:
        raise ValueError(f"there is no operator {name!r}")
    compare = _COMPARE[name]
    return bool(values) and None not in values and all(compare(values[0], v) for v in values[1:])


def _attribute(path: str, host: HostState) -> Any:
    first, *rest = path.split(".")
    value: Any = getattr(host, first, None)
    for part in rest:
        value = value.get(part) if isinstance(value, dict) else None
    return value
