"""JSON schemas with microversion spans inside, compiled once for each distinct version."""

from __future__ import annotations

import base64
import bisect
import copy
import functools
import re
import types
import typing
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jsonschema_rs
import msgspec

from kilonova.base.errors import BadRequest
from kilonova.web.call import Query
from kilonova.web.view import View

_FOREVER = 1 << 30
_UUID = re.compile(r"[0-9a-fA-F]{32}")
_LONGEST_REASON = 600
_LONGEST_NUMBER = 40
_FOREVER_LARGE = 10**39


class Misshapen(BadRequest):
    """A body or query string that does not fit its schema."""

    error_code = "request.schema"


class Span(msgspec.Struct, frozen=True):
    """A piece of a schema that exists from ``first`` to ``last`` (minor versions, inclusive)."""

    first: int
    last: int
    value: Any


class Pick(msgspec.Struct, frozen=True):
    """Several forms of one piece; the first whose span holds the version is taken."""

    spans: tuple[Span, ...]


def since(first: int, value: Any) -> Span:
    """``value`` from minor version ``first`` on."""
    return Span(first, _FOREVER, value)


def until(last: int, value: Any) -> Span:
    """``value`` up to and including minor version ``last``."""
    return Span(0, last, value)


def between(first: int, last: int, value: Any) -> Span:
    """``value`` from ``first`` to ``last``, both included."""
    return Span(first, last, value)


def pick(*spans: Span) -> Pick:
    """One key with a form for each span."""
    return Pick(spans)


class _Absent:
    pass


_ABSENT = _Absent()


def _resolve(tree: Any, version: int) -> Any:  # noqa: PLR0911
    if isinstance(tree, Span):
        inside = tree.first <= version <= tree.last
        return _resolve(tree.value, version) if inside else _ABSENT
    if isinstance(tree, Pick):
        for span in tree.spans:
            if span.first <= version <= span.last:
                return _resolve(span.value, version)
        return _ABSENT
    if isinstance(tree, Schema):
        return _resolve(tree.tree, version)
    if isinstance(tree, View):
        return _resolve(tree.schema_at(version), version)
    if isinstance(tree, Mapping):
        pairs = ((key, _resolve(value, version)) for key, value in tree.items())
        return {key: value for key, value in pairs if value is not _ABSENT}
    if isinstance(tree, (list, tuple)):
        items = (_resolve(value, version) for value in tree)
        return [value for value in items if value is not _ABSENT]
    return tree


def _edges(tree: Any) -> Iterator[int]:
    if isinstance(tree, Span):
        yield tree.first
        yield tree.last + 1
        yield from _edges(tree.value)
    elif isinstance(tree, Pick):
        for span in tree.spans:
            yield from _edges(span)
    elif isinstance(tree, Schema):
        yield from _edges(tree.tree)
    elif isinstance(tree, View):
        for field in tree.fields:
            yield field.since
            yield _FOREVER if field.until is None else field.until + 1
            yield from _edges(field.schema)
    elif isinstance(tree, Mapping):
        for value in tree.values():
            yield from _edges(value)
    elif isinstance(tree, (list, tuple)):
        for value in tree:
            yield from _edges(value)


def _is_uuid(text: str) -> bool:
    plain = text.strip("{}").replace("urn:", "").replace("uuid:", "").replace("-", "")
    if not _UUID.fullmatch(plain):
        return False
    try:
        uuid.UUID(plain)
    except ValueError:
        return False
    return True


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode(text.encode("ascii"), validate=False)
    except ValueError:
        return False
    return True


FORMATS: dict[str, Callable[[str], bool]] = {"uuid": _is_uuid, "base64": _is_base64}


def _bounded(tree: Any, formats: dict[str, Callable[[str], bool]]) -> Any:
    """The schema with a format wherever a number may be a string: its bounds hold for both."""
    if isinstance(tree, list):
        return [_bounded(value, formats) for value in tree]
    if not isinstance(tree, dict):
        return tree
    found = {key: _bounded(value, formats) for key, value in tree.items()}
    types = tree.get("type")
    if isinstance(types, list) and {"integer", "string"} <= set(types) and "format" not in tree:
        low, high = tree.get("minimum", -_FOREVER_LARGE), tree.get("maximum", _FOREVER_LARGE)
        name = found["format"] = f"number from {low} to {high}"
        formats[name] = functools.partial(_is_between, low, high)
    return found


def _is_between(low: int, high: int, text: str) -> bool:
    try:
        return low <= int(text[:_LONGEST_NUMBER]) <= high
    except ValueError:
        # The pattern says whether that is allowed.
        return True


