"""Schemas whose failures are worded the way Placement's clients know from its JSON validator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jsonschema_rs

from kilonova.base.errors import BadRequest
from kilonova.web.call import Query
from kilonova.web.schema import Compiled, Schema

_LONGEST = 400


class Form(Schema):
    """A body schema."""

    def check(self, instance: Any, version: int, *, relaxed: bool = False) -> Any:
        """The instance; BadRequest unless it fits at that version."""
        compiled = self.at(version)
        if compiled is not None and not compiled.is_valid(instance):
            raise BadRequest(f"JSON does not validate: {explain(compiled, instance)}")
        return instance


class QueryForm(Schema):
    """A query schema over name → one value, checked for each value that is given."""

    def check_query(self, query: Query, version: int, *, relaxed: bool = False) -> None:
        """BadRequest unless every parameter fits at that version."""
        compiled = self.at(version)
        if compiled is None:
            return
        lists = query.lists()
        rounds = max((len(values) for values in lists.values()), default=1)
        for turn in range(rounds):
            given = {name: values[min(turn, len(values) - 1)] for name, values in lists.items()}
            if not compiled.is_valid(given):
                raise BadRequest(f"Invalid query string parameters: {explain(compiled, given)}")


def explain(compiled: Compiled, instance: Any) -> str:
    """The first failure: what is wrong, and which keyword of the schema says so.

    All on one line, for the command-line client shows the last line of a message only.
    """
    error = next(compiled.failures(instance))
    path = list(error.schema_path)
    where = "".join(f"['{part}']" for part in path[:-1])
    return f"{_sentence(error, compiled.tree)} - Failed validating '{path[-1]}' in schema{where}"


def _closed(error: jsonschema_rs.ValidationError, tree: Any) -> str:
    for part in list(error.schema_path)[:-1]:
        tree = tree[part]
    kind: Any = error.kind
    names = ", ".join(repr(name) for name in sorted(kind.unexpected))
    patterns = ", ".join(repr(pattern) for pattern in sorted(tree.get("patternProperties", ())))
    one = len(kind.unexpected) == 1
    if patterns:
        return f"{names} {'does' if one else 'do'} not match any of the regexes: {patterns}"
    verb = "was" if one else "were"
    return f"Additional properties are not allowed ({names} {verb} unexpected)"


def _sentence(error: jsonschema_rs.ValidationError, tree: Any) -> str:
    kind: Any = error.kind
    value = repr(error.instance)
    if len(value) > _LONGEST:
        value = f"{value[:_LONGEST]}…"
    if kind.name == "additionalProperties":
        return _closed(error, tree)
    wording = _WORDS.get(kind.name)
    return wording(value, kind) if wording else str(error.message)


def _types(value: str, kind: Any) -> str:
    return f"{value} is not of type {', '.join(repr(str(one)) for one in kind.types)}"


def _too_few(value: str, kind: Any) -> str:
    return f"{value} should be non-empty" if kind.limit == 1 else f"{value} is too short"


_WORDS: dict[str, Callable[[str, Any], str]] = {
    "required": lambda _value, kind: f"{kind.property!r} is a required property",
    "format": lambda value, kind: f"{value} is not a {kind.format!r}",
    "pattern": lambda value, kind: f"{value} does not match {kind.pattern!r}",
    "enum": lambda value, kind: f"{value} is not one of {kind.options!r}",
    "type": _types,
    "minProperties": _too_few,
    "minItems": _too_few,
    "uniqueItems": lambda value, _kind: f"{value} has non-unique elements",
    "minLength": lambda value, _kind: f"{value} is too short",
    "maxLength": lambda value, _kind: f"{value} is too long",
}
