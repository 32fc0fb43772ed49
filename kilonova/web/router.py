"""The compiled router: path segments walk a trie, then method, action and version choose."""

from __future__ import annotations

from typing import Any

import msgspec

from kilonova.web.routes import PARAMETER, Api, Root, Route


class Target(msgspec.Struct, frozen=True):
    """A route at one place: names of its path values, and which of them the handler takes."""

    route: Route
    names: tuple[str, ...]
    arguments: tuple[int, ...]


class Slot:
    """What one method may mean on one path: versions of one handler, or actions by body key."""

    __slots__ = (
        "actions",
        "consumes",
        "first",
        "limit",
        "plain",
        "reads",
        "root",
        "root_names",
        "stray",
    )

    def __init__(self, root: Root, root_names: tuple[str, ...], first: Route, limit: int) -> None:
        self.root = root
        self.root_names = root_names
        self.plain: list[Target] = []
        self.actions: dict[str, list[Target]] = {}
        self.first = first
        self.limit = limit
        self.consumes = first.consumes
        self.reads = False
        # A catch-all outside the roots: not for paths below a root.
        self.stray = not first.rooted and ":path}" in first.path

    def add(self, target: Target, template: str, limit: int) -> None:
        """One more row; ValueError if it contradicts the others."""
        route, first = target.route, self.first
        rows = self.actions.setdefault(route.action, []) if route.action else self.plain
        if any(other.route.overlaps(route) for other in rows):
            raise ValueError(f"{route.method} {template} is declared twice for one version")
        for what in ("public", "stream", "versioned"):
            if getattr(route, what) != getattr(first, what):
                raise ValueError(f"the rows of {route.method} {template} differ in {what!r}")
        rows.append(target)
        self.limit = max(self.limit, limit)
        self.consumes = tuple(dict.fromkeys((*self.consumes, *route.consumes)))
        wants = route.method in ("POST", "PUT", "PATCH") or route.body is not None
        self.reads = self.reads or (wants and not route.stream)


class _Node:
    __slots__ = ("methods", "param", "rest", "static")

    def __init__(self) -> None:
        self.static: dict[str, _Node] = {}
        self.param: _Node | None = None
        self.rest: _Node | None = None
        self.methods: dict[str, Slot] | None = None


class Found(msgspec.Struct):
    """A path that exists: its methods, and the values of its parameters in order."""

    methods: dict[str, Slot]
    values: list[str]


class Router:
    """All routes of an `Api`, compiled once."""

    def __init__(self, api: Api[Any]) -> None:
        """ValueError if two rows mean the same method, path, action and version."""
        self._top = _Node()
        self._limit = api.max_body
        self._closing_slash = api.closing_slash
        self._prefixes = tuple(
            prefix for root in api.roots if (prefix := root.prefix.partition("{")[0].rstrip("/"))
        )
        for route in api.routes:
            for root in api.roots if route.rooted else (Root(""),):
                self._add(root, route)
        self._add_heads(self._top, api)

    def find(self, path: str) -> Found | None:
        """The methods of ``path`` (decoded), or None."""
        parts = path.split("/")
        if len(parts) > 2 and not parts[-1]:
            parts.pop()
            if len(parts) > 2 and not self._closing_slash:
                return None
        values: list[str] = []
        methods = _walk(self._top, parts, 1, values)
        if methods is None:
            return None
        if any(slot.stray for slot in methods.values()) and self.inside(path):
            return None
        return Found(methods, values)

    def inside(self, path: str) -> bool:
        """Whether ``path`` is at or below a root that has a prefix."""
        return any(path == root or path.startswith(root + "/") for root in self._prefixes)

    def _add(self, root: Root, route: Route) -> None:
        template = root.prefix + route.path
        parts = template.strip("/").split("/") if template.strip("/") else [""]
        node = self._top
        names: list[str] = []
        for index, part in enumerate(parts):
            found = PARAMETER.fullmatch(part)
            if found is None:
                if "{" in part:
                    raise ValueError(f"{template}: a parameter is a whole path segment")
                node = node.static.setdefault(part, _Node())
                continue
            names.append(found[1])
            if found[2]:
                if index != len(parts) - 1:
                    raise ValueError(f"{template}: a :path parameter stands last")
                node.rest = node = node.rest or _Node()
            else:
                node.param = node = node.param or _Node()
        root_names = tuple(name for name, _ in PARAMETER.findall(root.prefix))
        # Counted from the right: the route's own parameter wins over one of the root.
        last = {name: index for index, name in enumerate(names)}
        target = Target(route, tuple(names), tuple(last[n] for n in route.arguments))
        if node.methods is None:
            node.methods = {}
        limit = route.max_body or self._limit
        slot = node.methods.get(route.method)
        if slot is None:
            slot = node.methods[route.method] = Slot(root, root_names, route, limit)
        slot.add(target, template, limit)

    def _add_heads(self, node: _Node, api: Api[Any]) -> None:
        if node.methods is not None and "GET" in node.methods and "HEAD" not in node.methods:
            get = node.methods["GET"]
            wanted = [row.route.head for row in get.plain]
            if any(word or (word is None and api.head) for word in wanted):
                node.methods["HEAD"] = get
        for child in (*node.static.values(), node.param, node.rest):
            if child is not None:
                self._add_heads(child, api)


def _walk(node: _Node, parts: list[str], index: int, values: list[str]) -> dict[str, Slot] | None:
    """Follow static segments first and parameters second, going back where a way ends."""
    if index == len(parts):
        return node.methods
    part = parts[index]
    child = node.static.get(part)
    if child is not None:
        methods = _walk(child, parts, index + 1, values)
        if methods is not None:
            return methods
    if node.param is not None and part:
        values.append(part)
        methods = _walk(node.param, parts, index + 1, values)
        if methods is not None:
            return methods
        values.pop()
    if node.rest is not None:
        rest = "/".join(parts[index:])
        if rest and node.rest.methods is not None:
            values.append(rest)
            return node.rest.methods
    return None