def _cut(text: str) -> str:
    half = _LONGEST_REASON // 2
    return text if len(text) <= _LONGEST_REASON else f"{text[:half]} … {text[-half:]}"


def _as_is(error: jsonschema_rs.ValidationError) -> str:
    return str(error.message)


_WORDS: dict[str, Callable[[jsonschema_rs.ValidationError], str]] = {
    "MaxLength": lambda error: f"{error.instance!r} is too long",
    "MinLength": lambda error: f"{error.instance!r} is too short",
    "MaxItems": lambda error: f"{error.instance!r} is too long",
    "MinItems": lambda error: f"{error.instance!r} is too short",
}
"""Where the validator's own words are others than those of Python's jsonschema."""


class Compiled:
    """A schema at one version, ready to check."""

    __slots__ = ("_validator", "tree")

    def __init__(self, tree: Any, formats: Mapping[str, Callable[[str], bool]]) -> None:
        self.tree = tree
        bounds: dict[str, Callable[[str], bool]] = {}
        self._validator = jsonschema_rs.Draft202012Validator(
            _bounded(tree, bounds),
            formats={**FORMATS, **formats, **bounds},
            validate_formats=True,
            pattern_options=jsonschema_rs.FancyRegexOptions(backtrack_limit=100_000),
        )

    def is_valid(self, instance: Any) -> bool:
        """Whether ``instance`` fits."""
        return bool(self._validator.is_valid(instance))

    def check(self, instance: Any, what: str = "body") -> None:
        """Raise BadRequest naming path and reason unless ``instance`` fits."""
        if self._validator.is_valid(instance):
            return
        raise Misshapen(self.reason(instance, what))

    def failures(self, instance: Any) -> Iterator[jsonschema_rs.ValidationError]:
        """Everything that does not fit, for services with their own words for it."""
        return iter(self._validator.iter_errors(instance))

    def reason(self, instance: Any, what: str = "body") -> str:
        """The first failure in words that Nova's clients know: where, and what is wrong."""
        for error in self._validator.iter_errors(instance):
            said = _cut(_WORDS.get(type(error.kind).__name__, _as_is)(error))
            if not error.instance_path:
                return f"Invalid input for {what}: {said}"
            path = error.instance_path
            # An index by itself tells nothing.
            where = path[-1] if isinstance(path[-1], str) else ".".join(map(str, path))
            value = _cut(str(error.instance))
            return f"Invalid input for field/attribute {where}. Value: {value}. {said}"
        return f"Invalid input for {what}."


class Schema:
    """A JSON Schema (draft 2020-12) whose parts may carry version spans.

    Other schemas and views may stand inside; a view stands for the schema of what it renders.
    """

    def __init__(
        self, tree: Any, *, formats: Mapping[str, Callable[[str], bool]] | None = None
    ) -> None:
        self.tree = tree
        self._formats = dict(formats or {})
        self._starts = sorted({0, *_edges(tree)})
        self._compiled: dict[tuple[int, str], Compiled | None] = {}

    def tree_at(self, version: int) -> Any:
        """The plain JSON Schema at ``version``; None where the whole schema has no form."""
        tree = _resolve(self.tree, version)
        return None if tree is _ABSENT else tree

    def at(self, version: int) -> Compiled | None:
        """The compiled schema at ``version``; None where there is none."""
        return self._get(version, "body", lambda tree: tree)

    def relaxed_at(self, version: int) -> Compiled | None:
        """The same with every ``additionalProperties: false`` lifted (the legacy v2 API)."""
        return self._get(version, "relaxed", relax)

    def query_at(self, version: int, *, relaxed: bool = False) -> Compiled | None:
        """The schema over name → list of values that checks a query string."""
        if relaxed:
            return self._get(version, "query-relaxed", lambda tree: relax(_listed(tree)))
        return self._get(version, "query", _listed)

    def check(self, instance: Any, version: int, *, relaxed: bool = False) -> Any:
        """Check a body; the body (relaxed: without unknown keys). Raises BadRequest."""
        compiled = self.relaxed_at(version) if relaxed else self.at(version)
        if compiled is None:
            return instance
        compiled.check(instance)
        if relaxed:
            return strip(instance, self.tree_at(version))
        return instance

    def check_query(self, query: Query, version: int, *, relaxed: bool = False) -> None:
        """Check a query string; values are read as the number or boolean the schema wants."""
        compiled = self.query_at(version, relaxed=relaxed)
        if compiled is None:
            return
        properties = compiled.tree.get("properties", {})
        given: dict[str, list[Any]] = query.lists()
        for name, values in given.items():
            items = properties.get(name, {}).get("items", {})
            kind = items.get("type") if isinstance(items, Mapping) else None
            if kind in ("integer", "number", "boolean"):
                given[name] = [_coerced(value, kind) for value in values]
        compiled.check(given, "query")

    def _get(self, version: int, form: str, change: Callable[[Any], Any]) -> Compiled | None:
        start = self._starts[bisect.bisect_right(self._starts, version) - 1]
        key = (start, form)
        if key not in self._compiled:
            tree = self.tree_at(version)
            self._compiled[key] = None if tree is None else Compiled(change(tree), self._formats)
        return self._compiled[key]


