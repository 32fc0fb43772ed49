"""Views: field tables compiled into one render function per version and granted policies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any

import msgspec

Getter = Callable[[Any], Any]


class _Omit(msgspec.Struct, frozen=True):
    pass


OMIT: Any = _Omit()
"""What a getter returns when its field is to be left out of this object."""


class Field:
    """One key of an answer: its name, where its value comes from, and when it is shown."""

    __slots__ = ("get", "name", "policy", "schema", "since", "until")

    def __init__(
        self,
        name: str,
        get: Getter | str | None = None,
        *,
        since: int = 0,
        until: int | None = None,
        policy: str | None = None,
        schema: Any = None,
    ) -> None:
        """``get`` is a function of the object or an attribute name (``name`` itself by default).

        Shown from minor version ``since`` to ``until`` (inclusive), and, with ``policy``, only if
        that rule was granted. ``schema`` describes the value for OpenAPI.
        """
        self.name = name
        if get is None or isinstance(get, str):
            self.get: Getter = attrgetter(get or name)
        else:
            self.get = get
        self.since = since
        self.until = until
        self.policy = policy
        self.schema = schema

    def shown(self, version: int, granted: frozenset[str]) -> bool:
        """Whether the field exists at ``version`` for someone with ``granted`` rules."""
        if version < self.since or (self.until is not None and version > self.until):
            return False
        return self.policy is None or self.policy in granted


class View:
    """The table of fields of one kind of object."""

    def __init__(self, name: str, fields: Sequence[Field]) -> None:
        self.name = name
        self.fields = tuple(fields)
        self.policies = frozenset(field.policy for field in fields if field.policy)
        self._compiled: dict[tuple[int, frozenset[str]], tuple[tuple[str, Getter], ...]] = {}

    def at(self, version: int, granted: frozenset[str] = frozenset()) -> Callable[[Any], Any]:
        """The render function at ``version``; use it for many objects of one answer."""
        rows = self._rows(version, granted)

        def render(obj: Any) -> dict[str, Any]:
            return {name: value for name, get in rows if (value := get(obj)) is not OMIT}

        return render

    def render(
        self, obj: Any, version: int = 0, granted: frozenset[str] = frozenset()
    ) -> dict[str, Any]:
        """``obj`` as a dict, keys in the order of the table."""
        rows = self._rows(version, granted)
        return {name: value for name, get in rows if (value := get(obj)) is not OMIT}

    def render_all(
        self, objs: Iterable[Any], version: int = 0, granted: frozenset[str] = frozenset()
    ) -> list[dict[str, Any]]:
        """Every object as a dict."""
        return [self.render(obj, version, granted) for obj in objs]

    def granted(self, allows: Callable[[str], bool]) -> frozenset[str]:
        """Those of the view's policies that ``allows`` (``call.allows``) says yes to."""
        return frozenset(rule for rule in self.policies if allows(rule))

    def schema_at(self, version: int) -> dict[str, Any]:
        """A JSON Schema of what ``render`` makes at ``version``."""
        every = self.policies
        fields = [field for field in self.fields if field.shown(version, every)]
        return {
            "type": "object",
            "title": self.name,
            "properties": {field.name: field.schema or {} for field in fields},
            "additionalProperties": False,
        }

    def _rows(self, version: int, granted: frozenset[str]) -> tuple[tuple[str, Getter], ...]:
        key = (version, granted & self.policies if granted else granted)
        rows = self._compiled.get(key)
        if rows is None:
            shown: dict[str, Getter] = {}
            for field in self.fields:
                if field.shown(version, key[1]):
                    if field.name in shown:
                        raise ValueError(
                            f"view {self.name}: two fields {field.name!r} at {version}"
                        )
                    shown[field.name] = field.get
            rows = self._compiled[key] = tuple(shown.items())
        return rows