def _coerced(value: str, kind: str) -> Any:
    if kind == "boolean":
        return {"true": True, "1": True, "false": False, "0": False}.get(value.lower(), value)
    if re.fullmatch(r"-?[0-9]{1,18}", value):
        return int(value)
    if kind == "number" and re.fullmatch(r"-?[0-9]{1,15}\.[0-9]{1,15}", value):
        return float(value)
    return value


def single(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A query parameter that may stand only once."""
    return {"type": "array", "items": dict(schema), "maxItems": 1}


def answers(**parts: Any) -> Schema:
    """The form of an answer for OpenAPI: key → `shape`; more keys may stand beside them."""
    trees = {name: shape(part) for name, part in parts.items()}
    return Schema({"type": "object", "properties": trees, "required": list(parts)})


NO_BODY = Schema(until(-1, {}))
"""An answer without a body, of a handler that sets its status or headers."""

_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}


def shape(form: Any) -> Any:
    """The JSON Schema of a form: of ``{"name": str, "size": int | None, "tags": [str]}``, say.

    Views, schemas and spans may stand anywhere. Objects have these keys and no others; a key that
    ends with ``?`` may be missing, ``{str: form}`` has any keys, and ``object`` is anything.
    """
    if isinstance(form, Span):
        return Span(form.first, form.last, shape(form.value))
    if isinstance(form, types.UnionType):
        return {"type": [_TYPES[kind] for kind in typing.get_args(form)]}
    if isinstance(form, list):
        return {"type": "array", "items": shape(form[0])}
    if isinstance(form, Mapping) and not _is_tree(form):
        return _object(form)
    if form is object:
        return {}
    return {"type": _TYPES[form]} if isinstance(form, type) else form


def _is_tree(form: Mapping[Any, Any]) -> bool:
    said = form.get("type")
    named = isinstance(said, (str, list)) and said != [] and not isinstance(said[0], type)
    return not form or named or any(word in form for word in ("anyOf", "oneOf", "enum"))


def _object(form: Mapping[Any, Any]) -> dict[str, Any]:
    if str in form:
        return {"type": "object", "additionalProperties": shape(form[str])}
    required: list[Any] = []
    for name, part in form.items():
        if not name.endswith("?"):
            span = isinstance(part, Span)
            required.append(Span(part.first, part.last, name) if span else name)
    return {
        "type": "object",
        "properties": {name.removesuffix("?"): shape(part) for name, part in form.items()},
        "required": required,
        "additionalProperties": False,
    }


TEXTS: dict[str, Any] = {"type": "object", "additionalProperties": {"type": "string"}}
"""Names → texts: metadata, extra specs."""


def _listed(tree: Any) -> Any:
    result = copy.deepcopy(tree)
    for group in ("properties", "patternProperties"):
        for name, schema in result.get(group, {}).items():
            if not (isinstance(schema, Mapping) and schema.get("type") == "array"):
                result[group][name] = {"type": "array", "items": schema}
    return result


def relax(tree: Any) -> Any:
    """``tree`` with no ``additionalProperties: false`` left."""
    if isinstance(tree, Mapping):
        return {
            key: relax(value)
            for key, value in tree.items()
            if not (key == "additionalProperties" and value is False)
        }
    if isinstance(tree, list):
        return [relax(item) for item in tree]
    return tree


def strip(instance: Any, tree: Any) -> Any:
    """``instance`` without the keys that ``additionalProperties: false`` would refuse."""
    if not isinstance(tree, Mapping):
        return instance
    if isinstance(instance, dict):
        properties = tree.get("properties", {})
        patterns: Iterable[str] = tree.get("patternProperties", {})
        closed = tree.get("additionalProperties") is False
        return {
            key: strip(value, properties.get(key))
            for key, value in instance.items()
            if not closed or key in properties or any(re.search(p, key) for p in patterns)
        }
    if isinstance(instance, list):
        return [strip(item, tree.get("items")) for item in instance]
    return instance
